package integration

import (
	"slices"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// advertGap is the longest time between two adverts on the LAN, and their number.
func advertGap(adverts []netlab.Advert) (gap time.Duration, n int) {
	for i := 1; i < len(adverts); i++ {
		gap = max(gap, adverts[i].At.Sub(adverts[i-1].At))
	}
	return gap, len(adverts)
}

// TestCalm: adverts every 10 ms while everybody wants the processors: no role
// changes.
func TestCalm(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Replace(site.Config, "advertise: 100ms", "advertise: 10ms"))
	_, err := c.Host("h1").Disturb(1024)
	must(t, err)
	calm(t, c, 5*time.Second)
}

// calm watches a pair for a while and fails when a role moves.
func calm(t *testing.T, c *site.Cluster, d time.Duration) {
	t.Helper()
	before := map[string]uint64{}
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		before[r] = s.VRRP.Transitions
	}
	capture, err := c.Port("r1", "lan0").Capture(nil)
	must(t, err)
	time.Sleep(d)
	capture.Close()
	gap, n := advertGap(capture.Adverts())
	t.Logf("%d adverts in %v, the longest gap between two was %v", n, d, gap)
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		if s.VRRP.Master != "r1" || s.VRRP.Transitions != before[r] {
			t.Errorf("%s: master is %s after %d more transitions", r, s.VRRP.Master, s.VRRP.Transitions-before[r])
		}
	}
	if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r1"}) {
		t.Errorf("held by %v", h)
	}
}
