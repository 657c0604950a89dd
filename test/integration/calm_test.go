package integration

import (
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// TestCalm: adverts every 10 ms while everybody wants the processors and the
// memory: no role changes. A virtual machine that stands still for two intervals
// tells nothing; then it looks again.
func TestCalm(t *testing.T) {
	const interval = 10 * time.Millisecond
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Replace(site.Config, "advertise: 100ms", "advertise: 10ms"))
	_, err := c.Host("h1").Disturb(1024)
	must(t, err)
	for try := 1; ; try++ {
		changes, stall, err := c.Calm(4 * time.Second)
		must(t, err)
		t.Logf("%d role changes, the machine stood still for %v at most", changes, stall)
		switch {
		case changes == 0:
			return
		case stall < 2*interval:
			t.Fatalf("%d role changes on a busy machine", changes)
		case try == 3:
			t.Log("the machine stands still again and again: nothing can be said")
			return
		}
		must(t, c.Settled("r1", "r1", 15*time.Second))
		must(t, c.Settled("r2", "r1", 15*time.Second))
	}
}
