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

// ownLines is a file for one router whose lines have no virtual addresses: one
// with a lease, one between two points.
const ownLines = `cluster: home
nodes:
  r1: {address: 192.0.2.1}
vrrp: {id: 51, advertise: 400ms}
balance: {flap_hold: 0s}
uplinks:
  - {name: cable, device: wan1, gateway: dhcp, probe: {targets: [198.51.100.1, 198.51.100.2], interval: 100ms, timeout: 100ms, fall: 4, rise: 2}}
  - {name: dsl, device: wan2, gateway: ppp, probe: {targets: [198.51.100.1, 198.51.100.2], interval: 100ms, timeout: 100ms, fall: 4, rise: 2}}
`

// routed adds two lans, of which one may use a single line, a forward, and the page
// of a modem.
const routed = ownLines + `lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}
  - {name: guests, device: lan1, virtual_addresses: [192.168.78.1/24]}
policies:
  - {name: of-guests, match: {lan: guests}, uplinks: [dsl], when_none: drop}
  - {name: default, method: weighted}
firewall:
  groups: [[office, ":uplinks"], [guests, dsl]]
  forward: [{port: 7007, to: 192.168.77.100, protocol: udp}]
routes:
  - {to: 192.168.100.0/24, device: wan1, masquerade: true}
`

// single is the same machine without lans: what is balanced is its own traffic.
const single = ownLines + `policies:
  - {name: mail, match: {router: true, destination: 198.51.100.8}, method: enforced, uplinks: [dsl]}
  - {name: default, method: weighted}
`

