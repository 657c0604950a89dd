package integration

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// wan3 is the virtual address on the third ISP.
var wan3 = netip.MustParseAddr("198.18.3.10")

// balanced is a file for three ISPs and two lans: the arguments are what
// stands at each uplink besides name, device and id.
func balanced(policies string, uplinks ...string) string {
	text := `cluster: home
nodes:
  r1: {address: 192.0.2.1, priority: 200}
  r2: {address: 192.0.2.2, priority: 150}
vrrp: {id: 51, advertise: 100ms, preempt_delay: 2s}
balance: {flap_hold: 0s}
lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}
  - {name: lab, device: lan1, virtual_addresses: [192.168.78.1/24]}
uplinks:
`
	for i, u := range uplinks {
		text += fmt.Sprintf("  - {name: %s, device: wan%d, id: %[2]d, %s}\n", []string{"cable", "dsl", "spare"}[i], i+1, u)
	}
	return text + policies
}

const (
	cableLine = "gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25]"
	dslLine   = "gateway: 203.0.113.129, virtual_addresses: [203.0.113.140/25]"
	spareLine = "gateway: 198.18.3.1, virtual_addresses: [198.18.3.10/25]"
	quick     = "probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms, fall: 3, rise: 2}"
)

// weighted is the standard file of these tests: cable, dsl and spare.
func weighted(policies string, weights [3]int) string {
	var uplinks []string
	for i, line := range []string{cableLine, dslLine, spareLine} {
		uplinks = append(uplinks, fmt.Sprintf("%s, weight: %d, %s", line, weights[i], quick))
	}
	return balanced(policies, uplinks...) + openEcho
}

// threeISPs is a site with three ISPs and two lans.
func threeISPs(t *testing.T, config string) *site.Cluster {
	t.Helper()
	spec := netlab.Pair(netlab.PairOptions{ISPs: 3, WANOwn: true})
	spec.LANs = append(spec.LANs, netlab.LANSpec{Name: "lab", Net: netip.MustParsePrefix("192.168.78.0/24"), Own: true, Hosts: 1})
	return build(t, spec, config)
}

// build is a site of any shape with files, and no daemon yet.
func build(t *testing.T, spec netlab.Spec, config string) *site.Cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("integration tests need root (network namespaces): run them with sudo")
	}
	s := netlab.ForTest(t, spec)
	_, err := s.Serve("net")
	must(t, err)
	c, err := site.Install(s, config)
	must(t, err)
	return c
}

// again restarts a lone router with another file; what no longer stands in the
// file is cleaned away first.
func again(t *testing.T, c *site.Cluster, router, config string) {
	t.Helper()
	if c.Daemons[router] != nil {
		_, err := c.Command(router, "stop", "--clean")
		must(t, err)
		_, err = c.Daemons[router].Wait(5 * time.Second)
		must(t, err)
	}
	must(t, os.WriteFile(c.ConfigFile(router), []byte(config), 0o644))
	must(t, c.Run(router))
}

// shares waits until the uplinks have these shares, in the status and in the
// kernel.
func shares(t *testing.T, c *site.Cluster, router string, want ...float64) {
	t.Helper()
	must(t, c.Wait(fmt.Sprintf("shares of %v", want), router, 4*time.Second, func(s ha.Status) bool {
		for i, w := range want {
			if math.Abs(s.Uplinks[i].Share-w) > 0.003 {
				return false
			}
		}
		return true
	}))
	must(t, netlab.WaitFor("the slots in the kernel", time.Second, func() bool {
		out, err := c.Router(router).Exec("nft", "list", "map", "inet", "harouter", "slots_default")
		if err != nil {
			return false
		}
		for i, name := range []string{"cable", "dsl", "spare"} {
			if i < len(want) && math.Abs(float64(strings.Count(out, "up_"+name))/256-want[i]) > 0.003 {
				return false
			}
		}
		return true
	}))
}

