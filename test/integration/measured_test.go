package integration

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// measured is the standard file with lines of 8 Mbit/s, and a method.
func measured(policy string) string {
	config := site.Replace(site.Config, "    weight: 2\n", "    weight: 2\n    speed: {down: 8mbit, up: 8mbit}\n")
	config = site.Replace(config, "    weight: 1\n", "    weight: 1\n    speed: {down: 8mbit, up: 8mbit}\n")
	return config + "policies: [{name: default, " + policy + "}]\n"
}

// line8 is one direction of such a line, with a queue of half a second.
var line8 = netlab.Line{Rate: 8e6, Queue: 500_000}

// share waits until the uplinks' shares are as wanted, and the other node agrees.
func share(t *testing.T, c *site.Cluster, what string, within time.Duration, master string, ok func(cable, dsl float64) bool) {
	t.Helper()
	began := time.Now()
	must(t, c.Wait("shares: "+what, master, within, func(s ha.Status) bool {
		p := s.Policies[0].Shares
		return ok(p["cable"], p["dsl"]) && !slices.ContainsFunc(s.Uplinks, func(u ha.UplinkStatus) bool { return u.State.String() == "down" })
	}))
	t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
}

// routedAlike waits until both nodes route alike, for the second that the contract gives.
func routedAlike(t *testing.T, c *site.Cluster) {
	t.Helper()
	must(t, netlab.WaitFor("one plan hash", 1500*time.Millisecond, func() bool {
		a, errA := c.Status("r1")
		b, errB := c.Status("r2")
		return errA == nil && errB == nil && a.PlanHash == b.PlanHash
	}))
}

func onCable(cable, _ float64) bool { return cable == 1 }
func onDSL(_, dsl float64) bool     { return dsl == 1 }

