package dataplane

import (
	"slices"
	"time"
)

const (
	fewRepairs  = 5                // a minute; one more is a fight
	firstWait   = time.Second      // between repairs while a fight lasts, then twice as long each
	longestWait = time.Minute      //
	peace       = 8 * time.Second  // without damage after the last repair: the fight is over
	fightWindow = 60 * time.Second // in which repairs count together
)

// fight is what is remembered of one kind's repairs, to keep out of a contest
// with a program that wants it otherwise. A repair is one look in which
// something of the kind was found damaged, however much. It has no clock.
type fight struct {
	past []time.Time   // repairs within the window
	last time.Time     // the last one
	wait time.Duration // between repairs; 0: there is no fight
}

// damaged tells when what was found damaged now may be put back, and whether
// that begins a fight.
func (f *fight) damaged(now time.Time) (due time.Time, began bool) {
	f.past = slices.DeleteFunc(f.past, func(t time.Time) bool { return now.Sub(t) >= fightWindow })
	if f.wait == 0 && len(f.past) >= fewRepairs {
		f.wait, began = firstWait, true
	}
	return f.last.Add(f.wait), began
}

// repaired notes that it was put back.
func (f *fight) repaired(now time.Time) {
	f.past, f.last = append(f.past, now), now
	f.wait = min(2*f.wait, longestWait)
}

// on tells whether a fight lasts.
func (f *fight) on() bool { return f.wait > 0 }

// overAt is when the fight is over if nothing is found damaged before.
func (f *fight) overAt() time.Time { return f.last.Add(peace) }

// end forgets the back-off, not the repairs: if it goes on within a minute, the
// next repair is one of a fight again.
func (f *fight) end() { f.wait = 0 }
