package soak

import (
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// TestCalmForMinutes: adverts every 10 ms while everybody wants the processors
// and the memory: no role changes, but where a virtual machine itself stood
// still for two intervals.
func TestCalmForMinutes(t *testing.T) {
	const (
		interval = 10 * time.Millisecond
		windows  = 30
	)
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{WANOwn: true}))
	_, err := s.Serve("net")
	must(t, err)
	c, err := site.Install(s, site.Replace(site.Config, "advertise: 100ms", "advertise: 10ms"))
	must(t, err)
	must(t, c.Up("r1", "r2"))
	_, err = c.Host("h1").Disturb(1024)
	must(t, err)
	judged := 0
	for n := range windows {
		changes, stall, err := c.Calm(5 * time.Second)
		must(t, err)
		switch {
		case changes == 0:
			judged++
			continue
		case stall < 2*interval:
			t.Fatalf("window %d: %d role changes, although the machine stood still for %v at most", n, changes, stall)
		}
		t.Logf("window %d: %d role changes after the machine stood still for %v", n, changes, stall)
		must(t, c.Settled("r1", "r1", 15*time.Second))
		must(t, c.Settled("r2", "r1", 15*time.Second))
	}
	t.Logf("%d of %d windows without a change", judged, windows)
	if judged < windows/2 {
		t.Errorf("the machine stands still so often that nothing can be said")
	}
}
