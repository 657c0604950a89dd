package guard

import (
	"fmt"
	"time"
)

// event is what the machine is told; a closed set.
type event interface{ String() string }

type (
	gotState struct{ State State }      // the daemon sent it
	beat     struct{ At time.Duration } // the daemon's newest beat, read from the page
	dying    struct{}                   // the daemon has been killed, not all of its threads are gone yet
	gone     struct{}                   // the daemon's end of the socket is closed: all are
	retire   struct{}                   // the daemon ends in order and cleans up itself
	release  struct{}                   // the daemon leaves, no peer lives
	heard    struct{ Heard Heard }      // an advert
	takeOver struct{}                   // the next daemon asks
	told     struct{}                   // SIGTERM to the guard
	removed  struct{ Err error }        // result of a remove action
	sent     struct{ Err error }        // result of a send action
	tick     struct{}                   // the deadline that was asked for has come
)

func (gotState) String() string  { return "state" }
func (beat) String() string      { return "beat" }
func (dying) String() string     { return "daemon killed" }
func (gone) String() string      { return "daemon died" }
func (retire) String() string    { return "retired" }
func (release) String() string   { return "released" }
func (e heard) String() string   { return fmt.Sprintf("advert of %s", e.Heard.Src) }
func (takeOver) String() string  { return "takeover" }
func (told) String() string      { return "SIGTERM" }
func (e removed) String() string { return result("removed", e.Err) }
func (e sent) String() string    { return result("sent", e.Err) }
func (tick) String() string      { return "time" }
func result(what string, err error) string {
	if err != nil {
		return what + ": " + err.Error()
	}
	return what
}

// farewell is what the other nodes are told of a fence.
type farewell struct {
	Words  []Word
	Frames []Frame
}

// action is what the machine wants done, in the order given; a closed set.
type action interface{ isAction() }

type (
	remove    struct{ Addresses []Address } // answered by removed
	send      struct{ farewell }            // answered by sent; never waits for remove
	listen    struct{ State State }         // hear adverts until unlisten
	unlisten  struct{}
	tellFence struct{}                // the hanging daemon has been fenced
	tellLeft  struct{}                // answer to release
	answer    struct{ State State }   // the takeover may go on
	refuse    struct{}                // the takeover may not: the daemon is alive
	exit      struct{ Problem error } // nothing follows
)

func (remove) isAction()    {}
func (send) isAction()      {}
func (listen) isAction()    {}
func (unlisten) isAction()  {}
func (tellFence) isAction() {}
func (tellLeft) isAction()  {}
func (answer) isAction()    {}
func (refuse) isAction()    {}
func (exit) isAction()      {}
