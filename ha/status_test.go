package ha

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

// What DESIGN.md §4 promises to programs, with nothing known.
func TestStatusOfAnIgnorantNode(t *testing.T) {
	t.Parallel()
	s := Status{
		Cluster: "home", Node: "r1", Since: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), Version: "1",
		VirtualAddresses: []AddressStatus{{Address: netip.MustParsePrefix("192.168.77.1/24"), Device: "lan0"}},
		Nodes:            []NodeStatus{{Name: "r2", Address: netip.MustParseAddr("192.0.2.2"), Priority: 150}},
		Uplinks:          []UplinkStatus{{Name: "cable", ID: 1, Device: "wan1"}},
		Policies:         []PolicyStatus{{Name: "default", Method: "weighted"}},
		ConntrackSync:    SyncStatus{Peers: []SyncPeer{{Name: "r2", State: SyncOff}}},
		Drops:            Drops{VRRP: map[string]uint64{"ttl": 3, "count": 1}},
	}
	const want = `{
 "cluster":"home","node":"r1","role":"unknown","since":"2026-11-21T12:00:00Z","version":"1",
 "config":{"hash":"","in_sync":false,"generation":0,"trial":false},
 "vrrp":{"id":0,"version":0,"priority":0,"effective_priority":0,"advertise_ms":0,"master":"","transitions":0},
 "virtual_addresses":[{"address":"192.168.77.1/24","device":"lan0","present":false,"held_by":""}],
 "nodes":[{"name":"r2","address":"192.0.2.2","alive":false,"role":"unknown","priority":150,"effective_priority":null,
   "config_hash":"","version":"","maintenance":false,"held":false,"since":null,"heard_ms":null,"flows":null}],
 "uplinks":[{"name":"cable","id":1,"device":"wan1","state":"unknown","enabled":false,"since":null,"share":0,"rtt_ms":null,"loss":null,
   "flows":null,"rx_bps":null,"tx_bps":null,"views":{}}],
 "policies":[{"name":"default","method":"weighted","shares":{}}],
 "plan_hash":"",
 "conntrack_sync":{"peers":[{"name":"r2","state":"off","progress":null,"lag_ms":null,"flows_here":null,"flows_there":null,"resyncs":0,"dropped":{}}]},
 "repairs":{"address":0,"rule":0,"route":0,"table":0,"sysctl":0},
 "drops":{"vrrp":{"ttl":3,"checksum":0,"sender":0,"version":0,"length":0,"forged":0,"count":1},"gossip":{"key":0,"garbage":0},"sync":{},"firewall":{}},
 "alarms":[]}`
	got, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(decoded(t, []byte(want)), decoded(t, got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s.Alarms != nil || s.Uplinks[0].Views != nil || len(s.Drops.VRRP) != 2 {
		t.Error("writing a status changed it")
	}
	empty, err := json.Marshal(Status{})
	if err != nil {
		t.Fatal(err)
	}
	lists := decoded(t, empty).(map[string]any)
	for _, k := range []string{"virtual_addresses", "nodes", "uplinks", "policies", "alarms"} {
		if l, ok := lists[k].([]any); !ok || len(l) != 0 {
			t.Errorf("%s: %v", k, lists[k])
		}
	}
}

func decoded(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The client reads what the daemon wrote.
func TestStatusRoundTrip(t *testing.T) {
	t.Parallel()
	at, rtt, loss, n, e, ms := time.Date(2026, 11, 21, 12, 0, 0, 5e8, time.UTC), 1.2, 0.5, uint64(7), uint8(149), int64(40)
	want := Status{
		Cluster: "home", Node: "r1", Role: RoleMaster, Since: at, Version: "1", PlanHash: "p",
		Config:           ConfigStatus{Hash: "h", InSync: true},
		VRRP:             VRRPStatus{ID: 51, Version: 3, Priority: 200, EffectivePriority: 149, AdvertiseMS: 100, Master: "r1", Transitions: 2},
		VirtualAddresses: []AddressStatus{{Address: netip.MustParsePrefix("2001:db8::1/64"), Device: "lan0", Present: true, HeldBy: "r1"}},
		Nodes: []NodeStatus{{
			Name: "r1", Address: netip.MustParseAddr("2001:db8::2"), Alive: true, Role: RoleMaster, Priority: 200,
			EffectivePriority: &e, ConfigHash: "h", Version: "1", Since: &at, HeardMS: &ms, Flows: &n,
		}},
		Uplinks: []UplinkStatus{{
			Name: "cable", ID: 1, Device: "wan1", State: balancer.Degraded, Since: &at, Share: 0.668, RTTMS: &rtt, Loss: &loss,
			Flows: &n, RxBPS: &n, TxBPS: &n, Views: map[string]balancer.Verdict{"r1": balancer.Down, "r2": balancer.Disabled},
		}},
		Policies:      []PolicyStatus{{Name: "default", Method: "weighted", Shares: map[string]float64{"cable": 0.668}}},
		ConntrackSync: SyncStatus{Peers: []SyncPeer{{Name: "r2", State: SyncSynced, LagMS: &rtt, FlowsHere: &n, FlowsThere: &n, Resyncs: 1, Dropped: map[string]uint64{"x": 1}}}},
		Repairs:       Repairs{1, 2, 3, 4, 5},
		Drops: Drops{
			VRRP:   map[string]uint64{"ttl": 1, "checksum": 2, "sender": 3, "version": 4, "length": 5, "forged": 6},
			Gossip: map[string]uint64{"key": 7, "garbage": 8}, Sync: map[string]uint64{"x": 9}, Firewall: map[string]uint64{"syn": 1},
		},
		Alarms: []Alarm{{Code: "deaf", Subject: "lan0", Since: at, Text: "t"}},
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Status
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	opts := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if d := cmp.Diff(want, got, opts, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
