package balancer

import "slices"

// Groups say who may talk to whom: each is a list of lans and uplinks, and what is
// in none with a lan that begins a connection is refused to it. Within a lan, to
// the router and to what is neither lan nor uplink, all is free; so is what a
// forward leads away, from inside too. Without any group nothing is refused.
type Groups [][]string

// Prohibited answers a packet with an ICMP error: communication administratively
// prohibited.
type Prohibited struct{}

func (Prohibited) stmt() {}

func (Prohibited) String() string { return "reject with icmpx admin-prohibited" }

// refusedGroup is the reason by which it is counted.
const refusedGroup = "group"

// Allows tells whether what begins at a lan may go to a lan or an uplink.
func (g Groups) Allows(lan, to string) bool {
	return len(g) == 0 || lan == to ||
		slices.ContainsFunc(g, func(members []string) bool { return slices.Contains(members, lan) && slices.Contains(members, to) })
}

// groups are what they add to the table: first is the rule by which new packets
// that go through the router come to them.
func (c *Config) groups() (first []Rule, sets []Set, chains []Chain) {
	g := c.Firewall.Groups
	if len(g) == 0 || len(c.Lans) == 0 {
		return nil, nil, nil
	}
	ret, refuse := Jump{Kind: "return"}, Jump{Kind: "goto", Chain: RefusalChain(refusedGroup)}
	from := Set{Name: "groups", Key: KeyIfname, Verdicts: true}
	for _, l := range c.Lans {
		to := Set{Name: "group_" + l.Name, Key: KeyIfname}
		allow := func(name string, all []string) {
			for _, d := range all {
				if g.Allows(l.Name, name) {
					to.Elements = append(to.Elements, Element{Ifname: d})
				}
			}
		}
		for _, o := range c.Lans {
			allow(o.Name, o.devices())
		}
		for _, u := range c.Uplinks {
			allow(u.Name, u.devices())
		}
		chain := Chain{Name: "group_" + l.Name, Rules: []Rule{
			{InSet{Output: true, Set: to.Name}, ret},
			{Redirected{}, ret},
			{InSet{Output: true, Set: "lan_if"}, refuse},
			{InSet{Output: true, Set: "wan_if"}, refuse},
		}}
		for _, d := range l.devices() {
			from.Elements = append(from.Elements, Element{Ifname: d, Verdict: Jump{Kind: "jump", Chain: chain.Name}})
		}
		sets, chains = append(sets, to), append(chains, chain)
	}
	return []Rule{{State{CtNew}, VMap{By: ByInput, Map: from.Name}}}, append(sets, from), chains
}

// refusalRules are how packets are refused for a reason: those of a lan's hosts
// with an answer, those from outside in silence.
func refusalRules(reason string) []Rule {
	if reason == refusedGroup {
		return []Rule{{Layer4{6}, Counter{}, Reset{}}, {Counter{}, Prohibited{}}}
	}
	return []Rule{{Counter{}, Jump{Kind: "drop"}}}
}
