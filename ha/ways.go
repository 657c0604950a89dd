package ha

import "time"

// ways are the paths on which a node is heard.
type ways struct {
	signs   map[string]time.Time // last sign of life on each lan, "" on any other path
	hellos  map[string]*hush     // by lan, of greetings
	adverts map[string]*hush     // by lan, of adverts
}

// hush is since when something is not heard on a lan.
type hush struct {
	last time.Time // it was heard, or there was no reason to hear it
	// first is the first sign of the node on another path after more than
	// HelloEvery. A node that stood still is heard again everywhere at once; only
	// one that goes on being heard elsewhere is not heard here.
	first time.Time
}

// sign takes note of a sign of life on a lan, "" on any other path.
func (w *ways) sign(lan string, now time.Time) {
	if w.signs == nil {
		w.signs = map[string]time.Time{}
	}
	w.signs[lan] = now
	for _, all := range []map[string]*hush{w.hellos, w.adverts} {
		for on, h := range all {
			if on != lan && h.first.IsZero() && now.Sub(h.last) > HelloEvery {
				h.first = now
			}
		}
	}
}

func (w *ways) hello(lan string, now time.Time) { heard(&w.hellos, lan, now) }

func (w *ways) advert(lan string, now time.Time) {
	heard(&w.adverts, lan, now)
	w.sign(lan, now)
}

// quiet says that no advert need have been heard on a lan until now.
func (w *ways) quiet(lan string, now time.Time) { heard(&w.adverts, lan, now) }

func heard(m *map[string]*hush, lan string, now time.Time) {
	if *m == nil {
		*m = map[string]*hush{}
	}
	(*m)[lan] = &hush{last: now}
}

// missed tells whether what should be heard on a lan is not, while the node is
// heard elsewhere.
func (w *ways) missed(all map[string]*hush, lan string, limit time.Duration, now time.Time) bool {
	h := all[lan]
	return h != nil && now.Sub(h.last) >= limit && !h.first.IsZero() && w.elsewhere(lan).Sub(h.first) >= deafProof
}

// elsewhere is the last sign of life that did not come on a lan.
func (w *ways) elsewhere(lan string) time.Time {
	var last time.Time
	for way, at := range w.signs {
		if way != lan && at.After(last) {
			last = at
		}
	}
	return last
}
