package race

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"harouter/balancer"
)

// room is a queue of the kernel: *queue.
type room interface {
	receive() ([]balancer.Held, error) // waits; after an error there are no more
	decide(p balancer.Held, verdict uint32) error
	close() error
}

// holding is what Run knows of the packets that wait.
type holding struct {
	open    func(num uint16) (room, error)
	rooms   map[uint16]room
	again   time.Time // not before is a room opened that could not be
	failed  error     // why it could not
	waiting balancer.Holds
	packets chan balancer.Held // of all rooms
	broken  chan breach
	readers sync.WaitGroup
	timer   *time.Timer
}

// breach is why nobody reads a room any more.
type breach struct {
	num uint16
	room
	err error
}

// openAgain is how often a queue is asked for that another program has.
const openAgain = 5 * time.Second

func newHolding(open func(num uint16) (room, error)) *holding {
	h := &holding{open: open, rooms: map[uint16]room{}, packets: make(chan balancer.Held), broken: make(chan breach), timer: time.NewTimer(time.Hour)}
	h.timer.Stop()
	return h
}

// follow opens the rooms that policies have packets wait in. None is closed while
// there are such policies: that would drop who waits there.
func (h *holding) follow(ctx context.Context, sets []balancer.RaceSet, now time.Time) error {
	for _, s := range sets {
		if s.Queue == 0 || h.rooms[s.Queue] != nil {
			continue
		}
		if now.Before(h.again) {
			return h.failed
		}
		r, err := h.open(s.Queue)
		if err != nil {
			h.again, h.failed = now.Add(openAgain), fmt.Errorf("first packets do not wait: %w", err)
			return h.failed
		}
		h.rooms[s.Queue] = r
		h.readers.Go(func() { h.read(ctx, s.Queue, r) })
	}
	return nil
}

func (h *holding) read(ctx context.Context, num uint16, r room) {
	for {
		packets, err := r.receive()
		if err != nil {
			select {
			case h.broken <- breach{num, r, err}:
			case <-ctx.Done():
			}
			return
		}
		for _, p := range packets {
			select {
			case h.packets <- p:
			case <-ctx.Done():
				return
			}
		}
	}
}

// decide ends the waiting of packets. Those whose queue is gone are gone with it.
func (h *holding) decide(packets []balancer.Held, verdict uint32) error {
	var errs error
	for _, p := range packets {
		if r := h.rooms[p.Queue]; r != nil {
			errs = errors.Join(errs, r.decide(p, verdict))
		}
	}
	return errs
}

// rewind sets the timer to when somebody has waited long enough.
func (h *holding) rewind() {
	if at, ok := h.waiting.Next(); ok {
		h.timer.Reset(time.Until(at))
	}
}

// over lets go who has waited long enough.
func (h *holding) over(now time.Time) error { return h.decide(h.waiting.Over(now), verdictAccept) }

// end lets all go and closes the rooms.
func (h *holding) end() error {
	err := h.over(time.Now().Add(balancer.HoldFor))
	for num, r := range h.rooms {
		err = errors.Join(err, r.close())
		delete(h.rooms, num)
	}
	return err
}

// lost closes a room that broke; later it is opened anew.
func (h *holding) lost(b breach, now time.Time) error {
	if h.rooms[b.num] != b.room {
		return nil // it was closed
	}
	delete(h.rooms, b.num)
	h.again, h.failed = now.Add(openAgain), b.err
	return errors.Join(b.err, b.close())
}

// arrived decides about a first packet: it goes, or it waits for the race that is
// returned to be run, or for one that runs.
func (r *Racer) arrived(c *course, p balancer.Held, now time.Time) (*balancer.Race, error) {
	one := []balancer.Held{p}
	sets, active := r.races()
	i := slices.IndexFunc(sets, func(s balancer.RaceSet) bool { return s.Queue == p.Queue })
	if !active || i < 0 {
		return nil, c.decide(one, verdictAccept)
	}
	w := balancer.Wanted{Policy: sets[i].Policy, To: p.To}
	winner, race, waits := c.book.Ask(r.ready(sets[i:i+1]), w, now)
	switch {
	case !waits:
		return nil, c.decide(r.marked(one, winner), verdictAccept)
	case !c.waiting.Add(w, p, now): // the first one waits; two would be two entries of one flow
		return race, c.decide(one, verdictDrop)
	}
	c.rewind()
	return race, nil
}

// marked leads packets to the winner of a race, if there is one.
func (r *Racer) marked(packets []balancer.Held, winner string) []balancer.Held {
	r.mu.Lock()
	defer r.mu.Unlock()
	mark := r.marks[winner]
	if mark == 0 {
		return packets
	}
	out := slices.Clone(packets)
	for i := range out {
		out[i].Mark = out[i].Marked(mark, r.mask)
	}
	return out
}
