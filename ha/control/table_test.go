package control

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/ha"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time {
	t := now.Add(-d)
	return &t
}

func ptr[T any](v T) *T { return &v }

// usual is the site of DESIGN.md §4.
func usual() ha.Status {
	return ha.Status{
		Cluster: "home", Node: "r1", Role: ha.RoleMaster,
		Config: ha.ConfigStatus{InSync: true},
		VRRP:   ha.VRRPStatus{Master: "r1"},
		VirtualAddresses: []ha.AddressStatus{
			{Address: netip.MustParsePrefix("192.168.77.1/24"), Device: "lan0", Present: true, HeldBy: "r1"},
			{Address: netip.MustParsePrefix("203.0.113.10/25"), Device: "wan1", Present: true, HeldBy: "r1"},
		},
		Nodes: []ha.NodeStatus{
			{
				Name: "r1", Address: netip.MustParseAddr("192.0.2.1"), Alive: true, Role: ha.RoleMaster, Priority: 200,
				EffectivePriority: ptr[uint8](200), Since: ago(76 * time.Hour), HeardMS: ptr[int64](0), Flows: ptr[uint64](1234),
			},
			{
				Name: "r2", Address: netip.MustParseAddr("192.0.2.2"), Alive: true, Role: ha.RoleBackup, Priority: 150,
				EffectivePriority: ptr[uint8](150), Since: ago(76 * time.Hour), HeardMS: ptr[int64](40),
			},
		},
		Uplinks: []ha.UplinkStatus{
			{
				Name: "cable", ID: 1, State: balancer.Up, Since: ago(76 * time.Hour), Share: 0.668, RTTMS: ptr(1.2), Loss: ptr(0.0),
				Flows: ptr[uint64](821), RxBPS: ptr[uint64](12_100_000), TxBPS: ptr[uint64](1_000_000),
				Views: map[string]balancer.Verdict{"r1": balancer.Up, "r2": balancer.Up},
			},
			{
				Name: "dsl", ID: 2, State: balancer.Down, Since: ago(12 * time.Second), Loss: ptr(1.0),
				Flows: ptr[uint64](0), RxBPS: ptr[uint64](0), TxBPS: ptr[uint64](0),
				Views: map[string]balancer.Verdict{"r1": balancer.Down, "r2": balancer.Down},
			},
		},
		ConntrackSync: ha.SyncStatus{Peers: []ha.SyncPeer{
			{Name: "r2", State: ha.SyncSynced, LagMS: ptr(1.0), FlowsHere: ptr[uint64](1234), FlowsThere: ptr[uint64](1234)},
		}},
	}
}

