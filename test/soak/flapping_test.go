package soak

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/ha/control"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestFlappingISP: an ISP that is there for 2 s and away for 2 s, for a minute,
// changes the routing three times at most. The role stays, who is on the other ISP
// feels nothing, and once it is over the ISP is used again.
func TestFlappingISP(t *testing.T) {
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{WANOwn: true}))
	_, err := s.Serve("net")
	must(t, err)
	// Long leases: a busy machine is to change no role, this is about the uplink.
	c, err := site.Install(s, site.Replace(site.Config, "advertise: 100ms", "advertise: 1s"))
	must(t, err)
	must(t, c.Up("r1", "r2"))
	before, err := c.Status("r1")
	must(t, err)
	client, err := c.Load("h1", netlab.Load{
		UDP:   []netlab.UDPFlows{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Flows: 20, Interval: 50 * time.Millisecond}},
		Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server2, netlab.EchoPort), Interval: 100 * time.Millisecond}},
	})
	must(t, err)
	time.Sleep(time.Second)
	began, at := time.Now(), c.Mark("flapping")
	for end := began.Add(time.Minute); time.Now().Before(end); {
		must(t, c.BlackholeBeyond("isp2"))
		time.Sleep(2 * time.Second)
		must(t, c.Restore("isp2"))
		time.Sleep(2 * time.Second)
	}
	changes := 0
	out, err := c.Command("r1", "events", "--json", "-n", "0")
	must(t, err)
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var e control.Event
		must(t, json.Unmarshal([]byte(line), &e))
		if e.Kind == "uplink" && e.Subject == "dsl" && e.Node == "r1" && e.Time.After(began) {
			changes++
			t.Logf("%v after the first outage: %s, %s", e.Time.Sub(began).Round(time.Millisecond), e.To, e.Reason)
		}
	}
	if changes == 0 || changes > 3 {
		t.Errorf("%d changes in a minute, want 3 at most, and one at least", changes)
	}
	must(t, c.Wait("dsl is used again", "r1", 30*time.Second, func(s ha.Status) bool { return s.Uplinks[1].Share > 0 }))
	t.Logf("used again %v after the last outage", time.Since(began.Add(time.Minute)).Round(100*time.Millisecond))
	after, err := c.Status("r1")
	must(t, err)
	if after.VRRP.Transitions != before.VRRP.Transitions {
		t.Errorf("the role changed: %d transitions before, %d after", before.VRRP.Transitions, after.VRRP.Transitions)
	}
	r, err := client.Stop()
	must(t, err)
	t.Log("\n" + r.String())
	for _, f := range r.On("isp1", "flapping") {
		if len(f.Seen) > 1 || f.Lost(at, 0) > 0 {
			t.Errorf("flow %s on the other ISP lost %d datagrams and was seen from %v", f.Name, f.Lost(at, 0), f.Seen)
		}
	}
	// An outage is a verdict away (0.8 s) each time that the ISP was in use.
	if n, bound := r.FreshFailedSince("flapping"), 3*12; n > bound {
		t.Errorf("%d of 600 new connections failed, want %d at most", n, bound)
	}
}
