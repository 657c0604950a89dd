package dataplane

import (
	"slices"
	"time"
)

// pace is how often something is put back.
type pace struct {
	few     int           // repairs within the window; one more is a fight
	window  time.Duration // in which repairs count together
	first   time.Duration // between repairs when a fight begins, then twice as long each
	longest time.Duration // what is taken away waits no longer, so that the end of a fight shows soon
	peace   time.Duration // without damage after the last repair: the fight is over
}

var usualPace = pace{few: 5, window: time.Minute, first: time.Second, longest: 2 * time.Second, peace: 7 * time.Second}

func newFights(p pace) (out [kinds]fight) {
	for i := range out {
		out[i].pace = p
	}
	return out
}

// fight is what is remembered of one kind's repairs, to keep out of a contest
// with a program that wants it otherwise. A repair is one look in which
// something of the kind was found damaged, however much. It has no clock.
type fight struct {
	pace
	past []time.Time   // repairs within the window
	last time.Time     // the last one
	wait time.Duration // between repairs; 0: there is no fight
}

// damaged tells when what was found damaged now may be put back, and whether
// that begins a fight.
func (f *fight) damaged(now time.Time) (due time.Time, began bool) {
	f.past = slices.DeleteFunc(f.past, func(t time.Time) bool { return now.Sub(t) >= f.window })
	if f.wait == 0 && len(f.past) >= f.few {
		f.wait, began = f.first, true
	}
	return f.last.Add(f.wait), began
}

// repaired notes that it was put back.
func (f *fight) repaired(now time.Time) {
	f.past, f.last = append(f.past, now), now
	f.wait = min(2*f.wait, f.longest)
}

// on tells whether a fight lasts.
func (f *fight) on() bool { return f.wait > 0 }

// overAt is when the fight is over if nothing is found damaged before.
func (f *fight) overAt() time.Time { return f.last.Add(f.peace) }

// end forgets the back-off, not the repairs: if it goes on within a minute, the
// next repair is one of a fight again.
func (f *fight) end() { f.wait = 0 }
