package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// dests are servers of the internet; two are those of the usual site.
func dests(n int) []netip.Addr {
	var out []netip.Addr
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}))
	}
	return out
}

const threePolicies = `policies:
  - {name: bank, match: {destination: "@bank"}, method: enforced, uplinks: [dsl]}
  - {name: calls, match: {lan: office, protocol: udp}, method: priority, uplinks: [spare, cable], on_recovery: move}
  - {name: lab, match: {lan: lab, destination_ports: 1-65535}, uplinks: [cable], when_none: drop}
  - {name: own, match: {router: true, destination: 198.51.100.3}, uplinks: [spare]}
  - {name: shops, match: {destination: 198.51.100.8/29}, method: persistence, persistence: {learned: true}, uplinks: [cable, dsl]}
  - {name: default, method: persistence, persistence: {by: source-destination}, weights: {cable: 1, dsl: 1, spare: 0}}
`

// TestPolicies: policies of a pair in their order, by what a router's neighbours
// see; a list of networks that goes with the file; a takeover that moves nobody.
func TestPolicies(t *testing.T) {
	t.Parallel()
	c := threeISPs(t, weighted(threePolicies, [3]int{1, 1, 1}))
	all := dests(14)
	for _, a := range all[2:] {
		must(t, c.Node("net").IP(fmt.Sprintf("addr add %v/32 dev lo", a)))
	}
	_, err := c.Serve("net", all[2:]...)
	must(t, err)
	list := func(router, text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(filepath.Dir(c.ConfigFile(router)), "bank"), []byte(text), 0o644))
	}
	list("r1", "# the bank\n198.51.100.2\n")
	list("r2", "# the bank\n198.51.100.2\n")
	must(t, c.Up("r1", "r2"))
	bank := all[1]

	t.Run("in order", func(t *testing.T) {
		only(t, "the bank", works(t, "the bank", connect(t, c, "h1", echo(bank), 20)), site.WAN2)
		only(t, "the bank from the lab", works(t, "the bank from the lab", connect(t, c, "h2", echo(bank), 20)), site.WAN2)
		only(t, "the lab", works(t, "the lab", connect(t, c, "h2", echo(all[0]), 20)), site.WAN1)
		only(t, "the router", works(t, "the router", connect(t, c, "r1", echo(all[2]), 10)), netip.MustParseAddr("198.18.3.2"))
		udp, err := c.Load("h1", netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(all[3]), Flows: 10, Interval: 20 * time.Millisecond}}})
		must(t, err)
		r, err := udp.Stop()
		must(t, err)
		if n := len(r.On("isp3", "")); n != 10 {
			t.Errorf("%d of 10 calls went by spare", n)
		}
	})

	where := func(from []netip.Addr) map[netip.Addr]netip.Addr {
		t.Helper()
		out := map[netip.Addr]netip.Addr{}
		for _, to := range from {
			for source := range works(t, "connections to "+to.String(), connect(t, c, "h1", echo(to), 5)) {
				if out[to].IsValid() {
					t.Errorf("%v was reached from %v and %v", to, out[to], source)
				}
				out[to] = source
			}
		}
		return out
	}
	free := slices.Delete(slices.Clone(all), 1, 2)
	before := where(free)
	seen := map[netip.Addr]bool{}
	for _, source := range before {
		seen[source] = true
	}
	if !seen[site.WAN1] || !seen[site.WAN2] || len(seen) != 2 { // 2 · 0.5⁹ by chance, but always the same
		t.Errorf("persistence used %v", seen)
	}
	shop := func(a netip.Addr) bool { return a.As4()[3] >= 8 }

	t.Run("when an uplink is dead", func(t *testing.T) {
		leaks := make([]*netlab.Capture, 2)
		for i, port := range []string{"wan1", "wan3"} {
			leaks[i] = record(t, c.Port("r1", port), func(s segment) bool {
				return s.dst.Addr() == bank && s.protocol != 1 // (probes go everywhere)
			})
		}
		calls, err := c.Load("h1", netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(all[3]), Flows: 10, Interval: 20 * time.Millisecond}}})
		must(t, err)
		callsBy := func(a netip.Addr) {
			t.Helper()
			must(t, netlab.WaitFor(fmt.Sprintf("all calls by %v", a), 4*time.Second, func() bool {
				s, err := calls.Snapshot()
				return err == nil && s.Uplinks[a] == 10
			}))
		}
		callsBy(wan3)
		must(t, c.BlackholeBeyond("isp2"))
		must(t, c.BlackholeBeyond("isp3"))
		must(t, c.Wait("the shares", "r1", 4*time.Second, func(s ha.Status) bool {
			return s.Policies[0].Shares["dsl"] == 1 && s.Policies[1].Shares["cable"] == 1 && s.Policies[5].Shares["cable"] == 1
		}))
		callsBy(site.WAN1)
		for to, source := range where(free) {
			if source != site.WAN1 || before[to] == site.WAN1 && source != before[to] {
				t.Errorf("%v is reached from %v, before from %v", to, source, before[to])
			}
		}
		if _, err := c.Load("h1", netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(bank), Flows: 1, Interval: 20 * time.Millisecond}}}); err == nil {
			t.Error("the bank answered, although its uplink is dead")
		}
		for i, capture := range leaks {
			if n := len(capture.Packets()); n > 0 {
				t.Errorf("%d packets to the bank left by %s", n, []string{"wan1", "wan3"}[i])
			}
		}
		must(t, c.Restore("isp2"))
		must(t, c.Restore("isp3"))
		must(t, c.Settled("r1", "r1", 5*time.Second))
		callsBy(wan3) // on_recovery: move
		for to, source := range where(free) {
			if shop(to) && source != site.WAN1 || !shop(to) && source != before[to] {
				t.Errorf("%v is reached from %v once dsl is back, before from %v", to, source, before[to])
			}
			before[to] = source
		}
		_, err = calls.Stop()
		must(t, err)
	})

	t.Run("a list is part of the file", func(t *testing.T) {
		list("r1", "198.51.100.2\n198.51.100.4\n")
		out, err := c.Command("r1", "reload")
		if err == nil {
			t.Errorf("lists differ, and reload says %s", out)
		}
		list("r2", "198.51.100.2\n198.51.100.4\n")
		_, err = c.Command("r2", "reload")
		must(t, err)
		must(t, netlab.WaitFor("the plan with the new list", 2*time.Second, func() bool {
			return works(t, "with the new list", connect(t, c, "h1", echo(all[3]), 1))[site.WAN2] == 1
		}))
		only(t, "with the new list", works(t, "with the new list", connect(t, c, "h1", echo(all[3]), 20)), site.WAN2)
		list("r1", "198.51.100.0/33\n")
		out, err = c.Command("r1", "reload")
		if err == nil || !strings.Contains(fmt.Sprint(out, err), "bank:1:1: ") {
			t.Errorf("a bad list, and reload says %s, %v", out, err)
		}
		list("r1", "198.51.100.2\n198.51.100.4\n")
	})

	t.Run("a takeover moves nobody", func(t *testing.T) {
		must(t, c.Wait("equal plans", "r2", 3*time.Second, func(s ha.Status) bool {
			one, err := c.Status("r1")
			return err == nil && one.PlanHash == s.PlanHash && s.PlanHash != ""
		}))
		free := slices.DeleteFunc(slices.Clone(free), func(a netip.Addr) bool { return a == all[3] })
		must(t, netlab.WaitFor("what r1 has learned on r2", 4*time.Second, func() bool {
			out, err := c.Router("r2").Exec("nft", "list", "set", "inet", "harouter", "learned_shops/cable")
			return err == nil && strings.Count(out, "198.51.100.") == 7
		}))
		must(t, c.PowerOff("r1"))
		must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
		for to, source := range where(free) {
			if source != before[to] {
				t.Errorf("%v is reached from %v, before the takeover from %v", to, source, before[to])
			}
		}
		only(t, "the bank", works(t, "the bank", connect(t, c, "h1", echo(bank), 10)), site.WAN2)
	})

	t.Run("who was off fetches the list", func(t *testing.T) {
		list("r2", "198.51.100.5\n")
		_, err := c.Command("r2", "reload")
		must(t, err)
		must(t, c.PowerOn("r1"))
		must(t, c.Run("r1"))
		must(t, netlab.WaitFor("the list on r1", 8*time.Second, func() bool {
			got, err := os.ReadFile(filepath.Join(filepath.Dir(c.ConfigFile("r1")), "bank"))
			return err == nil && string(got) == "198.51.100.5\n"
		}))
		must(t, c.Wait("one configuration", "r1", 5*time.Second, func(s ha.Status) bool { return s.Config.InSync }))
	})
	noLeaks(t, c)
}
