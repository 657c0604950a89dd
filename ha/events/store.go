package events

import (
	"cmp"
	"maps"
	"slices"
)

// Bounds of what is held. Where there are many nodes, each has less room.
const (
	maxNodes = 256 // whose events are held

	maxEvents, maxEventsOfAll = 2500, 20000           // of one node, and of all
	maxBytes, maxBytesOfAll   = 512 << 10, 4096 << 10 // as size counts
)

// room is how much one node may have.
func (s store) room() (events, bytes int) {
	n := max(len(s), 1)
	return min(maxEvents, maxEventsOfAll/n), min(maxBytes, maxBytesOfAll/n)
}

// store holds the newest events of each node. It is pure.
type store map[string]*line

// line is what one node recorded, by Seq.
type line struct {
	events []Event
	bytes  int
	floor  uint64 // the highest number that was dropped for its age
}

// add takes an event, and tells whether it is new and young enough to be held.
func (s store) add(e Event) bool {
	l := s[e.Node]
	if l == nil {
		if len(s) >= maxNodes {
			return false
		}
		l = &line{}
		s[e.Node] = l
	}
	if e.Seq <= l.floor {
		return false
	}
	i, held := slices.BinarySearchFunc(l.events, e.Seq, func(e Event, seq uint64) int { return cmp.Compare(e.Seq, seq) })
	if held {
		return false
	}
	l.events = slices.Insert(l.events, i, e)
	l.bytes += e.size()
	events, bytes := s.room()
	for len(l.events) > events || l.bytes > bytes {
		old := l.events[0]
		l.events[0] = Event{} // its strings are not kept alive
		l.events = l.events[1:]
		l.bytes -= old.size()
		l.floor = old.Seq
	}
	return e.Seq > l.floor
}

// all returns everything, in no order.
func (s store) all() []Event {
	var out []Event
	for _, l := range s {
		out = append(out, l.events...)
	}
	return out
}

// highest is the last number of a node, 0 if there is none.
func (s store) highest(node string) uint64 {
	l := s[node]
	if l == nil {
		return 0
	}
	if n := len(l.events); n > 0 {
		return l.events[n-1].Seq
	}
	return l.floor
}

func (s store) digest() Digest {
	d := Digest{}
	most := min(maxRuns, max(1, maxRunsOfAll/max(len(s), 1)))
	for node, l := range s {
		var runs Runs
		if l.floor > 0 {
			runs = Runs{{0, l.floor}}
		}
		for _, e := range l.events {
			if n := len(runs); n > 0 && runs[n-1][1]+1 == e.Seq {
				runs[n-1][1] = e.Seq
			} else {
				runs = append(runs, [2]uint64{e.Seq, e.Seq})
			}
		}
		if n := len(runs) - most; n > 0 {
			runs = runs[n:]
			runs[0][0] = 0
		}
		d[node] = runs
	}
	return d
}

// since returns up to limit events that have does not hold, those of each node
// in their order. only, if not empty, is the one node whose events count.
func (s store) since(have Digest, only string, limit int) []Event {
	var out []Event
	for _, node := range slices.Sorted(maps.Keys(s)) {
		if only != "" && node != only {
			continue
		}
		held := have[node]
		for _, e := range s[node].events {
			if len(out) >= limit {
				return out
			}
			if !held.has(e.Seq) {
				out = append(out, e)
			}
		}
	}
	return out
}
