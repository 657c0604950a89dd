package hooks

import (
	"time"

	"harouter/balancer"
)

// tallySize is how many rounds are counted: the ring of the link monitor whose
// arguments these are.
const tallySize = 100

// tally counts the last rounds of one uplink.
type tally struct {
	rounds []balancer.Round // the newest last
}

func (t *tally) add(r balancer.Round) {
	if len(t.rounds) == tallySize {
		t.rounds = append(t.rounds[:0], t.rounds[1:]...)
	}
	t.rounds = append(t.rounds, r)
}

// count is what scripts are told of it.
type count struct {
	replied, lost        int
	received, missing    int           // in a row, up to now
	rtt                  time.Duration // mean of those that are known
	waiting, late, pause int           // our rounds end at their time-out: always 0
}

func (t *tally) count() (c count) {
	var sum time.Duration
	known := 0
	for _, r := range t.rounds {
		if !r.Good {
			c.lost++
			c.missing++
			c.received = 0
			continue
		}
		c.replied++
		c.received++
		c.missing = 0
		if r.RTT > 0 {
			sum += r.RTT
			known++
		}
	}
	if known > 0 {
		c.rtt = sum / time.Duration(known)
	}
	return c
}

// loss is in percent of the rounds.
func (c count) loss() int {
	if n := c.replied + c.lost; n > 0 {
		return 100 * c.lost / n
	}
	return 0
}