// TestBalance: what the master does with traffic, on one router of a pair whose
// other node is off.
func TestBalance(t *testing.T) {
	t.Parallel()
	c := threeISPs(t, weighted("", [3]int{2, 1, 0}))
	_, err := c.Serve("h1")
	must(t, err)
	_, err = c.Serve("h2")
	must(t, err)
	virtual := []netip.Addr{site.WAN1, site.WAN2, wan3}

	for _, w := range [][2]int{{2, 1}, {1, 1}, {3, 1}} {
		t.Run(fmt.Sprintf("weights %d to %d", w[0], w[1]), func(t *testing.T) {
			again(t, c, "r1", weighted("", [3]int{w[0], w[1], 0}))
			must(t, c.Settled("r1", "r1", 8*time.Second))
			p := math.Round(256*float64(w[0])/float64(w[0]+w[1])) / 256
			shares(t, c, "r1", p, 1-p, 0)
			const n = 600
			seen := works(t, "fresh", connect(t, c, "h1", echo(site.Server), n))
			only(t, "fresh", seen, site.WAN1, site.WAN2)
			sigma := math.Sqrt(n * p * (1 - p))
			off := (float64(seen[site.WAN1]) - n*p) / sigma
			t.Logf("%d of %d by cable: %.1f sigma from %.1f", seen[site.WAN1], n, off, n*p)
			if math.Abs(off) > 5 {
				t.Errorf("%d of %d connections went by cable, %.1f sigma from %.1f", seen[site.WAN1], n, off, n*p)
			}
			if err := c.WaitHolder(site.LANAddress, "r1", time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("flows keep their source", func(t *testing.T) {
		client, err := c.Load("h1", netlab.Load{
			UDP: []netlab.UDPFlows{{Server: echo(site.Server), Flows: 60, Interval: 20 * time.Millisecond}},
			TCP: []netlab.TCPFlows{{Server: echo(site.Server2), Flows: 60, Interval: 20 * time.Millisecond}},
		})
		must(t, err)
		time.Sleep(time.Second)
		r, err := client.Stop()
		must(t, err)
		if n := r.Survivors(); n != 60 {
			t.Errorf("%d of 60 TCP flows survived", n)
		}
		if moved := r.Renatted(""); len(moved) > 0 || r.LostSince("") > 0 {
			t.Errorf("%d flows changed their source, %d datagrams were lost", len(moved), r.LostSince(""))
		}
		if len(r.On("isp1", "")) == 0 || len(r.On("isp2", "")) == 0 {
			t.Error("the flows did not use both uplinks")
		}
	})

	t.Run("inbound", func(t *testing.T) { inbound(t, c, virtual) })
	t.Run("not balanced", func(t *testing.T) { notBalanced(t, c) })
	t.Run("deaths", func(t *testing.T) {
		again(t, c, "r1", weighted("", [3]int{2, 1, 0}))
		must(t, c.Settled("r1", "r1", 8*time.Second))
		deaths(t, c)
	})
	t.Run("priority and tiers", func(t *testing.T) { tiers(t, c) })
	t.Run("gateway, address and targets unknown", func(t *testing.T) { sparse(t, c) })
	noLeaks(t, c)
}

// inbound: what comes in on an uplink is answered through it. An answer that
// left by another would be a leak there.
func inbound(t *testing.T, c *site.Cluster, virtual []netip.Addr) {
	own := []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.130"), netip.MustParseAddr("198.18.3.2")}
	server, err := c.Serve("r1", slices.Concat(virtual, own)...)
	must(t, err)
	defer server.Stop()
	load := netlab.Load{}
	for _, a := range slices.Concat(virtual, own) {
		only(t, "the router at "+a.String(), works(t, "to the router at "+a.String(), connect(t, c, "net", echo(a), 15)), site.Server)
		load.UDP = append(load.UDP, netlab.UDPFlows{Server: echo(a), Flows: 4, Interval: 20 * time.Millisecond})
	}
	client, err := c.Load("net", load)
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	r, err := client.Stop()
	must(t, err)
	if n := r.LostSince(""); n > 0 {
		t.Errorf("%d datagrams to the router were not answered", n)
	}

	must(t, c.Router("r1").NFT(`table ip test {
  chain pre { type nat hook prerouting priority dstnat; policy accept;
    iifname { "wan1", "wan2", "wan3" } tcp dport 8080 dnat to 192.168.77.100:7007
  }
}`))
	for i, a := range virtual {
		isp := c.ISP(fmt.Sprintf("isp%d", i+1)).Port("wan0")
		answers := record(t, isp, func(s segment) bool { return s.protocol == 6 && s.src == netip.AddrPortFrom(a, 8080) })
		what := "by DNAT at " + a.String()
		only(t, what, works(t, what, connect(t, c, "net", netip.AddrPortFrom(a, 8080), 15)), site.Server)
		if len(answers.Packets()) == 0 {
			t.Errorf("%s: no answer passed %v", what, isp)
		}
	}
	_, err = c.Router("r1").Exec("nft", "delete", "table", "ip", "test")
	must(t, err)
}

// notBalanced: other lans and more specific routes of the main table win, get
// no NAT and leave no mark.
func notBalanced(t *testing.T, c *site.Cluster) {
	lab, vpn := netip.MustParseAddr("192.168.78.100"), netip.MustParseAddr("10.9.0.1")
	must(t, c.Router("r2").IP("addr add 10.9.0.1/32 dev lo", "route add 192.168.77.100/32 via 192.0.2.1 dev sync0"))
	must(t, c.Router("r1").IP("route add 10.9.0.0/24 via 192.0.2.2 dev sync0"))
	server, err := c.Serve("r2", vpn)
	must(t, err)
	defer server.Stop()
	var outside []*netlab.Capture
	for i := range c.Spec.ISPs {
		outside = append(outside, record(t, c.Port("r1", fmt.Sprintf("wan%d", i+1)), func(s segment) bool {
			return slices.Contains([]netip.Addr{lab, vpn}, s.dst.Addr()) || slices.Contains([]netip.Addr{lab, vpn}, s.src.Addr())
		}))
	}
	for name, to := range map[string]netip.Addr{"another lan": lab, "a route": vpn} {
		only(t, name, works(t, name, connect(t, c, "h1", echo(to), 40)), host)
		udp, err := c.Load("h1", netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(to), Flows: 10, Interval: 20 * time.Millisecond}}})
		must(t, err)
		entries, err := c.Router("r1").Connections(0, 0)
		must(t, err)
		n := 0
		for _, e := range entries {
			if e.Dst.Addr() != to {
				continue
			}
			n++
			if e.Mark&markMask != 0 || e.ReplyDst != e.Src {
				t.Errorf("%s: the connection has a mark or was translated: %+v", name, e)
			}
		}
		if n < 50 {
			t.Errorf("%s: %d entries, want 50", name, n)
		}
		r, err := udp.Stop()
		must(t, err)
		if n := r.LostSince(""); n > 0 {
			t.Errorf("%s: %d datagrams were lost", name, n)
		}
	}
	for _, capture := range outside {
		if n := len(capture.Packets()); n > 0 {
			s, _ := dissect(capture.Packets()[0])
			t.Errorf("%d packets went by an uplink, the first %+v", n, s)
		}
	}
	must(t, c.Router("r1").IP("route del 10.9.0.0/24"))
	must(t, c.Router("r2").IP("route del 192.168.77.100/32"))
}

// deaths: one uplink after the other dies and returns; cable and dsl have
// weights, spare has none.
func deaths(t *testing.T, c *site.Cluster) {
	client, err := c.Load("h1", netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(site.Server), Flows: 40, Interval: 20 * time.Millisecond}}})
	must(t, err)
	fresh := func(what string, allowed ...netip.Addr) {
		t.Helper()
		only(t, what, works(t, what, connect(t, c, "h1", echo(site.Server2), 60)), allowed...)
	}
	must(t, netlab.WaitFor("both uplinks in use", time.Second, func() bool {
		s, err := client.Snapshot()
		return err == nil && s.Uplinks[site.WAN1] > 0 && s.Uplinks[site.WAN2] > 0
	}))
	c.Mark("dsl")
	must(t, c.BlackholeBeyond("isp2"))
	shares(t, c, "r1", 1, 0, 0)
	fresh("dsl dead", site.WAN1)

	c.Mark("dsl back")
	must(t, c.Restore("isp2"))
	shares(t, c, "r1", 171./256, 85./256, 0)
	fresh("dsl back", site.WAN1, site.WAN2)
	time.Sleep(500 * time.Millisecond)

	c.Mark("both")
	must(t, c.BlackholeBeyond("isp1"))
	must(t, c.BlackholeBeyond("isp2"))
	shares(t, c, "r1", 0, 0, 1)
	fresh("only spare", wan3)
	must(t, netlab.WaitFor("all flows on spare", 3*time.Second, func() bool {
		s, err := client.Snapshot()
		return err == nil && s.Uplinks[wan3] == 40
	}))

	before, err := c.Router("r1").RouteDump()
	must(t, err)
	entries, err := c.Router("r1").Connections(3<<8, markMask)
	must(t, err)
	c.Mark("last")
	must(t, c.BlackholeBeyond("isp3"))
	must(t, c.Wait("no_uplink", "r1", 4*time.Second, func(s ha.Status) bool {
		return s.Uplinks[2].State.String() == "down" && slices.ContainsFunc(s.Alarms, func(a ha.Alarm) bool { return a.Code == ha.AlarmNoUplink })
	}))
	time.Sleep(300 * time.Millisecond) // time to do what must not be done
	after, err := c.Router("r1").RouteDump()
	must(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the death of the last uplink changed routes (-before +now):\n%s", diff)
	}
	shares(t, c, "r1", 0, 0, 1)
	for _, a := range []netip.Addr{site.LANAddress, site.WAN1, site.WAN2, wan3} {
		if h := c.Holders(a); !slices.Equal(h, []string{"r1"}) {
			t.Errorf("without any uplink %v is held by %v", a, h)
		}
	}
	left, err := c.Router("r1").Connections(3<<8, markMask)
	must(t, err)
	udp := func(all []netlab.Connection) (n int) {
		for _, e := range all {
			if e.Protocol == 17 {
				n++
			}
		}
		return n
	}
	if udp(left) < udp(entries) {
		t.Errorf("flows of the last uplink were deleted: %d of %d are left", udp(left), udp(entries))
	}

	c.Mark("first back")
	must(t, c.Restore("isp1"))
	shares(t, c, "r1", 1, 0, 0)
	must(t, c.Wait("the alarm ends", "r1", 10*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 }))
	fresh("cable back", site.WAN1)
	must(t, c.Restore("isp2"))
	must(t, c.Restore("isp3"))
	must(t, c.Settled("r1", "r1", 5*time.Second))
	shares(t, c, "r1", 171./256, 85./256, 0)

	r, err := client.Stop()
	must(t, err)
	for _, f := range r.On("isp1", "dsl") {
		for i, s := range f.Seen {
			if i > 0 && s.At < r.Mark("both") {
				t.Errorf("%s moved from cable to %v although cable was well", f.Name, s.From)
			}
		}
		if lost := f.Lost(r.Mark("dsl"), r.Mark("both")); lost > 0 {
			t.Errorf("%s on cable lost %d datagrams when dsl died", f.Name, lost)
		}
	}
	for _, f := range r.On("isp2", "dsl") {
		moves := 0
		for _, s := range f.Seen {
			if s.At > r.Mark("dsl") && s.At < r.Mark("both") {
				moves++
			}
		}
		if moves != 1 { // away, and not back
			t.Errorf("%s moved %d times when dsl died and returned, want 1: %v", f.Name, moves, f.Seen)
		}
	}
	if len(r.On("isp1", "dsl")) == 0 || len(r.On("isp2", "dsl")) == 0 {
		t.Error("the flows did not use both uplinks: the test shows nothing")
	}
}

