package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/balancer/probe"
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