// TestMeasured: each method that measures does what weights would not; uplinks by
// hand; a full line is no dead one.
func TestMeasured(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{}, measured("method: lowest-latency"))
	cable, err := c.ISP("isp1").Port("wan0").Emulate(netlab.Line{Delay: 20 * time.Millisecond}, netlab.Line{})
	must(t, err)
	dsl, err := c.ISP("isp2").Port("wan0").Emulate(netlab.Line{}, netlab.Line{})
	must(t, err)
	must(t, c.Up("r1", "r2"))
	fresh := func(what string, allowed ...netip.Addr) map[netip.Addr]int {
		t.Helper()
		seen := works(t, what, connect(t, c, "h1", echo(site.Server2), 30))
		only(t, what, seen, allowed...)
		return seen
	}
	bulk := func(mode netlab.Mode, flows int) *netlab.Client {
		t.Helper()
		client, err := c.Load("h1", netlab.Load{Drain: 10 * time.Millisecond,
			TCP: []netlab.TCPFlows{{Server: echo(site.Server), Flows: flows, Mode: mode}}})
		must(t, err)
		return client
	}

	t.Run("lowest-latency", func(t *testing.T) {
		share(t, c, "dsl is quicker", 3*time.Second, "r1", onDSL)
		fresh("dsl is quicker", site.WAN2)
		cable.Set(netlab.Line{}, netlab.Line{})
		dsl.Set(netlab.Line{Delay: 60 * time.Millisecond}, netlab.Line{})
		share(t, c, "cable is quicker", 4*time.Second, "r1", onCable)
		routedAlike(t, c)
		fresh("cable is quicker", site.WAN1)
		dsl.Set(netlab.Line{}, netlab.Line{})
		cable.Set(line8, line8)
	})
	t.Run("overflow", func(t *testing.T) {
		reloaded(t, c, measured("method: overflow, overflow: {hold: 1s}"), "r1", "r2")
		share(t, c, "at rest", 3*time.Second, "r1", onCable)
		fresh("at rest", site.WAN1)
		load := bulk(netlab.Download, 4)
		share(t, c, "full", 4*time.Second, "r1", onDSL)
		routedAlike(t, c)
		fresh("cable is full", site.WAN2)
		s, err := c.Status("r1")
		must(t, err)
		if r := s.Uplinks[0].RxBPS; r == nil || *r < 2e6 || *r > 12e6 {
			t.Errorf("the status tells %d bit/s of a line that carries 8,000,000", value(r))
		}
		if f := s.Uplinks[0].Flows; f == nil || *f < 4 {
			t.Errorf("the status tells of %d flows", value(f))
		}
		if _, err := load.Stop(); err != nil {
			t.Error(err)
		}
		share(t, c, "idle again", 6*time.Second, "r1", onCable)
		routedAlike(t, c)
	})
	t.Run("a full upload", func(t *testing.T) { fullUpload(t, c, cable, bulk) })
	t.Run("least-used", func(t *testing.T) {
		load := bulk(netlab.Download, 4) // by cable
		reloaded(t, c, measured("method: least-used"), "r1", "r2")
		share(t, c, "less on the line that is full", 8*time.Second, "r1", func(cable, _ float64) bool { return cable < 0.3 })
		routedAlike(t, c)
		if seen := fresh("least-used", site.WAN1, site.WAN2); seen[site.WAN2] <= seen[site.WAN1] {
			t.Errorf("cable is full, and new connections went %v", seen)
		}
		if _, err := load.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("by hand", func(t *testing.T) { byHand(t, c, fresh) })
	t.Run("fastest-response", func(t *testing.T) { fastestResponse(t, c, cable, dsl) })
	t.Run("takeover keeps the map", func(t *testing.T) {
		cable.Set(line8, line8)
		reloaded(t, c, measured("method: overflow, overflow: {hold: 1s}"), "r1", "r2")
		share(t, c, "at rest", 3*time.Second, "r1", onCable)
		load := bulk(netlab.Download, 4)
		share(t, c, "full", 4*time.Second, "r1", onDSL)
		routedAlike(t, c)
		before, err := c.Status("r2")
		must(t, err)
		must(t, c.PowerOff("r1"))
		must(t, c.WaitHolder(site.LANAddress, "r2", 2*time.Second))
		after, err := c.Status("r2")
		must(t, err)
		if before.PlanHash != after.PlanHash {
			t.Errorf("the takeover changed the shares from %v to %v", before.Policies, after.Policies)
		}
		fresh("after the takeover", site.WAN2)
		if _, err := load.Stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("race: hold", func(t *testing.T) { heldResponse(t, c, cable, dsl) })
}

// fullUpload: what waits behind a full upload is late, not lost; a line that dies
// meanwhile does.
func fullUpload(t *testing.T, c *site.Cluster, cable *netlab.Emulator, bulk func(netlab.Mode, int) *netlab.Client) {
	cable.Set(line8, netlab.Line{Rate: 2e6, Queue: 250_000}) // a second
	defer cable.Set(line8, line8)
	load := bulk(netlab.Upload, 2)
	must(t, c.Wait("probes that get no answer in time", "r1", 4*time.Second, func(s ha.Status) bool {
		return s.Uplinks[0].Loss != nil && *s.Uplinks[0].Loss > 0.15
	}))
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s, err := c.Status("r1")
		must(t, err)
		if s.Uplinks[0].State.String() != "up" {
			t.Fatalf("cable is %v while it carries an upload", s.Uplinks[0].State)
		}
	}
	began := time.Now()
	must(t, c.BlackholeBeyond("isp1"))
	must(t, c.Wait("cable down", "r1", 4*time.Second, func(s ha.Status) bool { return s.Uplinks[0].State.String() == "down" }))
	atMost(t, "death of a line with a full upload", time.Since(began), 2500*time.Millisecond, "1 s to 1.2 s")
	must(t, c.Restore("isp1"))
	_, _ = load.Stop() // its connections were ended
	must(t, c.Settled("r1", "r1", 6*time.Second))
}

// byHand: an uplink that is disabled keeps its flows and gets no new ones, by
// whichever node it was said.
func byHand(t *testing.T, c *site.Cluster, fresh func(string, ...netip.Addr) map[netip.Addr]int) {
	reloaded(t, c, site.Config, "r1", "r2")
	must(t, c.Wait("both in use", "r1", 3*time.Second, func(s ha.Status) bool { return s.Uplinks[0].Share > 0 && s.Uplinks[1].Share > 0 }))
	client, err := c.Load("h1", netlab.Load{
		UDP: []netlab.UDPFlows{{Server: echo(site.Server), Flows: 20, Interval: 20 * time.Millisecond}},
		TCP: []netlab.TCPFlows{{Server: echo(site.Server), Flows: 20, Interval: 20 * time.Millisecond}},
	})
	must(t, err)
	for _, w := range []struct{ args, want string }{
		{"disable cabel", "did you mean cable?"},
		{"disable", "the name of one uplink"},
	} {
		if out, err := c.Command("r1", append([]string{"uplink"}, strings.Fields(w.args)...)...); err == nil || !strings.Contains(fmt.Sprint(err, out), w.want) || !strings.Contains(err.Error(), "exit status 2: ") {
			t.Errorf("uplink %s: %v %s", w.args, err, out)
		}
	}
	out, err := c.Command("r2", "uplink", "disable", "cable")
	must(t, err)
	if !strings.Contains(out, "cable is disabled") {
		t.Errorf("disable says %q", out)
	}
	share(t, c, "disabled", time.Second, "r1", onDSL)
	routedAlike(t, c)
	fresh("cable is disabled", site.WAN2)
	if out, err := c.Command("r1", "uplink", "list"); err != nil || !slices.ContainsFunc(strings.Split(out, "\n"), func(l string) bool {
		f := strings.Fields(l)
		return len(f) > 2 && f[0] == "cable" && f[1] == "disabled" && f[2] == "disabled"
	}) {
		t.Errorf("uplink list: %v\n%s", err, out)
	}
	if out, err := c.Command("r1", "uplink", "disable", "dsl"); err == nil {
		t.Errorf("the last uplink was disabled: %s", out)
	}
	r, err := client.Stop()
	must(t, err)
	if n := r.Survivors(); n != 20 || r.LostSince("") > 0 || len(r.Renatted("")) > 0 {
		t.Errorf("%d of 20 TCP flows survived, %d datagrams were lost, %d flows moved", n, r.LostSince(""), len(r.Renatted("")))
	}
	if len(r.On("isp1", "")) == 0 {
		t.Error("no flow was on cable: the test shows nothing")
	}
	_, err = c.Command("r1", "uplink", "enable", "cable")
	must(t, err)
	share(t, c, "enabled", time.Second, "r1", func(cable, _ float64) bool { return cable > 0.6 })
}

// value is that of a number of the status; 0 if it is not known.
func value(n *uint64) uint64 {
	if n == nil {
		return 0
	}
	return *n
}