// tiers: method priority takes the first of the lowest tier that lives.
func tiers(t *testing.T, c *site.Cluster) {
	again(t, c, "r1", balanced("policies: [{name: default, method: priority, uplinks: [dsl, spare, cable]}]\n",
		cableLine+", tier: 1, "+quick, dslLine+", tier: 1, "+quick, spareLine+", tier: 2, "+quick))
	must(t, c.Settled("r1", "r1", 8*time.Second))
	step := func(what string, want netip.Addr, parts ...float64) {
		t.Helper()
		shares(t, c, "r1", parts...)
		only(t, what, works(t, what, connect(t, c, "h1", echo(site.Server), 30)), want)
	}
	step("the first of tier 1", site.WAN2, 0, 1, 0)
	must(t, c.BlackholeBeyond("isp2"))
	step("the second of tier 1", site.WAN1, 1, 0, 0)
	must(t, c.BlackholeBeyond("isp1"))
	step("tier 2", wan3, 0, 0, 1)
	must(t, c.Restore("isp1"))
	must(t, c.Restore("isp2"))
	step("the first again", site.WAN2, 0, 1, 0)
}

// sparse: an uplink that finds its gateway in the main table, one without
// virtual addresses, and one without targets.
func sparse(t *testing.T, c *site.Cluster) {
	again(t, c, "r1", balanced("",
		"virtual_addresses: [203.0.113.10/25], "+quick,
		"gateway: 203.0.113.129, "+quick,
		spareLine+", probe: {interval: 200ms, timeout: 200ms, fall: 3, rise: 2}"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	shares(t, c, "r1", 0, .5, .5) // no gateway is known
	must(t, c.Router("r1").IP("route add default via 203.0.113.1 dev wan1 metric 500"))
	must(t, c.Settled("r1", "r1", 5*time.Second))
	shares(t, c, "r1", 86./256, 85./256, 85./256)
	own := netip.MustParseAddr("203.0.113.130")
	seen := works(t, "all three", connect(t, c, "h1", echo(site.Server), 90))
	only(t, "all three", seen, site.WAN1, own, wan3)
	if len(seen) != 3 { // (2/3)^90 by chance
		t.Errorf("only %v were used", seen)
	}
	works(t, "the master itself", connect(t, c, "r1", echo(site.Server), 10))
	must(t, c.Blackhole("isp3")) // its gateway does not answer ARP any more
	shares(t, c, "r1", .5, .5, 0)
	only(t, "without spare", works(t, "without spare", connect(t, c, "h1", echo(site.Server), 30)), site.WAN1, own)
	must(t, c.Restore("isp3"))
	must(t, c.Settled("r1", "r1", 5*time.Second))
	// The ISP moves its gateway; the new one (r2, which does not forward) leads
	// nowhere, so it must have been taken.
	must(t, c.Router("r1").IP("route add default via 203.0.113.3 dev wan1 metric 400"))
	shares(t, c, "r1", 0, .5, .5)
	must(t, c.Router("r1").IP("route del default via 203.0.113.3 dev wan1 metric 400"))
	shares(t, c, "r1", 86./256, 85./256, 85./256)
}
