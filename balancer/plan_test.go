package balancer

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden plans in testdata")

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(ss ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range ss {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// pair is the site of the README.
func pair() (Config, Input) {
	return Config{
			Lans: []Lan{{Name: "office", Device: "lan0", Virtual: prefixes("192.168.77.1/24")}},
			Uplinks: []Uplink{
				{Name: "cable", ID: 1, Device: "wan1", Gateway: addr("203.0.113.1"), Virtual: prefixes("203.0.113.10/25"), Weight: 2, Tier: 1},
				{Name: "dsl", ID: 2, Device: "wan2", Gateway: addr("203.0.113.129"), Virtual: prefixes("203.0.113.140/25"), Weight: 1, Tier: 1},
			},
			Policies: []Policy{{Name: "default"}},
			MarkMask: 0x3f00, TableBase: 7000, RulePriority: 7000,
			Nodes: []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")},
		}, Input{
			Usable:   map[string]bool{"cable": true, "dsl": true},
			Verdicts: map[string]Verdict{"cable": Up, "dsl": Up},
			Active:   true, Holding: true,
			OwnLan: map[string][]netip.Prefix{"office": prefixes("192.168.77.2/24")},
			Own:    map[string][]netip.Addr{"cable": {addr("203.0.113.2")}, "dsl": {addr("203.0.113.130")}},
		}
}

// withMACs gives the lan and the second uplink virtual MACs.
func withMACs(c *Config) {
	c.Lans[0].MACDevice, c.Lans[0].MAC = "hrv-office", "00:00:5e:00:01:33"
	c.Uplinks[1].MACDevice, c.Uplinks[1].MAC = "hrv-dsl", "00:00:5e:00:01:34"
}

// slotList finds the 256 elements of a slot map, target one of their targets.
var (
	slotList = regexp.MustCompile(`elements = \{ 0 : goto up_[^}]*\}`)
	target   = regexp.MustCompile(`goto up_\w+`)
)

// tally shortens a slot map in golden texts to how many slots lead where.
func tally(list string) string {
	n := map[string]int{}
	for _, to := range target.FindAllString(list, -1) {
		n[to]++
	}
	var out []string
	for _, to := range slices.Sorted(maps.Keys(n)) {
		out = append(out, fmt.Sprintf("%d times %s", n[to], to))
	}
	return "elements = { " + strings.Join(out, ", ") + " }"
}

func TestPlanText(t *testing.T) {
	for name, change := range map[string]func(*Config, *Input){
		"master":             func(*Config, *Input) {},
		"backup":             func(_ *Config, in *Input) { in.Active, in.Holding = false, false },
		"backup_without_own": func(_ *Config, in *Input) { in.Active, in.Holding, in.Own = false, false, nil },
		"backup_without_any_own": func(_ *Config, in *Input) {
			in.Active, in.Holding, in.Own, in.OwnLan, in.Master = false, false, nil, nil, addr("192.0.2.1")
		},
		"backup_router_policy": func(c *Config, in *Input) {
			in.Active, in.Holding, in.Own, in.Master = false, false, nil, addr("192.0.2.1")
			c.Policies = append([]Policy{{Name: "own", Router: true, Uplinks: []string{"dsl"}}}, c.Policies...)
		},
		"guarded": func(c *Config, _ *Input) {
			c.Nodes = append(c.Nodes, addr("fd00:7::1"))
			c.Uplinks[0].MACDevice6, c.Uplinks[0].MAC6 = "hrv6-cable", "00:00:5e:00:02:33"
			c.Firewall = Firewall{
				Enabled: true, Log: true, Antispoof: true, SYN: Rate{200, "second"}, ICMP: Rate{500, "second"}, Gossip: 7946, Sync: 7947, Former: []string{"wan3", "lan0"},
				Allow: []Allow{{Protocol: 50}, {To: prefixes("203.0.113.64/29", "2001:db8:7::/48"), Protocol: 6, Ports: []Ports{{443, 443}}}},
			}
		},
		"one_uplink_dead":     func(_ *Config, in *Input) { in.Usable["dsl"], in.Verdicts["dsl"] = false, Down },
		"one_uplink_degraded": func(_ *Config, in *Input) { in.Verdicts["dsl"] = Degraded },
		"own_address_only":    func(c *Config, _ *Input) { c.Uplinks[1].Virtual = nil },
		"gateway_found": func(c *Config, in *Input) {
			c.Uplinks[0].Gateway, in.Gateways = netip.Addr{}, map[string]netip.Addr{"cable": addr("203.0.113.5")}
		},
		"gateway_not_found": func(c *Config, _ *Input) { c.Uplinks[0].Gateway = netip.Addr{} },
		"no_lan":            func(c *Config, _ *Input) { c.Lans = nil },
		"no_uplink":         func(c *Config, _ *Input) { c.Uplinks, c.Policies = nil, []Policy{{Name: "default"}} },
		"no_accept":         func(c *Config, _ *Input) { c.NoAccept = true },
		"two_families": func(c *Config, _ *Input) {
			c.NoAccept = true
			c.Lans[0].Virtual = append(prefixes("fd00::1/64", "fe80::1/64"), c.Lans[0].Virtual...)
			c.Uplinks[0].Virtual = append(prefixes("2001:db8:9::1/64"), c.Uplinks[0].Virtual...)
			c.Nodes = append(c.Nodes, addr("fd00:7::1"))
		},
		"networks_and_groups": func(c *Config, in *Input) {
			c.Networks = []Network{
				{To: prefixes("10.0.0.0/8")[0], Device: "tun0", Masquerade: true},
				{To: prefixes("10.8.0.0/16")[0], Gateway: addr("192.168.77.9")},
				{To: prefixes("192.168.100.0/24")[0], Device: "wan1", Masquerade: true, Source: addr("203.0.113.10")},
			}
			c.Lans = append(c.Lans, Lan{Name: "guests", Device: "lan1", Virtual: prefixes("10.1.0.1/16")})
			c.Firewall = Firewall{Enabled: true, Groups: Groups{{"office", "cable", "dsl"}, {"guests", "dsl"}}}
		},
		"virtual_mac": func(c *Config, in *Input) { withMACs(c); in.OwnLan, in.Own["dsl"] = nil, nil },
		"virtual_mac_backup": func(c *Config, in *Input) {
			withMACs(c)
			in.OwnLan, in.Active, in.Holding = nil, false, false
		},
		"other_mask_and_numbers": func(c *Config, _ *Input) { c.MarkMask, c.TableBase, c.RulePriority = 0xff0000, 300, 100 },
	} {
		t.Run(name, func(t *testing.T) {
			c, in := pair()
			change(&c, &in)
			p, err := Build(c, in)
			if err != nil {
				t.Fatal(err)
			}
			got := slotList.ReplaceAllStringFunc(p.String(), tally)
			file := filepath.Join("testdata", name+".sh")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"id 0":            func(c *Config) { c.Uplinks[0].ID = 0 },
		"id twice":        func(c *Config) { c.Uplinks[0].ID = 2 },
		"mask too narrow": func(c *Config) { c.MarkMask = 0x100 },
	} {
		t.Run(name, func(t *testing.T) {
			c, in := pair()
			change(&c)
			if p, err := Build(c, in); err == nil {
				t.Errorf("built:\n%s", p)
			}
		})
	}
}

func TestSlots(t *testing.T) {
	third := Uplink{Name: "lte", ID: 3, Device: "wan3", Gateway: addr("198.51.100.1"), Weight: 5, Tier: 2}
	for name, c := range map[string]struct {
		change func(*Config, *Input)
		want   map[string]float64
	}{
		"weights":          {func(*Config, *Input) {}, map[string]float64{"cable": 171, "dsl": 85, "lte": 0}},
		"policy's weights": {func(c *Config, _ *Input) { c.Policies[0].Weights = map[string]int{"dsl": 2} }, map[string]float64{"cable": 128, "dsl": 128, "lte": 0}},
		"tier 1 is dead":   {func(_ *Config, in *Input) { in.Usable = map[string]bool{"lte": true} }, map[string]float64{"cable": 0, "dsl": 0, "lte": 256}},
		"priority":         {func(c *Config, _ *Input) { c.Policies[0].Method = Priority }, map[string]float64{"cable": 256, "dsl": 0, "lte": 0}},
		"priority, own order": {func(c *Config, _ *Input) {
			c.Policies[0].Method, c.Policies[0].Uplinks = Priority, []string{"dsl", "cable", "lte"}
		}, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"priority, first is dead":  {func(c *Config, in *Input) { c.Policies[0].Method, in.Usable["cable"] = Priority, false }, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"a subset":                 {func(c *Config, _ *Input) { c.Policies[0].Uplinks = []string{"dsl"} }, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"weight 0":                 {func(c *Config, _ *Input) { c.Uplinks[1].Weight = 0 }, map[string]float64{"cable": 256, "dsl": 0, "lte": 0}},
		"weight 0 is the last":     {func(c *Config, in *Input) { c.Uplinks[1].Weight = 0; in.Usable = map[string]bool{"dsl": true} }, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"nothing usable":           {func(_ *Config, in *Input) { in.Usable = nil }, map[string]float64{"cable": 171, "dsl": 85, "lte": 0}},
		"degraded":                 {func(_ *Config, in *Input) { in.Verdicts["dsl"] = Degraded }, map[string]float64{"cable": 228, "dsl": 28, "lte": 0}},
		"degraded of equal weight": {func(c *Config, in *Input) { c.Uplinks[0].Weight, in.Verdicts["dsl"] = 1, Degraded }, map[string]float64{"cable": 205, "dsl": 51, "lte": 0}},
		"degraded by the policy's weights": {func(c *Config, in *Input) {
			c.Policies[0].Weights, in.Verdicts["dsl"] = map[string]int{"dsl": 2}, Degraded
		}, map[string]float64{"cable": 205, "dsl": 51, "lte": 0}},
		"all degraded": {func(_ *Config, in *Input) { in.Verdicts["cable"], in.Verdicts["dsl"] = Degraded, Degraded }, map[string]float64{"cable": 171, "dsl": 85, "lte": 0}},
		"degraded is alone": {func(_ *Config, in *Input) {
			in.Usable["cable"], in.Verdicts["cable"], in.Verdicts["dsl"] = false, Down, Degraded
		}, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"degraded, all weights 0": {func(c *Config, in *Input) {
			c.Uplinks[0].Weight, c.Uplinks[1].Weight, in.Verdicts["dsl"] = 0, 0, Degraded
		}, map[string]float64{"cable": 205, "dsl": 51, "lte": 0}},
		"degraded beside unknown":     {func(_ *Config, in *Input) { in.Verdicts["cable"], in.Verdicts["dsl"] = Unknown, Degraded }, map[string]float64{"cable": 228, "dsl": 28, "lte": 0}},
		"degraded keeps its tier":     {func(_ *Config, in *Input) { in.Usable["cable"], in.Verdicts["dsl"] = false, Degraded }, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"degraded, then dead":         {func(_ *Config, in *Input) { in.Usable["dsl"], in.Verdicts["dsl"] = false, Degraded }, map[string]float64{"cable": 256, "dsl": 0, "lte": 0}},
		"priority, first is degraded": {func(c *Config, in *Input) { c.Policies[0].Method, in.Verdicts["cable"] = Priority, Degraded }, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"priority, all degraded": {func(c *Config, in *Input) {
			c.Policies[0].Method, in.Verdicts["cable"], in.Verdicts["dsl"] = Priority, Degraded, Degraded
		}, map[string]float64{"cable": 256, "dsl": 0, "lte": 0}},
		"priority, degraded keeps its tier": {func(c *Config, in *Input) {
			c.Policies[0].Method, in.Usable["cable"], in.Verdicts["dsl"] = Priority, false, Degraded
		}, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
		"disabled": {func(_ *Config, in *Input) { in.Usable = nil; in.Verdicts["cable"] = Disabled }, map[string]float64{"cable": 0, "dsl": 256, "lte": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, in := pair()
			cfg.Uplinks = append(cfg.Uplinks, third)
			in.Usable["lte"] = true
			c.change(&cfg, &in)
			p, err := Build(cfg, in)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for name, share := range p.Shares["default"] {
				got[name] = share * SlotCount
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestHash: equal on nodes that route alike, and only there.
func TestHash(t *testing.T) {
	c, in := pair()
	base := Hash(c, in)
	same := map[string]func(*Config, *Input){
		"backup":         func(_ *Config, in *Input) { in.Active, in.Holding = false, false },
		"devices":        func(c *Config, _ *Input) { c.Uplinks[0].Device, c.Lans[0].Device = "enp3s0", "enp4s0" },
		"own addresses":  func(_ *Config, in *Input) { in.Own, in.OwnLan = nil, nil },
		"found gateways": func(_ *Config, in *Input) { in.Gateways = map[string]netip.Addr{"dsl": addr("203.0.113.200")} },
		"master":         func(_ *Config, in *Input) { in.Master = addr("192.0.2.1") },
	}
	other := map[string]func(*Config, *Input){
		"a verdict":   func(_ *Config, in *Input) { in.Verdicts["dsl"] = Degraded },
		"degraded":    func(_ *Config, in *Input) { in.Verdicts["cable"], in.Verdicts["dsl"] = Degraded, Degraded }, // with the same slots
		"the pool":    func(_ *Config, in *Input) { in.Usable["dsl"] = false },
		"a weight":    func(c *Config, _ *Input) { c.Uplinks[0].Weight = 3 },
		"a name":      func(c *Config, in *Input) { c.Uplinks[0].Name = "fibre"; in.Usable["fibre"] = true },
		"an id":       func(c *Config, _ *Input) { c.Uplinks[0].ID = 9 },
		"NAT address": func(c *Config, _ *Input) { c.Uplinks[0].Virtual = prefixes("203.0.113.11/25") },
		"NAT by own":  func(c *Config, _ *Input) { c.Uplinks[0].Virtual = nil },
		"the method":  func(c *Config, _ *Input) { c.Policies[0].Method = Priority },
		"policy name": func(c *Config, _ *Input) { c.Policies[0].Name = "other" },
		"a network": func(c *Config, _ *Input) {
			c.Networks = []Network{{To: prefixes("10.8.0.0/16")[0], Device: "tun0"}}
		},
	}
	check := func(name string, change func(*Config, *Input), want bool) {
		t.Run(name, func(t *testing.T) {
			c, in := pair()
			in.Usable, in.Verdicts = maps.Clone(in.Usable), maps.Clone(in.Verdicts)
			change(&c, &in)
			if got := Hash(c, in) == base; got != want {
				t.Errorf("hash equal: %v, want %v", got, want)
			}
		})
	}
	for name, change := range same {
		check(name, change, true)
	}
	for name, change := range other {
		check(name, change, false)
	}
}

// TestRoutesNameNoSource: an address that comes or goes must not take a route
// along (DESIGN.md §6).
func TestRoutesNameNoSource(t *testing.T) {
	c, in := pair()
	p, err := Build(c, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Routes {
		s := r.String()
		if strings.Contains(s, " src ") || strings.Contains(s, "via") && !strings.Contains(s, "onlink") {
			t.Errorf("route %s", s)
		}
	}
}
