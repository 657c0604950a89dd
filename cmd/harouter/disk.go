package main

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"harouter/ha"
)

// disk knows why nothing can be kept in the state directory: the alarm stands
// as long as anybody has a reason.
type disk struct {
	dir  string
	post func(ha.Event)

	mu      sync.Mutex
	reasons map[string]string // by who has it
}

// tell notes a reason, or with nil that there is none any more.
func (d *disk) tell(who string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(d.reasons)
	switch {
	case err == nil && d.reasons[who] == "":
		return
	case err == nil:
		delete(d.reasons, who)
	default:
		if d.reasons == nil {
			d.reasons = map[string]string{}
		}
		if d.reasons[who] == err.Error() && before > 0 {
			return
		}
		d.reasons[who] = err.Error()
	}
	var all []string
	for _, r := range d.reasons {
		all = append(all, r)
	}
	c := ha.Condition{Code: ha.AlarmDiskFull, Subject: d.dir, On: len(all) > 0}
	if c.On {
		c.Text = "nothing can be kept there over a restart: " + slices.Min(all)
	}
	d.post(c)
}

// leastRoom is what a state directory needs to go on for a while, bytes: a
// configuration, and some events.
const leastRoom = 64 << 10

// look tells whether there is room.
func (d *disk) look() { d.tell("room", room(d.dir)) }

func room(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	switch free := s.Bavail * uint64(s.Bsize); {
	case s.Flags&unix.ST_RDONLY != 0:
		return errors.New("the file system can only be read")
	case s.Blocks > 0 && free < leastRoom: // some kinds do not count
		return fmt.Errorf("%d kB are free", free>>10)
	case s.Files > 0 && s.Ffree == 0:
		return errors.New("the file system can hold no more files")
	}
	return nil
}
