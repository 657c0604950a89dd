package vrrp

import (
	"fmt"
	"slices"
	"time"
)

// watch looks at a world after each event for what may never be:
//
//   - two masters that hear each other for longer than 2A;
//   - nodes that hear each other and have no master for longer than 3A+Skew after
//     the last trouble;
//   - some time after it anything but one master, the fittest where they preempt;
//   - a node that becomes master more than twice, or at all after that time, or
//     beside one that is not lesser and that it hears.
//
// Trouble is each line of the script, and each advert that one of them had lost,
// delayed or copied.
type watch struct {
	w       *world
	longest time.Duration // A of any speaker
	trouble time.Duration // the last
	both    [][]time.Duration
	none    []time.Duration // since when the part of each has no master, -1
	handed  time.Duration   // until then two masters may be the two of a hand-over
	listens time.Duration   // one that slept listens for longer than 3A, by so much
	dirty   bool
	times   []int // that a speaker became master since the trouble
	wrong   []string
}

func newWatch(w *world) watch {
	wa := watch{w: w, longest: w.script.interval, times: make([]int, len(w.speakers)), dirty: true}
	for _, s := range w.speakers {
		wa.longest = max(wa.longest, s.interval)
		wa.none = append(wa.none, -1)
		row := make([]time.Duration, len(w.speakers))
		for i := range row {
			row[i] = -1
		}
		wa.both = append(wa.both, row)
	}
	for _, h := range w.script.happenings {
		if h.what == "interval" {
			wa.longest = max(wa.longest, h.d)
		}
	}
	return wa
}

func (wa *watch) fail(format string, a ...any) {
	wa.wrong = append(wa.wrong, fmt.Sprintf("%v ", wa.w.now)+fmt.Sprintf(format, a...))
}

func (wa *watch) disturb() {
	wa.trouble, wa.dirty = wa.w.now, true
	clear(wa.times)
	for _, row := range wa.both {
		for i := range row {
			row[i] = -1
		}
	}
	for i := range wa.none {
		wa.none[i] = -1
	}
}

func (wa *watch) became(s *speaker, to State) {
	wa.dirty = true
	if to != Master {
		return
	}
	if wa.times[s.index]++; wa.times[s.index] > 2 {
		wa.fail("%s flaps", s.name)
	}
	s.rules = wa.w.now
	if wa.w.now-wa.trouble > wa.waits() {
		for _, o := range wa.part(s) {
			if o != s && o.master() && o.priority >= s.priority && wa.w.now-o.rules > slow(0) {
				wa.fail("%s becomes master although it hears %s", s.name, o.name)
			}
		}
	}
	if settled := wa.trouble + wa.settles(); wa.w.now > settled && wa.part(s) != nil {
		wa.fail("%s becomes master %v after all was well", s.name, wa.w.now-settled)
	}
}

// slow is d on the slowest clock, with the way over the wire and work.
func slow(d time.Duration) time.Duration { return d + d/90 + 2*workTakes }

// waits is how long the least of all needs to hear a master, or to be one.
func (wa *watch) waits() time.Duration {
	return slow(4*wa.longest + Skew(wa.w.script.version, 0, wa.longest))
}

// settles is after how long without trouble everything has its place: a master
// is there, and each fitter one has waited its delay and asked.
func (wa *watch) settles() time.Duration {
	return wa.waits() + time.Duration(len(wa.w.speakers))*slow(wa.w.script.delay+asLong+wa.waits())
}

func (s *speaker) master() bool {
	if !s.up || s.elect.State() != Master {
		return false
	}
	m, ours := s.elect.(*Machine)
	return !ours || !m.Suspect()
}

// part are the speakers that s hears and that hear it; nil if they do not all
// hear each other, or one sleeps.
func (wa *watch) part(s *speaker) []*speaker {
	w := wa.w
	out := []*speaker{s}
	for _, o := range w.speakers {
		if o != s && o.up && (!w.wires[s.index][o.index].cut || !w.wires[o.index][s.index].cut) {
			out = append(out, o)
		}
	}
	for _, a := range out {
		if a.asleep {
			return nil
		}
		for _, b := range w.speakers {
			if a == b || !b.up {
				continue
			}
			inside := false
			for _, o := range out {
				inside = inside || o == b
			}
			if cut := w.wires[a.index][b.index].cut; cut == inside {
				return nil
			}
			if cut := w.wires[b.index][a.index].cut; cut == inside {
				return nil
			}
		}
	}
	return out
}

// look takes the state after an event.
func (wa *watch) look() {
	if !wa.dirty {
		return
	}
	wa.dirty = false
	w := wa.w
	for i, s := range w.speakers {
		if !s.up {
			wa.none[i] = -1
			continue
		}
		for j := range i {
			o := w.speakers[j]
			if s.master() && o.master() && !s.asleep && !o.asleep && !w.wires[i][j].cut && !w.wires[j][i].cut {
				if wa.both[i][j] < 0 {
					wa.both[i][j] = w.now
				}
			} else {
				wa.both[i][j] = -1
			}
		}
		masters := 0
		part := wa.part(s)
		for _, o := range part {
			if o.master() {
				masters++
			}
		}
		switch {
		case part == nil || masters > 0:
			wa.none[i] = -1
		case wa.none[i] < 0:
			wa.none[i] = w.now
		}
	}
}

// until tells what has lasted too long when the time is at.
func (wa *watch) until(at time.Duration) {
	for i, row := range wa.both {
		for j, since := range row {
			if since >= 0 && at-max(since, wa.handed) > slow(2*wa.longest) {
				wa.fail("%s and %s are both master since %v and hear each other", wa.w.speakers[i].name, wa.w.speakers[j].name, since)
				return
			}
		}
	}
	for i, since := range wa.none {
		if since >= 0 && at-since > slow(3*wa.longest) { // at the earliest, of priority 255
			wa.silent(at, i)
		}
	}
	if at-wa.trouble > wa.settles() && wa.w.now-wa.trouble <= wa.settles() {
		wa.place()
	}
}

// silent tells of a part that has had no master for longer than its fittest
// speaker waits.
func (wa *watch) silent(at time.Duration, of int) {
	part := wa.part(wa.w.speakers[of])
	best := uint8(0)
	for _, o := range part {
		best = max(best, o.priority)
	}
	limit := slow(3*wa.longest + Skew(wa.w.script.version, best, wa.longest))
	if part != nil && at-max(wa.none[of], wa.listens) > limit {
		wa.fail("%s has no master since %v, 3A+Skew is %v", names(part), wa.none[of], limit)
	}
}

// place tells which speakers are not what they should be by now.
func (wa *watch) place() {
	for i, s := range wa.w.speakers {
		if !s.up {
			continue
		}
		part := wa.part(s)
		if part == nil || slices.ContainsFunc(part, func(o *speaker) bool { return o.index < i }) {
			continue // looked at before
		}
		var masters []*speaker
		best, preempt := uint8(0), wa.w.script.preempt
		for _, o := range part {
			best = max(best, o.priority)
			preempt = preempt && (!o.foreign || o.preempt)
			if o.master() {
				masters = append(masters, o)
			}
		}
		switch {
		case len(masters) != 1:
			wa.fail("%v after the last trouble %s has %d masters (%s)", wa.w.now-wa.trouble, names(part), len(masters), names(masters))
		case preempt && masters[0].priority < best:
			wa.fail("%v after the last trouble %s is master, and another has priority %d", wa.w.now-wa.trouble, masters[0].name, best)
		}
	}
}

func names(of []*speaker) string {
	out := ""
	for _, s := range of {
		out += s.name + " "
	}
	return out
}
