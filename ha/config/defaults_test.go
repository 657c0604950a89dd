package config

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// TestDefaults says each default once more, in the words of DESIGN.md §3.
func TestDefaults(t *testing.T) {
	icmp := Probe{
		Targets: []Target{{Address: netip.MustParseAddr("198.51.100.1"), Method: "icmp"}},
		Method:  "icmp", Interval: time.Second, Timeout: 800 * time.Millisecond, Fall: 3, Rise: 5, Quorum: 1,
	}
	want := &Config{
		Cluster: "home",
		Nodes: []Node{
			{Name: "r1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Priority: 100},
			{Name: "r2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Priority: 100},
		},
		VRRP: VRRP{
			ID: 51, Version: 3, Advertise: 100 * time.Millisecond, Preempt: true, PreemptDelay: 10 * time.Second,
			Checksum: "pseudo", Accept: true,
			Check: Check{Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 3},
		},
		Lans: []Lan{{Name: "office", Device: "lan0", Virtual: []netip.Prefix{netip.MustParsePrefix("192.168.77.1/24")}, VRID: 51}},
		Uplinks: []Uplink{
			{Name: "a", ID: 1, Device: "w1", Gateway: Gateway{Kind: "auto"}, Virtual: []netip.Prefix{netip.MustParsePrefix("203.0.113.10/25")},
				Weight: 1, Tier: 1, Probe: icmp, VRID: 51},
			{Name: "b", ID: 2, Device: "w2", Gateway: Gateway{Kind: "auto"}, Virtual: []netip.Prefix{netip.MustParsePrefix("203.0.113.140/25")},
				Weight: 1, Tier: 1, Probe: icmp, VRID: 51},
		},
		Policies: []Policy{{
			Name: "default", Method: "weighted",
			Persistence:   Persistence{By: "source-destination", Timeout: 10 * time.Minute},
			Overflow:      Overflow{Enter: 0.9, Leave: 0.75, Hold: 5 * time.Second},
			LatencyMargin: LatencyMargin{Percent: 10, Time: 5 * time.Millisecond, Rounds: 3},
			Race:          "learn", WhenNone: "next", OnRecovery: "keep",
		}},
		Balance:  Balance{MarkMask: 0x3f00, TableBase: 7000, RulePriority: 7000, FlapHold: FlapHold{Hold: 10 * time.Second, Max: 5 * time.Minute}, ResetClients: true},
		Firewall: Firewall{Enabled: true, Log: true, Antispoof: true, ICMPLimit: Rate{500, "second"}, SYNLimit: Rate{200, "second"}, MSS: "clamp"},
		ConntrackSync: ConntrackSync{Enabled: true, Timeout: time.Minute,
			Protocols: []string{"tcp", "udp", "icmp", "sctp", "gre"}},
		Hooks: Hooks{Directory: "hooks", Timeout: 30 * time.Second},
		Ports: Ports{Gossip: 7946, Sync: 7947},
		Log:   Log{Level: "info"},
	}
	short := mustParse(t, site(nil))
	want.Hash = short.Hash
	if diff := cmp.Diff(want, short, byValue); diff != "" {
		t.Errorf("defaults:\n%s", diff)
	}
	long := mustParse(t, string(read(t, "testdata/defaults.yaml")))
	want.Hash = long.Hash
	if diff := cmp.Diff(want, long, byValue); diff != "" {
		t.Errorf("the same, written out:\n%s", diff)
	}
	if short.Hash == long.Hash || len(long.Hash) != 64 {
		t.Errorf("hashes %q and %q", short.Hash, long.Hash)
	}
}

// TestValues: what is set arrives.
func TestValues(t *testing.T) {
	c := mustParse(t, `
cluster: "2024"
nodes:
  r1.example.org: {address: 192.0.2.1, priority: 254, devices: {office: br-lan.7, b: enp3s0}}
  r2: {address: 169.254.7.2}
vrrp: {id: 255, advertise: 40.95s, preempt: false, preempt_delay: 1m30s, checksum: plain, unicast_only: true, foreign: [10.9.9.9]}
lans: [{name: office, device: lan0, virtual_addresses: [192.168.77.1/24, 192.168.77.2/24, 192.168.77.3/32, 10.0.0.1/31]}]
uplinks:
  - {name: a, id: 63, device: w1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25], weight: 255, tier: 16,
     probe: {targets: [198.51.100.1, {address: 198.51.100.2}], interval: 10ms, timeout: 1ms, fall: 1, rise: 1, quorum: 2}}
  - {name: b, device: w2, gateway: auto, virtual_addresses: [203.0.113.140/25], weight: 0, probe: {targets: [198.51.100.2]}}
policies: [{name: default, method: priority, uplinks: [b, a], weights: {b: 7}}]
balance: {mark_mask: 16128, table_base: 189, rule_priority: 31766}
conntrack_sync: {enabled: false}
ports: {gossip: 1, sync: 65535}
log: {level: warn, parts: {vrrp: debug}}
`)
	got := []any{
		c.Cluster, c.Nodes[0].Name, c.Nodes[0].Priority, c.Nodes[1].Addresses[0].String(),
		c.VRRP.ID, c.VRRP.Advertise, c.VRRP.Preempt, c.VRRP.PreemptDelay, c.VRRP.Checksum, c.VRRP.UnicastOnly, c.VRRP.Foreign[0].String(),
		c.Lans[0].VRID, len(c.Lans[0].Virtual),
		c.Uplinks[0].ID, c.Uplinks[0].Gateway, c.Uplinks[0].Weight, c.Uplinks[0].Tier, len(c.Uplinks[0].Probe.Targets), c.Uplinks[0].Probe.Quorum,
		c.Uplinks[0].Probe.Timeout, c.Uplinks[1].ID, c.Uplinks[1].Weight,
		c.Policies[0].Method, c.Policies[0].Uplinks, c.Policies[0].Weights,
		c.Balance.MarkMask, c.Balance.MarkMask.Max(), c.Balance.TableBase, c.ConntrackSync.Enabled, c.Ports, c.Log,
		c.Device("r1.example.org", "office"), c.Device("r1.example.org", "b"), c.Device("r1.example.org", "a"), c.Device("r2", "office"), c.Device("r2", "none"),
	}
	want := []any{
		"2024", "r1.example.org", uint8(254), "169.254.7.2",
		uint8(255), 40950 * time.Millisecond, false, 90 * time.Second, ChecksumPlain, true, "10.9.9.9",
		uint8(255), 4,
		63, Gateway{GatewayStatic, netip.MustParseAddr("203.0.113.1")}, 255, 16, 2, 2,
		time.Millisecond, 2, 0,
		MethodPriority, []string{"b", "a"}, map[string]int{"b": 7},
		Mask(0x3f00), 63, 189, false, Ports{1, 65535}, Log{"warn", map[string]Level{"vrrp": "debug"}},
		"br-lan.7", "enp3s0", "w1", "lan0", "",
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Error(diff)
	}
}

// TestVersion2: its interval has another default, and a lan may have a number
// of its own.
func TestVersion2(t *testing.T) {
	c := mustParse(t, site(map[string]string{
		"vrrp": "{version: 2, authentication: secret, id: 7}",
		"lans": "[{name: x, device: d, virtual_addresses: [10.0.0.1/8], vrid: 52}, {name: y, device: e, virtual_addresses: [172.16.0.1/16]}]",
	}))
	got := []any{c.VRRP.Version, c.VRRP.Advertise, c.VRRP.Authentication, c.Lans[0].VRID, c.Lans[1].VRID}
	if diff := cmp.Diff([]any{uint8(2), time.Second, "secret", uint8(52), uint8(7)}, got); diff != "" {
		t.Error(diff)
	}
}

// TestTargets: what a target says of itself, and what it has of the probe.
func TestTargets(t *testing.T) {
	got := mustParse(t, site(map[string]string{"uplinks": probe(`{method: tcp, targets: [198.51.100.1, {address: 198.51.100.2, port: 25},
  {address: 198.51.100.1, method: icmp}, {address: 198.51.100.3, method: dns, name: example.org, port: 5353},
  {address: 198.51.100.3, method: http, url: "https://example.org/"}, {address: 203.0.113.1, method: arp}], quorum: 6}`)})).Uplinks[0].Probe.Targets
	a := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, n}) }
	want := []Target{
		{Address: a(1), Method: ProbeTCP}, {Address: a(2), Method: ProbeTCP, Port: 25}, {Address: a(1), Method: ProbeICMP},
		{Address: a(3), Method: ProbeDNS, Port: 5353, Name: "example.org"}, {Address: a(3), Method: ProbeHTTP, URL: "https://example.org/"},
		{Address: netip.MustParseAddr("203.0.113.1"), Method: ProbeARP},
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Error(diff)
	}
}

