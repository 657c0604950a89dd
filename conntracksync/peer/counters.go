package peer

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

// counters counts refusals, and tells of some of them.
type counters struct {
	tell func(Reason, netip.Addr)

	mu   sync.Mutex
	n    map[Reason]uint64
	told map[Reason]*allowance
}

// tellRate is how many refusals of one reason are told each second.
const tellRate = 10

func (c *counters) count(r Reason, source netip.Addr) {
	c.mu.Lock()
	c.n[r]++
	a := c.told[r]
	if a == nil {
		a = &allowance{rate: tellRate}
		c.told[r] = a
	}
	tell := c.tell != nil && a.take(time.Now())
	c.mu.Unlock()
	if tell {
		c.tell(r, source)
	}
}

func (c *counters) all() map[Reason]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

// allowance is so many a second, as many at once.
type allowance struct {
	rate float64
	used float64
	at   time.Time
}

func (a *allowance) take(now time.Time) bool {
	a.used = max(0, a.used-now.Sub(a.at).Seconds()*a.rate)
	a.at = now
	if a.used+1 > a.rate {
		return false
	}
	a.used++
	return true
}
