package balancer

import (
	"net/netip"
	"testing"
)

// maxJumps is the kernel's NFT_JUMP_STACK_SIZE: it refuses a table in which more
// chains lead to each other, whether a packet can go that way or not.
const maxJumps = 16

// depth is how many jumps are behind each other in a table at most.
func depth(t Table) int {
	next := map[string][]string{}
	ways := map[string][]string{}
	for _, s := range t.Sets {
		for _, e := range s.Elements {
			if e.Verdict.Chain != "" {
				ways[s.Name] = append(ways[s.Name], e.Verdict.Chain)
			}
		}
	}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			for _, s := range r {
				switch s := s.(type) {
				case Jump:
					if s.Chain != "" {
						next[c.Name] = append(next[c.Name], s.Chain)
					}
				case VMap:
					next[c.Name] = append(next[c.Name], ways[s.Map]...)
				}
			}
		}
	}
	known := map[string]int{}
	var from func(string) int
	from = func(c string) int {
		if n, ok := known[c]; ok {
			return n
		}
		deepest := 0
		for _, n := range next[c] {
			deepest = max(deepest, 1+from(n))
		}
		known[c] = deepest
		return deepest
	}
	deepest := 0
	for _, c := range t.Chains {
		deepest = max(deepest, from(c.Name))
	}
	return deepest
}

// TestDepth: policies that ask for every field, one of them past the uplinks, and
// one that has no uplink.
func TestDepth(t *testing.T) {
	c, in := pair()
	spans := func(v uint64) Spans { return Spans{{v, v}} }
	all := Match{
		MatchLan: spans(0), MatchSource: Spans{PrefixSpan(netip.MustParsePrefix("192.168.77.9/32"))}, MatchDestination: Spans{PrefixSpan(netip.MustParsePrefix("198.51.100.0/24"))},
		MatchProtocol: spans(6), MatchSourcePort: spans(1000), MatchDestinationPort: spans(443), MatchDSCP: spans(46), MatchMAC: spans(5),
	}
	c.Policies = []Policy{
		{Name: "learned", Match: all, Method: Persistence, Learned: 60e9},
		{Name: "past", Match: all, Bypass: true},
		{Name: "none", Method: Enforced, Uplinks: []string{"dsl"}, WhenNone: NoneDrop, Match: Match{MatchProtocol: spans(17), MatchDestinationPort: spans(53)}},
		{Name: "default"},
	}
	in.Usable["dsl"] = false
	p, err := Build(c, in)
	if err != nil {
		t.Fatal(err)
	}
	if n := depth(p.Table); n >= maxJumps {
		t.Errorf("%d jumps behind each other; the kernel has room for %d", n, maxJumps-1)
	} else {
		t.Logf("%d jumps", n)
	}
}
