package balancer

import "slices"

// Sources are looked at before routing: kernels before 6.10 know only there over
// which device a route leads.

type (
	// SourceBehind matches packets to whose source the route leads over a device:
	// that of the packet's mark, since a backup's own may go through the master.
	SourceBehind struct{ Device string }
	// SourceElsewhere matches packets to whose source no route leads over the device
	// by which they came.
	SourceElsewhere struct{}
)

func (SourceBehind) stmt()    {}
func (SourceElsewhere) stmt() {}

func (s SourceBehind) String() string {
	return "fib saddr . mark oifname \"" + s.Device + "\""
}
func (SourceElsewhere) String() string { return "fib saddr . mark . iif oif missing" }

// sources are the rules that look at where a new flow says to come from.
type sources struct {
	wan, lan, six []Rule // of packets that came by an uplink, by a lan, and all of IPv6
	sets          []Set
	chains        []Chain
}

// sources tell spoofed packets: from outside none comes from those inside, nor from
// a node that lives on another side; from a lan none but those behind that lan. Who
// speaks VRRP is decided where it is read; neighbours are found before they have
// an address; a tunnel has looked itself.
func (c *Config) sources() (out sources) {
	f := c.Firewall
	ret, refuse := Jump{Kind: "return"}, Jump{Kind: "goto", Chain: RefusalChain("spoofed")}
	jump := func(chain string) Jump { return Jump{Kind: "jump", Chain: chain} }
	fresh := State{CtNew}

	outside := Chain{Name: "sources_wan", Rules: []Rule{
		{OutOfTunnel{}, ret},
		{Layer4{protoVRRP}, ret},
		{ICMP6{130, 137}, ret},
		{ICMP6{143, 143}, ret},
		{AddrIn{Set: "nodes"}, SourceElsewhere{}, jump("sources_node")},
	}}
	if len(c.nodes6().Elements) > 0 {
		outside.Rules = append(outside.Rules, Rule{AddrIn{Six: true, Set: "nodes6"}, SourceElsewhere{}, jump("sources_node")})
	}
	node := Chain{Name: "sources_node", Rules: []Rule{
		{DestinationPort{6, Ports{f.Gossip, f.Gossip}}, refuse},
		{DestinationPort{17, Ports{f.Gossip, f.Gossip}}, refuse},
		{DestinationPort{6, Ports{f.Sync, f.Sync}}, refuse},
	}}
	out.wan = []Rule{{fresh, jump(outside.Name)}}
	six := Chain{Name: "sources6", Rules: []Rule{{fresh, InSet{Set: "wan_if"}, Jump{Kind: "goto", Chain: outside.Name}}}}
	if f.Antispoof {
		for _, d := range append(c.lanOnly(), c.networkDevices()...) {
			outside.Rules = append(outside.Rules, Rule{SourceBehind{d}, refuse})
		}
	}
	if f.Antispoof && len(c.Lans) > 0 {
		elsewhere := Chain{Name: "sources_elsewhere"}
		inside := Chain{Name: "sources_lan", Rules: []Rule{{SourceElsewhere{}, Jump{Kind: "goto", Chain: elsewhere.Name}}}}
		out.sets, elsewhere.Rules = c.sides()
		elsewhere.Rules = append(elsewhere.Rules, Rule{OutOfTunnel{}, ret}, Rule{AddrIn{Set: "nodes"}, ret}, Rule{refuse})
		out.chains = append(out.chains, inside, elsewhere)
		// To the router itself, and to all, a host may speak that has no address yet.
		out.lan = []Rule{{fresh, FibType{Type: "unicast"}, jump(inside.Name)}}
		six.Rules = append(six.Rules, Rule{fresh, InSet{Set: "lan_if"}, FibType{Type: "unicast"}, jump(inside.Name)})
	}
	out.six = []Rule{{Family4{Not: true}, Jump{Kind: "goto", Chain: six.Name}}}
	out.chains = append(out.chains, outside, node, six)
	return out
}

// sides let a host of a lan speak that has several devices, a virtual MAC's say:
// what came by one of them may have its way back over another.
func (c *Config) sides() (sets []Set, rules []Rule) {
	for i, l := range c.Lans {
		same := func(o Lan) bool { return o.Device == l.Device }
		if slices.ContainsFunc(c.Lans[:i], same) {
			continue
		}
		side := Set{Name: "side_" + l.Name, Key: KeyIfname}
		for _, o := range c.Lans[i:] {
			if same(o) {
				for _, d := range o.devices() {
					side.Elements = append(side.Elements, Element{Ifname: d})
				}
			}
		}
		if side.tidy(); len(side.Elements) < 2 {
			continue
		}
		sets = append(sets, side)
		for _, e := range side.Elements {
			rules = append(rules, Rule{InSet{Set: side.Name}, SourceBehind{e.Ifname}, Jump{Kind: "return"}})
		}
	}
	return sets, rules
}
