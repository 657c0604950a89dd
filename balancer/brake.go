package balancer

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// What the nodes measure leads new flows to the next uplink after a second or
// two. Until then the kernel has a brake of its own: a rule notices that a line
// is over the limit of overflow for a moment, and for as long as that goes on new
// flows of such a policy take the next one that is not.

// LimitOver matches packets above so many bytes a second, once Burst of them have
// come besides.
type LimitOver struct{ Bytes, Burst uint64 }

// Fill turns a switch on, a set with the key nfproto, for so long.
type Fill struct {
	Set   string
	Lasts time.Duration
}

func (LimitOver) stmt() {}
func (Fill) stmt()      {}

func (s LimitOver) String() string {
	return fmt.Sprintf("limit rate over %d bytes/second burst %d bytes", s.Bytes, s.Burst)
}

func (s Fill) String() string {
	return fmt.Sprintf("update @%s { meta nfproto timeout %v }", s.Set, s.Lasts)
}

const (
	// brakeAfter is by how much of what it carries in a second a line is ahead of
	// the limit when the brake acts: where that is 90 %, half a second after it
	// became full.
	brakeAfter = 20
	leastBurst = 128 << 10 // bytes: two packets as large as receive offload makes them
	brakeFor   = time.Second
)

// fullSet is the switch of an uplink that is full at this moment.
func fullSet(uplink string) string { return "full_" + uplink }

// brake is the limit of overflow for an uplink, the least of all policies, 0
// where none needs it.
func (c *Config) brake(u Uplink) float64 {
	limit := 0.0
	for _, p := range c.Policies {
		if p.Method == Overflow && slices.ContainsFunc(c.members(p), func(m Uplink) bool { return m.ID == u.ID }) &&
			(limit == 0 || p.Overflow.Enter < limit) {
			limit = p.Overflow.Enter
		}
	}
	if u.Speed == (Load{}) {
		return 0
	}
	return limit
}

// brakeRules notice that one direction of an uplink is full.
func (c *Config) brakeRules(u Uplink, speed float64) []Rule {
	limit := c.brake(u)
	if limit == 0 || speed == 0 {
		return nil
	}
	bytes := speed / 8
	return []Rule{{LimitOver{uint64(bytes * limit), max(uint64(bytes/brakeAfter), leastBurst)}, Fill{fullSet(u.Name), brakeFor}}}
}

// brakeSets are the switches of the uplinks that need them.
func (c *Config) brakeSets() (out []Set) {
	for _, u := range c.Uplinks {
		if c.brake(u) > 0 {
			out = append(out, Set{Name: fullSet(u.Name), Key: KeyProto, Timeout: true, Lasts: brakeFor, Volatile: true})
		}
	}
	return out
}

// spills tells whether new flows of a policy may take another uplink than the one
// that was drawn.
func (d doing) spills() bool { return d.outcome == spreads && d.Method == Overflow }

func overChain(policy, uplink string) string { return "over_" + policy + "/" + uplink }

// spillChains lead from each uplink that was drawn to the first that is not full
// at this moment: it, or one behind it in the order of the policy. Where all are
// it stays with the one that was drawn.
func (c *Config) spillChains(d doing, in Input) (out []Chain) {
	members := slices.DeleteFunc(slices.Clone(c.members(d.Policy)), func(u Uplink) bool {
		return slotsOf(d.slots, u.ID) == 0 && (!in.Usable[u.Name] || in.Verdicts[u.Name] == Disabled)
	})
	slices.SortStableFunc(members, func(a, b Uplink) int { return cmp.Compare(a.Tier, b.Tier) })
	for i, u := range members {
		up := func(u Uplink) Jump { return Jump{Kind: "goto", Chain: "up_" + u.Name} }
		var rules []Rule
		if c.brake(u) > 0 {
			for _, v := range members[i:] {
				if c.brake(v) == 0 { // never full, as far as one knows
					rules = append(rules, Rule{up(v)})
					break
				}
				rules = append(rules, Rule{ProtoIn{Not: true, Set: fullSet(v.Name)}, up(v)})
			}
		}
		out = append(out, Chain{Name: overChain(d.Name, u.Name), Rules: append(rules, Rule{up(u)})})
	}
	return out
}
