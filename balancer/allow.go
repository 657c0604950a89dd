package balancer

import (
	"fmt"
	"net/netip"
	"slices"
)

// Allow opens ports of the routers, or of hosts behind them that can be reached
// from outside as they are.
type Allow struct {
	Uplinks  []string       // none: all
	To       []netip.Prefix // hosts behind the routers; none: the routers
	Protocol uint8          // 6, 17 with Ports; any other without
	Ports    []Ports
	Source   []netip.Prefix
	Limit    Rate
}

// Within matches packets whose source, or with Dst whose destination, is in a network.
type Within struct {
	Dst bool
	Of  netip.Prefix
}

func (Within) stmt() {}

func (s Within) String() string {
	family, side, of := "ip", "saddr", s.Of.String()
	if s.Of.Addr().Is6() {
		family = "ip6"
	}
	if s.Dst {
		side = "daddr"
	}
	if s.Of.IsSingleIP() {
		of = s.Of.Addr().String()
	}
	return family + " " + side + " " + of
}

// allows are the rules of all Allows: for what the routers receive, and for what
// they pass on.
func (c *Config) allows() (in, through []Rule, sets []Set) {
	ret, denied := Jump{Kind: "return"}, Jump{Kind: "goto", Chain: RefusalChain("denied")}
	for i, a := range c.Firewall.Allow {
		var by Rule
		if len(a.Uplinks) > 0 {
			from := Set{Name: fmt.Sprintf("allow%d_if", i+1), Key: KeyIfname}
			for _, u := range c.Uplinks {
				if slices.Contains(a.Uplinks, u.Name) {
					for _, d := range u.devices() {
						from.Elements = append(from.Elements, Element{Ifname: d})
					}
				}
			}
			sets = append(sets, from)
			by = Rule{InSet{Set: from.Name}}
		}
		sources, more := a.sources(fmt.Sprintf("allow%d_from", i+1))
		sets = append(sets, more...)
		for _, ends := range a.ends(sources) {
			for _, what := range a.what() {
				var rules []Rule
				match := slices.Concat(by, ends, what)
				if a.Limit.Count > 0 {
					rules = append(rules, slices.Concat(match, Rule{RateOver{a.Limit}, denied}))
				}
				rules = append(rules, append(match, ret))
				if len(a.To) > 0 {
					through = append(through, rules...)
				} else {
					in = append(in, rules...)
				}
			}
		}
	}
	return in, through, sets
}

// sources are the ways to be one of an Allow's sources, and the set of those of
// IPv4.
func (a Allow) sources(set string) (out []Rule, sets []Set) {
	var four []netip.Prefix
	for _, p := range a.Source {
		if p.Addr().Is4() {
			four = append(four, p)
		}
	}
	if len(four) > 0 {
		sets = []Set{sourceSet(set, four)}
		out = append(out, Rule{AddrIn{Set: set}})
	}
	for _, p := range a.Source {
		if p.Addr().Is6() {
			out = append(out, Rule{Within{Of: p}})
		}
	}
	if len(out) == 0 {
		out = []Rule{nil}
	}
	return out, sets
}

// ends are the sources with each of the destinations that is of their family.
func (a Allow) ends(sources []Rule) (out []Rule) {
	if len(a.To) == 0 {
		return sources
	}
	for _, s := range sources {
		for _, to := range a.To {
			_, six := slices.Concat(s, Rule{nil})[0].(Within)
			if s == nil || six == to.Addr().Is6() {
				out = append(out, append(slices.Clone(s), Within{Dst: true, Of: to}))
			}
		}
	}
	return out
}

// what are the protocols and ports of an Allow.
func (a Allow) what() (out []Rule) {
	if len(a.Ports) == 0 {
		if a.Protocol == 0 {
			return []Rule{nil}
		}
		return []Rule{{Layer4{a.Protocol}}}
	}
	for _, p := range a.Ports {
		out = append(out, Rule{DestinationPort{a.Protocol, p}})
	}
	return out
}

// opened are the protocols without ports that get to the firewall also where they
// are sent to a virtual address; all is everything. With the firewall off these are
// the tunnels'.
func (c *Config) opened() (protocols []uint8, all bool) {
	if !c.Firewall.Enabled {
		return tunnels, false
	}
	for _, a := range c.Firewall.Allow {
		switch {
		case len(a.To) > 0:
		case a.Protocol == 0:
			all = true
		case transportNames[a.Protocol] == "" && !slices.Contains(protocols, a.Protocol):
			protocols = append(protocols, a.Protocol)
		}
	}
	slices.Sort(protocols)
	return protocols, all
}
