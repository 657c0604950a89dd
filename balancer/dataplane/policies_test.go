package dataplane

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/netlab"
)

func spans(pairs ...uint64) balancer.Spans {
	var all []balancer.Span
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, balancer.Span{First: pairs[i], Last: pairs[i+1]})
	}
	return balancer.Union(all...)
}

func networks(ps ...string) balancer.Spans {
	var all []balancer.Span
	for _, p := range ps {
		all = append(all, balancer.PrefixSpan(netip.MustParsePrefix(p)))
	}
	return balancer.Union(all...)
}

var tcp = spans(6, 6)

// manyPolicies has a policy of each kind.
func manyPolicies() []balancer.Policy {
	return []balancer.Policy{
		{Name: "vpn", Bypass: true, Match: balancer.Match{balancer.MatchDestination: networks("198.51.100.0/25", "255.255.255.0/24", "0.0.0.0/8")}},
		{Name: "guests", Method: balancer.Enforced, WhenNone: balancer.NoneDrop, Uplinks: []string{"dsl"}, Match: balancer.Match{balancer.MatchLan: spans(0, 0), balancer.MatchMAC: spans(0x020000000001, 0x020000000001)}},
		{Name: "voice", Method: balancer.Priority, Match: balancer.Match{balancer.MatchDSCP: spans(0, 0, 46, 46, 60, 63)}},
		{Name: "mail", Match: balancer.Match{balancer.MatchProtocol: tcp, balancer.MatchDestinationPort: spans(25, 25, 465, 465, 580, 65535), balancer.MatchSourcePort: spans(0, 1023)}},
		{Name: "bank", Method: balancer.Persistence, Match: balancer.Match{balancer.MatchDestination: networks("192.0.2.128/25"), balancer.MatchSource: networks("192.168.77.128/25")}},
		{Name: "sticky", Method: balancer.Persistence, Learned: 10 * time.Minute, Match: balancer.Match{balancer.MatchProtocol: spans(17, 17)}},
		{Name: "sticky1", Method: balancer.Persistence, Persistence: balancer.BySource, Learned: time.Minute, Match: balancer.Match{balancer.MatchProtocol: spans(132, 132)}},
		{Name: "quick", Method: balancer.FastestResponse, Learned: 10 * time.Minute, Match: balancer.Match{balancer.MatchProtocol: tcp, balancer.MatchDestinationPort: spans(443, 443)}},
		{Name: "ours", Router: true, Uplinks: []string{"dsl"}, Match: balancer.Match{
			balancer.MatchSource: networks("203.0.113.0/24"), balancer.MatchDestination: networks("198.51.100.7/32", "198.51.101.0/24"), balancer.MatchProtocol: tcp,
			balancer.MatchDestinationPort: spans(25, 25, 1000, 2000), balancer.MatchSourcePort: spans(1024, 65535),
		}},
		{Name: "oursall", Router: true, WhenNone: balancer.NoneDrop, Match: balancer.Match{balancer.MatchProtocol: spans(132, 132)}},
		{Name: "default"},
	}
}

// TestPoliciesInTheKernel: twice is once, and the script means what was applied.
func TestPoliciesInTheKernel(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := quietKernel(t)
	c, in := twoUplinks()
	c.Policies = manyPolicies()
	plan := build(t, c, in)
	must(t, k.Apply(t.Context(), plan))
	before := netlab.Sh(t, "nft -a list ruleset; ip rule; ip -4 route show table all")
	must(t, k.Apply(t.Context(), plan))
	if d := cmp.Diff(before, netlab.Sh(t, "nft -a list ruleset; ip rule; ip -4 route show table all")); d != "" {
		t.Errorf("the second time it changed:\n%s", d)
	}
	ours, rules := quiet(netlab.Sh(t, "nft list table inet harouter")), netlab.Sh(t, "ip rule")

	both := in.Usable
	in.Usable = map[string]bool{"cable": true}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	in.Usable = both
	must(t, k.Apply(t.Context(), plan))
	if d := cmp.Diff(sorted(ours), sorted(quiet(netlab.Sh(t, "nft list table inet harouter")))); d != "" {
		t.Errorf("after a death and a return:\n%s", d)
	}
	// (nft shows a key of a byte without a type in other words than it reads.)
	c.Policies = slices.DeleteFunc(c.Policies, func(p balancer.Policy) bool { return p.Match[balancer.MatchDSCP] != nil })
	plan = build(t, c, in)
	must(t, k.Apply(t.Context(), plan))
	ours = quiet(netlab.Sh(t, "nft list table inet harouter"))
	must(t, k.Cleanup(t.Context()))
	netlab.Sh(t, "sh -s <<'SCRIPT'\n"+plan.String()+"SCRIPT")
	if d := cmp.Diff(sorted(ours), sorted(quiet(netlab.Sh(t, "nft list table inet harouter")))); d != "" {
		t.Errorf("-applied +script:\n%s", d)
	}
	if d := cmp.Diff(rules, netlab.Sh(t, "ip rule")); d != "" {
		t.Errorf("-applied +script:\n%s", d)
	}
}

// TestLargeNetworks: thousands of networks in a file are one map.
func TestLargeNetworks(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := quietKernel(t)
	c, in := twoUplinks()
	var some []string
	for i := range 10000 {
		some = append(some, fmt.Sprintf("%d.%d.%d.0/24", 20+i/5000, i/20%256, i*2%256))
	}
	c.Policies = []balancer.Policy{{Name: "far", Match: balancer.Match{balancer.MatchDestination: networks(some...)}}, {Name: "default"}}
	plan := build(t, c, in)
	began := time.Now()
	must(t, k.Apply(t.Context(), plan))
	first := time.Since(began)
	began = time.Now()
	must(t, k.Apply(t.Context(), plan))
	t.Logf("first %v, again %v", first, time.Since(began))
	if k.Repairs() != (Repairs{}) {
		t.Errorf("repairs %+v", k.Repairs())
	}
}