// TestForms: what can be written in several ways, or leaves something out.
func TestForms(t *testing.T) {
	half := func(text string) any {
		return mustParse(t, site(map[string]string{"uplinks": probe("{targets: [198.51.100.1], " + text + "}")})).Uplinks[0].Probe
	}
	limits := func(l Threshold[Fraction], a, j Threshold[time.Duration]) any {
		p := defaultUplink(VRRP{}, 1).Probe
		p.Targets = []Target{{Address: netip.MustParseAddr("198.51.100.1"), Method: "icmp"}}
		p.Loss, p.Latency, p.Jitter = l, a, j
		return p
	}
	hold := func(text string) any {
		return mustParse(t, site(map[string]string{"balance": "{flap_hold: " + text + "}"})).Balance.FlapHold
	}
	paths := func(text string) any {
		return mustParse(t, site(map[string]string{"nodes": text})).Nodes[0].Addresses
	}
	none, ms := Threshold[time.Duration]{}, time.Millisecond
	for name, test := range map[string]struct{ got, want any }{
		"both limits":        {half("loss: {degraded: 10%, clear: 2.5%}"), limits(Threshold[Fraction]{0.1, 0.025}, none, none)},
		"half of it":         {half("loss: {degraded: 9%}, latency: {degraded: 300ms}"), limits(Threshold[Fraction]{0.09, 0.045}, Threshold[time.Duration]{300 * ms, 150 * ms}, none)},
		"down to nothing":    {half("loss: {degraded: 1%, clear: 0%}, jitter: {degraded: 20ms, clear: 0ms}"), limits(Threshold[Fraction]{0.01, 0}, none, Threshold[time.Duration]{20 * ms, 0})},
		"hold":               {hold("30s"), FlapHold{30 * time.Second, 5 * time.Minute}},
		"hold above max":     {hold("10m"), FlapHold{10 * time.Minute, 10 * time.Minute}},
		"no hold":            {hold("0"), FlapHold{0, 5 * time.Minute}},
		"hold and max":       {hold("{hold: 1s, max: 2h}"), FlapHold{time.Second, 2 * time.Hour}},
		"max alone":          {hold("{max: 1m}"), FlapHold{10 * time.Second, time.Minute}},
		"hold alone, longer": {hold("{hold: 6m}"), FlapHold{6 * time.Minute, 6 * time.Minute}},
		"two paths, in order": {paths("{r1: {addresses: [192.0.2.1, 10.0.0.1]}}"),
			[]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.1")}},
	} {
		if diff := cmp.Diff(test.want, test.got, byValue); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	for f, want := range map[Fraction]string{0.55: "55%", 0.07: "7%", 0.9: "90%", 0.005: "0.5%"} {
		if f.String() != want {
			t.Errorf("%v: %s", float64(f), f)
		}
	}
}

// TestSmallSites: what the contract calls legal.
func TestSmallSites(t *testing.T) {
	none := "there are neither lans nor uplinks: the nodes only watch each other"
	for name, test := range map[string]struct {
		change map[string]string
		warn   []string
	}{
		"one node":                   {map[string]string{"nodes": "{r1: {address: 127.0.0.1}}"}, []string{"warning: node r1: 127.0.0.1 is reached by no other node; before a second one joins, write an address that it reaches"}},
		"no lan":                     {map[string]string{"lans": "-"}, nil},
		"empty lans":                 {map[string]string{"lans": ""}, nil},
		"no uplink":                  {map[string]string{"uplinks": "-"}, nil},
		"default policy, no uplinks": {map[string]string{"uplinks": "[]", "policies": "[{name: default}]"}, nil},
		"nothing but nodes":          {map[string]string{"uplinks": "-", "lans": "-"}, []string{"warning: " + none}},
		"two lines in one network": {map[string]string{"uplinks": "[{name: a, device: w1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/32], probe: {targets: [198.51.100.1]}}, " +
			"{name: b, device: w2, gateway: 203.0.113.1, virtual_addresses: [203.0.113.11/32], probe: {targets: [198.51.100.1]}}]"}, nil},
	} {
		c, ps := Parse("test.yaml", []byte(site(test.change)))
		if c == nil {
			t.Errorf("%s: %v", name, ps)
			continue
		}
		if diff := cmp.Diff(test.warn, texts(ps)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if n := len(c.Policies); n != 1 || c.Policies[0].Name != DefaultPolicy {
			t.Errorf("%s: policies %v", name, c.Policies)
		}
	}
}