// troubled has three nodes with long names, and all that can be wrong.
func troubled() ha.Status {
	s := usual()
	const one, two, three = "router-frankfurt-rack-a-1", "router-frankfurt-rack-b-2", "router-frankfurt-rack-c-3"
	s.Cluster, s.Node, s.Role, s.VRRP.Master, s.Config.InSync = "frankfurt-datacenter", two, ha.RoleBackup, one, false
	s.Alarms = []ha.Alarm{
		{Code: "deaf", Subject: "lan0", Since: *ago(12 * time.Second), Text: "no adverts of " + one + " are heard on lan0 although it is alive: look at the switch between the routers, and at the filter of multicast there"},
		{Code: "bad_key", Since: *ago(26 * time.Hour), Text: "192.0.2.9 uses another cluster key"},
	}
	s.Nodes = []ha.NodeStatus{
		{Name: one, Address: netip.MustParseAddr("192.168.177.101"), Alive: true, Role: ha.RoleMaster, Priority: 200, EffectivePriority: ptr[uint8](149), Since: ago(5 * time.Minute), HeardMS: ptr[int64](140)},
		{Name: two, Address: netip.MustParseAddr("192.168.177.102"), Alive: true, Role: ha.RoleBackup, Priority: 150, EffectivePriority: ptr[uint8](150), HeardMS: ptr[int64](0), Flows: ptr[uint64](1234567)},
		{Name: three, Address: netip.MustParseAddr("192.168.177.103"), Role: ha.RoleUnknown, Priority: 100, HeardMS: ptr[int64](754_000)},
	}
	s.ConntrackSync.Peers = []ha.SyncPeer{
		{Name: one, State: ha.SyncSynced, LagMS: ptr(12.0), FlowsThere: ptr[uint64](1234569)},
		{Name: three, State: ha.SyncConnecting},
	}
	s.Uplinks[0].Name, s.Uplinks[0].State, s.Uplinks[0].Since = "telekom-fibre-business", balancer.Degraded, ago(23*time.Hour+59*time.Minute)
	s.Uplinks[0].RTTMS, s.Uplinks[0].Loss, s.Uplinks[0].Flows = ptr(1234.4), ptr(0.024), ptr[uint64](1_200_345)
	s.Uplinks[0].RxBPS, s.Uplinks[0].TxBPS = ptr[uint64](9_412_000_000), ptr[uint64](20_000)
	s.Uplinks[0].Views = map[string]balancer.Verdict{one: balancer.Degraded, two: balancer.Up}
	s.Uplinks[1].Name, s.Uplinks[1].State, s.Uplinks[1].Since = "lte\x1b[2J", balancer.Unknown, nil
	s.Uplinks[1].Loss, s.Uplinks[1].Flows, s.Uplinks[1].RxBPS = nil, nil, nil
	s.VirtualAddresses = []ha.AddressStatus{
		{Address: netip.MustParsePrefix("192.168.177.141/24"), Device: "enp130s0f1np1", Present: true, HeldBy: one},
		{Address: netip.MustParsePrefix("2001:db8:1234:5678::1/64"), Device: "lan0", HeldBy: two},
		{Address: netip.MustParsePrefix("203.0.113.10/25"), Device: "wan1", HeldBy: one},
		{Address: netip.MustParsePrefix("203.0.113.140/25"), Device: "wan2"},
	}
	return s
}

func three() ha.Status {
	s := usual()
	s.Nodes = append(s.Nodes, ha.NodeStatus{Name: "r3", Address: netip.MustParseAddr("192.0.2.3"), Role: ha.RoleUnknown, Priority: 100})
	s.Uplinks[0].Flows = ptr[uint64](8210)
	return s
}

// resting is a pair of which one node is in maintenance, after three reloads;
// trying has the fourth on trial, and is in maintenance where there is no room.
func resting() ha.Status {
	s := usual()
	s.Nodes[1].Maintenance, s.Nodes[1].EffectivePriority = true, ptr[uint8](1)
	s.Config.Generation = 3
	return s
}

// held is a pair whose master is the lesser one, by failover.
func held() ha.Status {
	s := usual()
	s.VRRP.Master, s.Nodes[0].Role, s.Nodes[1].Role, s.Nodes[1].Held = "r2", ha.RoleBackup, ha.RoleMaster, true
	s.VirtualAddresses = nil
	return s
}

// unfit is a pair of which one node fails its check.
func unfit() ha.Status {
	s := usual()
	s.Nodes[1].Unfit = "exit code 1: no database"
	return s
}

func trying() ha.Status {
	s := troubled()
	s.Nodes[1].Maintenance, s.Nodes[1].EffectivePriority = true, ptr[uint8](1)
	s.Config = ha.ConfigStatus{InSync: true, Generation: 4, Trial: true}
	return s
}