// TestOwnLines: groups, an extra network, a lease that changes and a device that
// vanishes on one router; then the same machine on its own.
func TestOwnLines(t *testing.T) {
	t.Parallel()
	spec := netlab.Pair(netlab.PairOptions{Routers: 1, WANOwn: true})
	spec.LANs = append(spec.LANs, netlab.LANSpec{Name: "guests", Net: netip.MustParsePrefix("192.168.78.0/24"), Own: true, Hosts: 1})
	for i := 3; i <= 16; i++ {
		spec.Servers = append(spec.Servers, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	c := build(t, spec, routed)
	r1 := c.Router("r1")
	sh := func(n *netlab.Node, line string) string {
		t.Helper()
		out, err := n.Exec("sh", "-ec", line)
		must(t, err)
		return out
	}
	// What a DHCP client and pppd write, the latter with nodefaultroute.
	sh(r1, "ip route add default via 203.0.113.1 dev wan1 metric 100 proto dhcp")
	sh(c.ISP("isp2"), "sysctl -qw net.ipv4.conf.wan0.proxy_arp=1 net.ipv4.neigh.wan0.proxy_delay=0")
	sh(c.ISP("isp1"), "ip addr add 192.168.100.1/24 dev wan0; ip addr add 203.0.113.99/25 dev wan0")
	modem := netip.MustParseAddr("192.168.100.1")
	for _, at := range []struct {
		node string
		addr netip.Addr
	}{{"isp1", modem}, {"h1", netip.MustParseAddr("192.168.77.100")}} {
		_, err := c.Serve(at.node, at.addr)
		must(t, err)
	}
	must(t, c.Up("r1"))
	lease, other := netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.77")
	ppp := netip.MustParseAddr("203.0.113.130")
	main := "ip route show table main default"
	before := sh(r1, main)
	if n := works(t, "office", connect(t, c, "h1", echo(site.Server), 60)); n[lease] == 0 || n[ppp] == 0 || len(n) != 2 {
		t.Errorf("office: sources %v, want some of %v and of %v", n, lease, ppp)
	}

	t.Run("groups", func(t *testing.T) {
		only(t, "guests", works(t, "guests", connect(t, c, "h2", echo(site.Server), 20)), ppp)
		s, err := c.Status("r1")
		must(t, err)
		was := s.Drops.Firewall["group"]
		for _, a := range connect(t, c, "h2", echo(netip.MustParseAddr("192.168.77.100")), 3) {
			if a.OK || !strings.Contains(a.Err, "refused") || a.Took > 500*time.Millisecond {
				t.Errorf("guests to office: %+v, want a refusal at once", a)
			}
		}
		must(t, c.Wait("three are counted", "r1", 2*time.Second, func(s ha.Status) bool { return s.Drops.Firewall["group"] >= was+3 }))
	})

	t.Run("the modem's page", func(t *testing.T) {
		must(t, c.BlackholeBeyond("isp1"))
		must(t, c.Wait("cable is out", "r1", 3*time.Second, func(s ha.Status) bool { return lineOf(s, "cable").Share == 0 }))
		only(t, "office", works(t, "office", connect(t, c, "h1", echo(modem), 10)), lease)
		for _, a := range connect(t, c, "h2", echo(modem), 2) { // it is reached by the device of cable
			if a.OK {
				t.Errorf("guests reach the page: %+v", a)
			}
		}
		must(t, c.Restore("isp1"))
		must(t, c.Settled("r1", "r1", 4*time.Second))
	})

	t.Run("another lease", func(t *testing.T) {
		outside, err := c.Load("net", netlab.Load{Drain: 10 * time.Millisecond, UDP: []netlab.UDPFlows{{Server: echo(lease), Flows: 2, Interval: 20 * time.Millisecond}}})
		must(t, err)
		client := loadLines(t, c)
		at := c.Mark("lease")
		sh(r1, "ip addr add 203.0.113.77/25 dev wan1; ip route replace default via 203.0.113.99 dev wan1 metric 100 proto dhcp; ip addr del 203.0.113.2/25 dev wan1")
		took := time.Duration(0)
		must(t, netlab.WaitFor("the new gateway and address are followed", 5*time.Second, func() bool {
			took = netlab.Now().Sub(at)
			out, err := r1.Exec("sh", "-c", "ip route show table 7001; ip rule")
			return err == nil && strings.Contains(out, "default via 203.0.113.99") && strings.Contains(out, "from 203.0.113.77 ") && !strings.Contains(out, "203.0.113.2 ")
		}))
		atMost(t, "the plan follows a lease", took, time.Second, "100 ms")
		must(t, netlab.WaitFor("nothing hangs on the old address", 3*time.Second, func() bool {
			all, err := r1.Connections(0, 0)
			return err == nil && !slices.ContainsFunc(all, func(f netlab.Connection) bool {
				return f.ReplyDst.Addr() == lease || f.Dst.Addr() == lease
			})
		}))
		time.Sleep(500 * time.Millisecond)
		_, err = outside.Stop()
		must(t, err)
		r := report(t, client)
		flows := r.On("isp1", "lease")
		if len(flows) == 0 {
			t.Error("no flow was on isp1: the test shows nothing")
		}
		for _, f := range flows {
			quietly(t, "silence of "+f.Name, r, f.Gap(at, 0), time.Second, "100 ms")
			if now := f.Source().Addr(); now != other && c.ISPOf(now) != "isp2" {
				t.Errorf("%s has the source %v after the change of lease", f.Name, now)
			}
		}
		stayed(t, c, r, "isp2", "lease")
		must(t, c.Settled("r1", "r1", 4*time.Second))
		if n := works(t, "office", connect(t, c, "h1", echo(site.Server), 40)); n[other] == 0 || n[lease] != 0 {
			t.Errorf("after the change: sources %v, want some of %v", n, other)
		}
	})

	t.Run("a device that vanishes", func(t *testing.T) {
		client := loadLines(t, c)
		at := c.Mark("gone")
		must(t, c.Port("r1", "wan2").Remove())
		must(t, c.Wait("dsl is out", "r1", 2*time.Second, func(s ha.Status) bool { return lineOf(s, "dsl").Share == 0 }))
		only(t, "without it", works(t, "without it", connect(t, c, "h1", echo(site.Server), 20)), other)
		must(t, c.Port("r1", "wan2").Create())
		sh(r1, "ip addr del 203.0.113.130/25 dev wan2; ip addr add 203.0.113.150 peer 203.0.113.129 dev wan2")
		must(t, c.Settled("r1", "r1", 5*time.Second))
		r := report(t, client)
		for _, f := range r.On("isp1", "gone") {
			if n := f.Lost(at, 0); n > underWay {
				t.Errorf("%s of the other line lost %d packets", f.Name, n)
			}
		}
		stayed(t, c, r, "isp1", "gone")
		if n := works(t, "with it again", connect(t, c, "h1", echo(site.Server), 40)); n[netip.MustParseAddr("203.0.113.150")] == 0 {
			t.Errorf("sources %v, want some of its new address", n)
		}
	})

	t.Run("on its own", func(t *testing.T) {
		reloaded(t, c, single, "r1")
		must(t, netlab.WaitFor("the page is no network of ours any more, and no group is left", 2*time.Second, func() bool {
			out, err := r1.Exec("sh", "-c", "ip route show table main proto 200; nft list table inet harouter")
			return err == nil && !strings.Contains(out, "192.168.100.0/24") && !strings.Contains(out, "group")
		}))
		must(t, c.Settled("r1", "r1", 4*time.Second))
		all := func() map[string]int {
			t.Helper()
			isps := map[string]int{}
			for _, server := range spec.Servers {
				for a, n := range works(t, fmt.Sprintf("to %v", server), connect(t, c, "r1", echo(server), 2)) {
					isps[c.ISPOf(a)] += n
				}
			}
			return isps
		}
		if n := all(); n["isp1"] == 0 || n["isp2"] == 0 || len(n) != 2 { // (1/2)^15 by chance
			t.Errorf("the machine's own traffic went over %v, want both", n)
		}
		mail := func(want ...netip.Addr) {
			t.Helper()
			only(t, "mail", works(t, "mail", connect(t, c, "r1", echo(netip.MustParseAddr("198.51.100.8")), 10)), want...)
		}
		mail(netip.MustParseAddr("203.0.113.150"))
		must(t, c.BlackholeBeyond("isp1"))
		must(t, c.Wait("cable is out", "r1", 3*time.Second, func(s ha.Status) bool { return lineOf(s, "cable").Share == 0 }))
		if n := all(); n["isp1"] != 0 {
			t.Errorf("over the dead line: %v", n)
		}
		mail(netip.MustParseAddr("203.0.113.150"))
		must(t, c.Restore("isp1"))
	})
	if now := sh(r1, main); now != strings.Replace(before, "203.0.113.1 ", "203.0.113.99 ", 1) {
		t.Errorf("default routes of the main table: before\n%snow\n%s", before, now)
	}
	noLeaks(t, c)
}
