package site

import (
	"fmt"
	"time"

	"harouter/test/netlab"
)

// Calm watches a pair with r1 as master for a while. It returns how often a role
// changed, and how long a processor of the machine stood still at most: where
// that is more than two intervals, what changed is not harouter's fault.
func (c *Cluster) Calm(d time.Duration) (changes uint64, stall time.Duration, err error) {
	client, err := c.Load("h1", netlab.Load{Ping: []netlab.Ping{{Target: LANAddress, Interval: 5 * time.Millisecond}}})
	if err != nil {
		return 0, 0, err
	}
	const mark = "calm"
	c.Mark(mark)
	before, err := c.transitions()
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(d)
	after, err := c.transitions()
	if err != nil {
		return 0, 0, err
	}
	report, err := client.Stop()
	if err != nil {
		return 0, 0, err
	}
	return after - before, report.StallSince(mark), nil
}

func (c *Cluster) transitions() (n uint64, err error) {
	for router := range c.Daemons {
		s, err := c.Status(router)
		for try := 1; err != nil && try < 3; try++ { // the command has no priority among those who disturb
			s, err = c.Status(router)
		}
		if err != nil {
			return 0, fmt.Errorf("count the role changes: %w", err)
		}
		n += s.VRRP.Transitions
	}
	return n, nil
}
