package main

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/balancer/probe"
	"harouter/vrrp"
	"harouter/vrrp/vip"
	"harouter/vrrp/wire"
)

// TestProbes: what the file says of probes reaches the prober.
func TestProbes(t *testing.T) {
	s, err := parse("x.yaml", []byte(`cluster: home
nodes: {r1: {address: 192.0.2.1, devices: {lte: wwan7}}}
uplinks:
  - {name: cable, device: wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25],
     probe: {interval: 200ms, timeout: 300ms, quorum: 2, targets: [198.51.100.1, {address: 198.51.100.2, method: tcp, port: 25},
       {address: 198.51.100.3, method: dns, name: example.org}, {address: 198.51.100.4, method: http, url: "https://example.org/"},
       {address: 203.0.113.2, method: arp}]}}
  - {name: lte, device: wwan0, gateway: 203.0.113.129, virtual_addresses: [203.0.113.140/25], metered: true, probe: {method: arp}}
`), "r1")
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	want := []probe.Uplink{
		{Name: "cable", Device: "wan1", Mark: 0x100, Gateway: a("203.0.113.1"), Quorum: 2, Interval: 200 * time.Millisecond, Timeout: 300 * time.Millisecond,
			Targets: []probe.Target{
				{Address: a("198.51.100.1")},
				{Address: a("198.51.100.2"), Method: probe.TCP, Port: 25},
				{Address: a("198.51.100.3"), Method: probe.DNS, Name: "example.org"},
				{Address: a("198.51.100.4"), Method: probe.HTTP, URL: "https://example.org/"},
				{Address: a("203.0.113.2"), Method: probe.ARP},
			}},
		{Name: "lte", Device: "wwan7", Mark: 0x200, Gateway: a("203.0.113.129"), Quorum: 1, Interval: 10 * time.Second, Timeout: 800 * time.Millisecond},
	}
	if diff := cmp.Diff(want, s.probes(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

// TestReplicatesToOthers: where there is no other node nothing is listened to.
func TestReplicatesToOthers(t *testing.T) {
	for _, c := range []struct {
		name, nodes, more string
		want              bool
	}{
		{"a pair", "{r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}}", "", true},
		{"off", "{r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}}", "conntrack_sync: {enabled: false}\n", false},
		{"alone", "{r1: {address: 192.0.2.1}}", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := parse("x.yaml", []byte("cluster: home\nnodes: "+c.nodes+"\n"+c.more), "r1")
			if err != nil {
				t.Fatal(err)
			}
			if got := (&daemon{}).replicated(s).Enabled; got != c.want {
				t.Errorf("listens to the connection table: %v, want %v", got, c.want)
			}
		})
	}
}

// TestVirtualMACs: all parts name the device with the virtual MAC, and uplinks
// that have one carry adverts.
func TestVirtualMACs(t *testing.T) {
	s, err := parse("x.yaml", []byte(`cluster: home
nodes: {r1: {address: 192.0.2.1, devices: {wlan: br0}}, r2: {address: 192.0.2.2}}
lans: [{name: wlan, device: lan0, virtual_addresses: [192.168.77.1/24], virtual_mac: true}]
uplinks:
  - {name: cable-of-the-house, device: wan1, vrid: 52, virtual_mac: true, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25]}
  - {name: dsl, device: wan2, gateway: 203.0.113.129, virtual_addresses: [203.0.113.140/25]}
`), "r1")
	if err != nil {
		t.Fatal(err)
	}
	four := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}
	long := macDevice(true, "cable-of-the-house", four, false)
	if len(long) > 15 || long == macDevice(true, "cable-of-the-hous", four, false) || macDevice(false, "dsl", four, false) != "" || macDevice(true, "dsl", four, true) != "" {
		t.Errorf("the name %q", long)
	}
	v := s.vip()
	wantMACs := []vip.VirtualMAC{
		{Name: "hrv-wlan", Parent: "br0", MAC: virtualMAC(51, false)},
		{Name: long, Parent: "wan1", MAC: virtualMAC(52, false)},
	}
	if diff := cmp.Diff(wantMACs, v.MACs); diff != "" {
		t.Error(diff)
	}
	var on []string
	for _, a := range v.Addresses {
		on = append(on, a.Device)
	}
	for _, o := range v.Own {
		on = append(on, o.Device)
	}
	if diff := cmp.Diff([]string{"hrv-wlan", long, "wan2", "br0", "wan1", "wan2"}, on); diff != "" {
		t.Error(diff)
	}
	var links []string
	for _, l := range s.wire().Links {
		links = append(links, fmt.Sprint(l.Name, " ", l.Device, " ", l.MACDevice, " ", l.VRID))
	}
	if diff := cmp.Diff([]string{"wlan br0 hrv-wlan 51", "cable-of-the-house wan1 " + long + " 52"}, links); diff != "" {
		t.Error(diff)
	}
	h, err := s.ha()
	if err != nil {
		t.Fatal(err)
	}
	if !h.OneHolder || h.VRIDs["cable-of-the-house"] != 52 || h.Balancer.Uplinks[0].MACDevice != long || h.Balancer.Uplinks[1].MACDevice != "" {
		t.Errorf("%+v", h)
	}
}

// TestSix: each part gets the addresses of IPv6 as it needs them.
func TestSix(t *testing.T) {
	s, err := parse("x.yaml", []byte(`cluster: home
nodes: {r1: {addresses: [fd00::1, 192.0.2.1]}, r2: {addresses: [fd00::2, 192.0.2.2]}}
lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24, 2001:db8::1/64]}
  - {name: lab, device: lan1, vrid: 52, virtual_mac: true, virtual_addresses: [fe80::1/64, 10.0.0.1/24]}
uplinks: [{name: cable, device: wan1, gateway: 203.0.113.1, virtual_addresses: [2001:db8:9::1/64, 203.0.113.10/25]}]
`), "r2")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	v := s.vip()
	for _, a := range v.Addresses {
		got = append(got, a.String())
	}
	for _, o := range v.Own {
		got = append(got, fmt.Sprintf("own %v on %s", o.Prefix, o.Device))
	}
	for _, m := range v.MACs {
		got = append(got, fmt.Sprintf("%s on %s: %v", m.Name, m.Parent, m.MAC))
	}
	w := s.wire()
	got = append(got, fmt.Sprintf("adverts from %v to %v about %v", w.Local, w.Peers, w.UnicastAddresses))
	for _, l := range w.Links {
		got = append(got, fmt.Sprintf("%s: %v over %q and %q", l.Name, l.Addresses, l.MACDevice, l.MACDevice6))
	}
	h, err := s.ha()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range h.Nodes {
		got = append(got, fmt.Sprintf("%s %v via %v", n.Name, n.Address, n.Via))
	}
	want := []string{
		"192.168.77.1/24 on lan0", "2001:db8::1/64 on lan0", "fe80::200:5eff:fe00:233/64 on lan0", "fe80::1/64 on hrv6-lab", "10.0.0.1/24 on hrv-lab",
		"2001:db8:9::1/64 on wan1", "203.0.113.10/25 on wan1",
		"own 169.254.51.2/32 on lan0", "own fe80::a9fe:3302/128 on lan0", "own 169.254.52.2/32 on lan1", "own fe80::a9fe:3402/128 on lan1", "own 169.254.51.2/32 on wan1",
		"hrv-lab on lan1: 00:00:5e:00:01:34", "hrv6-lab on lan1: 00:00:5e:00:02:34",
		"adverts from fd00::2 to [fd00::1] about [192.168.77.1 2001:db8::1 fe80::200:5eff:fe00:233]",
		`office: [192.168.77.1 2001:db8::1 fe80::200:5eff:fe00:233] over "" and ""`,
		`lab: [fe80::1 10.0.0.1] over "hrv-lab" and "hrv6-lab"`,
		"r1 fd00::1 via 192.0.2.1", "r2 fd00::2 via 192.0.2.2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := wire.New(w); err != nil {
		t.Error(err)
	}
}

// TestElection: what the file says of the election reaches sockets and machine.
func TestElection(t *testing.T) {
	for _, c := range []struct {
		name, vrrp string
		want       wire.Config
	}{
		{"as it comes", "{}", wire.Config{VRID: 51, Version: 3, Interval: 100 * time.Millisecond, Lease: 250 * time.Millisecond}},
		{"version 3, plain", "{checksum: plain, foreign: [192.168.77.9]}",
			wire.Config{VRID: 51, Version: 3, Checksum: vrrp.ChecksumPlain, Interval: 100 * time.Millisecond, Lease: 250 * time.Millisecond}},
		{"version 2", "{version: 2, authentication: apple, id: 7}",
			wire.Config{VRID: 7, Version: 2, Password: "apple", Interval: time.Second, Lease: 2500 * time.Millisecond}},
		{"unicast only: foreign routers hear no group", "{unicast_only: true, foreign: [192.168.77.9]}",
			wire.Config{VRID: 51, Version: 3, Interval: 100 * time.Millisecond, Lease: 250 * time.Millisecond, UnicastOnly: true,
				Peers: []netip.Addr{netip.MustParseAddr("192.168.77.9")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := parse("x.yaml", []byte("cluster: home\nnodes: {r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}}\nvrrp: "+c.vrrp+`
lans: [{name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}, {name: lab, device: lan1, vrid: 52, virtual_addresses: [10.0.0.1/24]}]
`), "r1")
			if err != nil {
				t.Fatal(err)
			}
			office, lab := netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("10.0.0.1")
			want := c.want
			want.Local, want.Peers = netip.MustParseAddr("192.0.2.1"), append([]netip.Addr{netip.MustParseAddr("192.0.2.2")}, want.Peers...)
			slices.SortFunc(want.Peers, netip.Addr.Compare)
			want.Links = []wire.Link{
				{Name: "office", Device: "lan0", Addresses: []netip.Addr{office}, VRID: want.VRID},
				{Name: "lab", Device: "lan1", Addresses: []netip.Addr{lab}, VRID: 52},
			}
			want.Virtual, want.UnicastAddresses = []netip.Addr{office, lab}, []netip.Addr{office}
			if diff := cmp.Diff(want, s.wire(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
			h, err := s.ha()
			if err != nil {
				t.Fatal(err)
			}
			got := []any{h.VRID, h.VRIDs, h.VRRPVersion, h.Advertise}
			if diff := cmp.Diff([]any{want.VRID, map[string]uint8{"office": want.VRID, "lab": 52}, uint8(want.Version), want.Interval}, got); diff != "" {
				t.Error(diff)
			}
			if own := s.vip().Own; own[1].Prefix.String() != "169.254.52.1/32" {
				t.Errorf("own address on the lab: %v", own[1].Prefix)
			}
		})
	}
}

// TestOutsideOfFile: what a file before had as an uplink stays outside, and the
// name of a link goes before the words for all.
func TestOutsideOfFile(t *testing.T) {
	read := func(uplinks, allow string) *settings {
		t.Helper()
		s, err := parse("x.yaml", []byte("cluster: home\nnodes: {r1: {address: 192.0.2.1}}\nlans: [{name: lan, device: lan0, virtual_addresses: [192.168.77.1/24]}]\n"+
			"uplinks: ["+uplinks+"]\nfirewall: {allow: [{"+allow+"}]}\n"), "r1")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const (
		wan   = "{name: wan, device: wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25]}"
		dsl   = "{name: dsl, device: wan2, gateway: 203.0.113.129, virtual_addresses: [203.0.113.140/25]}"
		cable = "{name: cable, device: wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25]}"
	)
	both := read(wan+", "+dsl, "ports: 22")
	one := read(wan, "ports: 22")
	one.former = both.formerly(one)
	if d := cmp.Diff([]string{"wan2"}, one.firewall().Former); d != "" {
		t.Errorf("an uplink less: -want +got:\n%s", d)
	}
	if got := one.formerly(both); len(got) > 0 {
		t.Errorf("it is back, and still former: %v", got)
	}
	for name, v := range map[string]struct {
		s    *settings
		want []string // of the uplinks; none: all
		none bool
	}{
		"no from":            {s: both},
		"wan, an uplink's":   {s: read(wan+", "+dsl, "from: wan, ports: 22"), want: []string{"wan"}},
		"wan, nobody's name": {s: read(cable+", "+dsl, "from: wan, ports: 22")},
		"lan, a lan's":       {s: read(cable+", "+dsl, "from: lan, ports: 22"), none: true},
	} {
		allows := v.s.firewall().Allow
		if v.none {
			if len(allows) > 0 {
				t.Errorf("%s: %v, want none", name, allows)
			}
			continue
		}
		if d := cmp.Diff(v.want, allows[0].Uplinks); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
}