func alone() ha.Status {
	return ha.Status{
		Cluster: "home", Node: "r1", Role: ha.RoleFault, Config: ha.ConfigStatus{InSync: true},
		Nodes: []ha.NodeStatus{{Name: "r1", Address: netip.MustParseAddr("192.0.2.1"), Alive: true, Role: ha.RoleFault, Priority: 200, EffectivePriority: ptr[uint8](200), HeardMS: ptr[int64](0)}},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]ha.Status{"usual": usual(), "troubled": troubled(), "three": three(), "alone": alone(), "resting": resting(), "held": held(), "unfit": unfit(), "trying": trying()} {
		var b bytes.Buffer
		if err := Table(&b, s, false, now); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
		for _, line := range strings.Split(b.String(), "\n") {
			if n := utf8.RuneCountInString(line); n > width {
				t.Errorf("%s: %d characters: %s", name, n, line)
			}
			if strings.HasSuffix(line, " ") || strings.ContainsAny(line, "\x1b\t") {
				t.Errorf("%s: %q", name, line)
			}
		}
		var c bytes.Buffer
		if err := Table(&c, s, true, now); err != nil {
			t.Fatal(err)
		}
		if c.Len() <= b.Len() {
			t.Errorf("%s: no color", name)
		}
		if d := cmp.Diff(b.String(), regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(c.String(), "")); d != "" {
			t.Errorf("%s: color changes the words:\n%s", name, d)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got, -update accepts):\n%s", name, d)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{span(-time.Second), "0 ms"},
		{span(40*time.Millisecond + 900*time.Microsecond), "40 ms"},
		{span(12*time.Second + 999*time.Millisecond), "12 s"},
		{span(5*time.Minute + 12*time.Second), "5m12s"},
		{span(2*time.Hour + 5*time.Minute + 59*time.Second), "2h5m"},
		{span(76 * time.Hour), "3d4h"},
		{span(1000 * 24 * time.Hour), "1000d0h"},
		{sinceWords(nil, now), ""},
		{sinceWords(ago(300*time.Millisecond), now), "0 s"},
		{sinceWords(ago(-time.Hour), now), "0 s"},
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(1234567), "1,234,567"},
		{percent(0), "0 %"}, {percent(1), "100 %"}, {percent(0.024), "2.4 %"}, {percent(0.25), "25 %"}, {percent(0.0996), "10 %"}, {percent(0.0004), "0 %"},
		{millis(0.42), "0.4 ms"}, {millis(99.94), "99.9 ms"}, {millis(99.96), "100 ms"}, {millis(1234.4), "1,234 ms"},
		{rates(nil, ptr[uint64](1)), "-"}, {rates(ptr[uint64](0), ptr[uint64](0)), "0 / 0"},
		{rates(ptr[uint64](1_250_000_000), ptr[uint64](12)), "1,250 / 0.01 Mbit/s"},
		{rates(ptr[uint64](99_960_000), ptr[uint64](0)), "100 / 0 Mbit/s"},
		{plural(0, "alarm"), "no alarms"}, {plural(1, "alarm"), "1 alarm"}, {plural(12, "alarm"), "12 alarms"},
		{cut("router-frankfurt-1", 8), "rout…t-1"}, {cut("r1", 8), "r1"}, {cut("größer", 3), "g…r"},
		{clean("a\x1b[2Jb\n"), "a?[2Jb?"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestFlowCell: what is said of another node's flow table.
func TestFlowCell(t *testing.T) {
	for name, c := range map[string]struct {
		flows *uint64
		peer  ha.SyncPeer
		want  string
	}{
		"in sync":          {ptr[uint64](1240), ha.SyncPeer{State: ha.SyncSynced, LagMS: ptr(1.0)}, "1,240 in sync, 1 ms behind"},
		"in sync, untold":  {nil, ha.SyncPeer{State: ha.SyncSynced, FlowsThere: ptr[uint64](1234)}, "1,234 in sync"},
		"on its way":       {ptr[uint64](700), ha.SyncPeer{State: ha.SyncSyncing, Progress: ptr(0.431)}, "700 syncing 43 %"},
		"just beginning":   {nil, ha.SyncPeer{State: ha.SyncSyncing}, "syncing"},
		"the line is gone": {ptr[uint64](700), ha.SyncPeer{State: ha.SyncStale}, "700 stale"},
		"no session yet":   {ptr[uint64](700), ha.SyncPeer{State: ha.SyncConnecting}, "700 connecting"},
		"turned off":       {ptr[uint64](700), ha.SyncPeer{State: ha.SyncOff}, "700, sync off"},
		"off and silent":   {nil, ha.SyncPeer{State: ha.SyncOff}, "sync off"},
		"an older daemon":  {ptr[uint64](700), ha.SyncPeer{}, "700"},
	} {
		t.Run(name, func(t *testing.T) {
			c.peer.Name = "r2"
			v := view{s: ha.Status{Node: "r1", ConntrackSync: ha.SyncStatus{Peers: []ha.SyncPeer{c.peer}}}}
			if got := v.flowCell(ha.NodeStatus{Name: "r2", Flows: c.flows}, false, false).text; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
