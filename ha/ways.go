package ha

import "time"

// ways are the paths on which a node is heard.
type ways struct {
	signs   map[string]time.Time // last sign of life on each lan, "" on any other path
	hellos  map[string]time.Time // last greeting on each lan
	adverts map[string]time.Time // last advert on each lan
	since   time.Time            // since when it is heard at all
	master  time.Time            // since when it says that it is master
}

// begin says that nothing was heard of the node before.
func (w *ways) begin(now time.Time) {
	*w = ways{signs: w.signs, hellos: w.hellos, adverts: w.adverts, since: now, master: now}
}

func (w *ways) sign(lan string, now time.Time)  { note(&w.signs, lan, now) }
func (w *ways) hello(lan string, now time.Time) { note(&w.hellos, lan, now) }

func (w *ways) advert(lan string, now time.Time) {
	note(&w.adverts, lan, now)
	w.sign(lan, now)
}

// changed takes note of what a node did not do before.
func (w *ways) changed(was, is PeerState, now time.Time) {
	if is.Role == RoleMaster && was.Role != RoleMaster {
		w.master = now
	}
	for _, lan := range was.Down { // its cable is back: time to be heard there again
		note(&w.hellos, lan, now)
		note(&w.adverts, lan, now)
	}
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

func note(m *map[string]time.Time, lan string, now time.Time) {
	if *m == nil {
		*m = map[string]time.Time{}
	}
	(*m)[lan] = now
}

func latest(all ...time.Time) time.Time {
	var last time.Time
	for _, t := range all {
		if t.After(last) {
			last = t
		}
	}
	return last
}
