package soak

import (
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// TestCalmForMinutes: adverts every 10 ms while everybody wants the processors
// and the memory: no role changes.
func TestCalmForMinutes(t *testing.T) {
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{WANOwn: true}))
	_, err := s.Serve("net")
	must(t, err)
	c, err := site.Install(s, site.Replace(site.Config, "advertise: 100ms", "advertise: 10ms"))
	must(t, err)
	must(t, c.Up("r1", "r2"))
	before := map[string]uint64{}
	for _, r := range []string{"r1", "r2"} {
		status, err := c.Status(r)
		must(t, err)
		before[r] = status.VRRP.Transitions
	}
	_, err = c.Host("h1").Disturb(2048)
	must(t, err)
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Second) {
		for _, r := range []string{"r1", "r2"} {
			status, err := c.Status(r)
			must(t, err)
			if status.VRRP.Master != "r1" || status.VRRP.Transitions != before[r] {
				t.Fatalf("%s: master is %s after %d more transitions", r, status.VRRP.Master, status.VRRP.Transitions-before[r])
			}
		}
	}
}
