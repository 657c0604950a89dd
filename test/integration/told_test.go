package integration

import (
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestTold: hosts are told at once that their connection died with its uplink,
// also if they only wait, and also right after a takeover, in which no other
// connection is reset.
func TestTold(t *testing.T) {
	t.Parallel()
	c := pair(t, netlab.PairOptions{WANOwn: true}, patient()+"balance: {flap_hold: 0}\n")
	dies := func(t *testing.T, master string, before func()) {
		t.Helper()
		client, err := c.Load("h1", netlab.Load{TCP: []netlab.TCPFlows{
			{Server: echo(site.Server), Flows: 20},
			{Server: echo(site.Server2), Flows: 20, Interval: 20 * time.Millisecond},
		}, Drain: 300 * time.Millisecond})
		must(t, err)
		time.Sleep(200 * time.Millisecond)
		before()
		must(t, c.BlackholeBeyond("isp2"))
		must(t, c.Wait("dsl is dead", master, 3*time.Second, func(s ha.Status) bool { return lineOf(s, "dsl").State.String() == "down" }))
		verdict := netlab.Now()
		only(t, "a new connection", works(t, "a new connection", connect(t, c, "h1", echo(site.Server2), 5)), site.WAN1)
		t.Logf("five new connections within %v of the verdict", netlab.Now().Sub(verdict))
		time.Sleep(700 * time.Millisecond)
		must(t, c.Restore("isp2")) // what was not reset does not end by itself now
		r, err := client.Stop()
		must(t, err)
		if stall := r.Lag; stall > 300*time.Millisecond {
			t.Logf("the lab was late by %v", stall)
		}
		count, longest := map[string]int{}, time.Duration(0)
		for _, f := range r.TCP {
			kind := "busy"
			if f.Interval == 0 {
				kind = "idle"
			}
			// Of the two that use a connection, the kernel tells one of the reset.
			reset := strings.Contains(f.Err, "reset") || strings.Contains(f.Err, "broken pipe")
			isp := c.ISPOf(f.Seen[0].From.Addr())
			count[isp+" "+kind]++
			switch {
			case isp == "isp1" && f.Err != "":
				t.Errorf("%s flow %s of the other uplink died %v after the verdict: %s", kind, f.Name, f.ErrAt.Sub(verdict), f.Err)
			case isp == "isp2" && !reset:
				t.Errorf("%s flow %s of the dead uplink was not reset: %q", kind, f.Name, f.Err)
			case isp == "isp2":
				longest = max(longest, f.ErrAt.Sub(verdict))
			}
		}
		t.Logf("reset at the latest %v after the verdict (as the status told it); flows: %v", longest, count)
		atMost(t, "told of the death", longest, time.Second, "0.1 s")
		if len(count) != 4 {
			t.Errorf("not all kinds of flows were there: %v", count)
		}
	}
	t.Run("a silent ISP", func(t *testing.T) { dies(t, "r1", func() {}) })
	sameRouting(t, c, "dsl is back", 5*time.Second, func(s ha.Status) bool { return lineOf(s, "dsl").Share > 0 })
	t.Run("after a takeover", func(t *testing.T) {
		var took netlab.Instant
		dies(t, "r2", func() {
			failover(t, c, "r1", "r2")
			must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
			took = netlab.Now()
		})
		late := netlab.Now().Sub(took)
		out, err := c.Router("r2").Exec("nft", "list", "chain", "inet", "harouter", "midstream")
		must(t, err)
		if strings.Contains(out, "@ended counter packets 0 ") && late < 3*time.Second {
			t.Errorf("nothing was reset in the grace time, and %v after the takeover all flows are told:\n%s", late, out)
		}
	})
}
