package balancer

import (
	"fmt"
	"net/netip"
	"strings"
)

// The nodes' own traffic takes its uplink by ip rules, not by marks: a socket
// chooses its source address by the route, before it sends anything, and a mark
// that came later would lead it out of another line with that source.

// Own is which of the node's own traffic an ip rule is for; what is zero does not
// matter.
type Own struct {
	Source, Destination           netip.Prefix
	Protocol                      uint8
	SourcePorts, DestinationPorts Ports
}

// Ports are from First to Last, both included; both 0: any.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

func (o Own) String() string {
	var words []string
	if o.Source.IsValid() {
		words = append(words, "from "+o.Source.String())
	}
	if o.Destination.IsValid() {
		words = append(words, "to "+o.Destination.String())
	}
	if o.Protocol != 0 {
		words = append(words, fmt.Sprintf("ipproto %d", o.Protocol))
	}
	if o.SourcePorts != (Ports{}) {
		words = append(words, "sport "+o.SourcePorts.String())
	}
	if o.DestinationPorts != (Ports{}) {
		words = append(words, "dport "+o.DestinationPorts.String())
	}
	return strings.Join(words, " ")
}

// Bounds of what ip rules can say of policies: the kernel tries one after the other.
const (
	maxOwnPolicies = 100
	maxOwnRules    = 256 // of a policy
)

// PolicyTables is the offset from TableBase of the table of the first policy for
// the nodes' own traffic; those of uplinks are below.
const PolicyTables = maxUplinks + 1

// Tables is how many tables from TableBase on are ours.
const Tables = PolicyTables + maxOwnPolicies

// The kernel's own routing tables.
const (
	firstSystemTable = 253
	lastSystemTable  = 255
)

// checkOwn refuses policies for the nodes' own traffic that ip rules cannot say.
func (c *Config) checkOwn() error {
	n := 0
	for i, p := range c.Policies {
		if !p.Router || i == len(c.Policies)-1 {
			continue
		}
		if n++; n > maxOwnPolicies {
			return fmt.Errorf("policies.%s: more than %d policies have router: true", p.Name, maxOwnPolicies)
		}
		if table := c.TableBase + PolicyTables + n - 1; table >= firstSystemTable && table <= lastSystemTable {
			return fmt.Errorf("policies.%s: it would have the routing table %d, which is the kernel's own; another balance.table_base is needed", p.Name, table)
		}
		for _, f := range []Field{MatchLan, MatchDSCP, MatchMAC} {
			if _, ok := p.Match[f]; ok {
				return fmt.Errorf("policies.%s: the nodes' own traffic cannot be told by %s", p.Name, f)
			}
		}
		rules := 1
		for f := range p.Match {
			if rules *= p.Match.pieces(f); rules > maxOwnRules {
				return fmt.Errorf("policies.%s: its match takes more than %d ip rules for the nodes' own traffic; fewer networks, protocols and ports are needed", p.Name, maxOwnRules)
			}
		}
	}
	return nil
}

// pieces is how many rules the values of a field take.
func (m Match) pieces(f Field) int {
	switch f {
	case MatchSource, MatchDestination:
		return len(m.prefixes(f))
	case MatchProtocol:
		n := 0
		for _, s := range m[f] {
			n += int(s.Last - s.First + 1)
		}
		return n
	case MatchSourcePort, MatchDestinationPort:
		return len(m.ports(f))
	case MatchLan, MatchDSCP, MatchMAC, matchFields:
	}
	return 1
}

func (m Match) prefixes(f Field) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range m[f] {
		out = append(out, s.prefixes4()...)
	}
	return out
}

// ports are the spans of ports that ip rules can say: the kernel refuses 0 and
// 65535 there.
func (m Match) ports(f Field) []Ports {
	var out []Ports
	for _, s := range m[f] {
		if first, last := max(s.First, 1), min(s.Last, 1<<16-2); first <= last {
			out = append(out, Ports{uint16(first), uint16(last)})
		}
	}
	return out
}

// owns are the combinations of values that make up a match.
func (m Match) owns() []Own {
	out := []Own{{}}
	for f := range matchFields {
		if _, ok := m[f]; !ok {
			continue
		}
		var next []Own
		each := func(set func(*Own)) {
			for _, o := range out {
				set(&o)
				next = append(next, o)
			}
		}
		switch f {
		case MatchSource:
			for _, p := range m.prefixes(f) {
				each(func(o *Own) { o.Source = p })
			}
		case MatchDestination:
			for _, p := range m.prefixes(f) {
				each(func(o *Own) { o.Destination = p })
			}
		case MatchProtocol:
			for _, s := range m[f] {
				for n := s.First; n <= s.Last; n++ {
					each(func(o *Own) { o.Protocol = uint8(n) })
				}
			}
		case MatchSourcePort:
			for _, p := range m.ports(f) {
				each(func(o *Own) { o.SourcePorts = p })
			}
		case MatchDestinationPort:
			for _, p := range m.ports(f) {
				each(func(o *Own) { o.DestinationPorts = p })
			}
		case MatchLan, MatchDSCP, MatchMAC, matchFields:
		}
		out = next
	}
	return out
}

// own are the policies for the nodes' own traffic that do something now, by their
// places among all of these.
func own(does []doing) map[int]doing {
	out := map[int]doing{}
	n := 0
	for i, d := range does {
		if !d.Router || i == len(does)-1 { // the last one is the pool
			continue
		}
		if d.outcome != passes {
			out[n] = d
		}
		n++
	}
	return out
}

func (c *Config) ownRules(does []doing) []IPRule {
	var out []IPRule
	for n, d := range own(does) {
		table := c.TableBase + PolicyTables + n
		if d.outcome == bypasses {
			table = mainTable
		}
		for _, o := range d.Match.owns() {
			out = append(out, IPRule{Priority: c.RulePriority + rulePolicies + n, Local: true, Of: o, Table: table})
		}
	}
	return out
}

// ownRoutes are the tables of these policies. Below the way lies a wall: what a
// policy has no way for does not take another.
func (c *Config) ownRoutes(in Input, does []doing) []Route {
	var out []Route
	for n, d := range own(does) {
		if d.outcome == bypasses {
			continue
		}
		table := c.TableBase + PolicyTables + n
		if d.outcome == spreads {
			out = append(out, c.spread(table, c.ownWay(in, d.slots))...)
		}
		out = append(out, Route{Table: table, To: any4, Unreachable: true, Metric: floor})
	}
	return out
}

// ownWay is the pool of a policy. A backup that has no address on its uplinks goes
// through the master, which knows the policy too, rather than over another uplink.
func (c *Config) ownWay(in Input, slots [SlotCount]int) []Hop {
	rest := *c
	rest.Uplinks = nil
	for _, u := range c.Uplinks {
		if slotsOf(slots, u.ID) > 0 {
			rest.Uplinks = append(rest.Uplinks, u)
		}
	}
	return rest.pool(in, slots)
}
