package balancer

import (
	"maps"
	"math"
	"time"
)

// leastUsed gives each uplink new flows in proportion to its free bandwidth: not
// all to the one that has most, or they would all run there until the next look.
// The shares move slowly, and not at all for little, since flows that begin now
// are seen in the load only later.
type leastUsed struct {
	at   map[string]float64 // where the shares are on their way
	told map[string]float64
}

const (
	// leastPace is the part of the way to the target that is gone with each
	// sample: half of it within four seconds.
	leastPace = 0.08
	// leastStep is the least change of a share that is told.
	leastStep = 1. / 20
	// leastFree is the part of its speed that a line counts as free beside what
	// is: a full one still gets a few, and where all are nearly full not all runs
	// from one to the other for little.
	leastFree = 0.1
)

// free is the bandwidth from the ISP that is left, less where the other
// direction is nearer to its end; of a degraded line a quarter counts.
func (c candidate) free() float64 {
	f := c.Speed.Down * (max(1-c.Load.of(c.Speed), 0) + leastFree)
	if c.Degraded {
		f *= float64(quarter) / whole
	}
	return f
}

func (l *leastUsed) decide(_ time.Time, fresh bool, of []candidate) map[string]float64 {
	sum, have := 0.0, 0.0
	for _, c := range of {
		sum += c.free()
		have += l.at[c.Name]
	}
	if sum <= 0 {
		return nil
	}
	next := map[string]float64{}
	for _, c := range of {
		target := c.free() / sum
		if have <= 0 {
			next[c.Name] = target
			continue
		}
		s := l.at[c.Name] / have // of one that died its part goes to the others
		if fresh {
			s += leastPace * (target - s)
		}
		next[c.Name] = s
	}
	l.at = next
	moved := len(l.told) != len(next)
	for name, s := range next {
		was, ok := l.told[name]
		moved = moved || !ok || math.Abs(s-was) >= leastStep
	}
	if moved {
		l.told = maps.Clone(next)
	}
	return l.told
}

func (l *leastUsed) follow(shares map[string]float64) {
	l.at, l.told = maps.Clone(shares), maps.Clone(shares)
}
