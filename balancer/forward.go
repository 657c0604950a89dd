package balancer

import (
	"fmt"
	"net/netip"
	"slices"
)

// Forward leads ports of the uplinks' addresses to a host behind the router: the
// virtual ones, and the node's own where an uplink has none. What comes in is
// marked before it is translated, so the answers leave by the same uplink; the
// entry of the flow carries both, and goes on at another node.
type Forward struct {
	Protocol uint8 // 6 or 17
	Ports    Ports
	To       netip.Addr
	ToPort   uint16         // 0: the same one
	Uplinks  []string       // none: all
	Source   []netip.Prefix // who may; none: everybody
	Hairpin  bool           // the lans reach it by these addresses too
	Limit    Rate           // of new connections
}

// Rate is so many a unit, "second", "minute" or "hour"; 0: no limit.
type Rate struct {
	Count uint32
	Unit  string
}

type (
	// DestinationPort matches packets to some ports.
	DestinationPort struct {
		Protocol uint8
		Ports    Ports
	}
	// DNAT rewrites the destination; Port 0 leaves the port.
	DNAT struct {
		To   netip.Addr
		Port uint16
	}
	// Redirected matches flows whose destination was rewritten.
	Redirected struct{}
	// RateOver matches packets above a rate, once as many as it counts have come
	// besides.
	RateOver struct{ Rate }
)

func (DestinationPort) stmt() {}
func (DNAT) stmt()            {}
func (Redirected) stmt()      {}
func (RateOver) stmt()        {}

var transportNames = map[uint8]string{6: "tcp", 17: "udp"}

func (s DestinationPort) String() string {
	return fmt.Sprintf("%s dport %v", transportNames[s.Protocol], s.Ports)
}

func (s DNAT) String() string {
	if s.Port == 0 {
		return "dnat ip to " + s.To.String()
	}
	return "dnat ip to " + netip.AddrPortFrom(s.To, s.Port).String()
}

func (Redirected) String() string { return "ct status dnat" }

func (s RateOver) String() string {
	return fmt.Sprintf("limit rate over %d/%s burst %d packets", s.Count, s.Unit, s.Count)
}

// forwarding is what the forwards add to the table.
type forwarding struct {
	sets   []Set
	chains []Chain
	post   []Rule // before source NAT
}

func (c *Config) forwarding(now Input) (out forwarding) {
	if len(c.Forwards) == 0 {
		return out
	}
	everywhere := Set{Name: "forward_at", Key: KeyAddr4, Elements: c.reached(nil, now)}
	inner := Set{Name: "forward_hosts", Key: KeyAddr4}
	// TCP in mid-stream begins nothing: its entry may be on its way from the other node.
	wan := Chain{Name: "redirects_wan", Rules: []Rule{
		{TCPFlags{Mask: flagFIN | flagSYN | flagRST | flagACK, Value: flagSYN, Not: true}, Jump{Kind: "return"}},
	}}
	lan := Chain{Name: "redirects_lan"}
	used := false
	for i, f := range c.Forwards {
		at := everywhere.Name
		if len(f.Uplinks) > 0 {
			at = fmt.Sprintf("forward%d_at", i+1)
			out.sets = append(out.sets, Set{Name: at, Key: KeyAddr4, Elements: c.reached(f.Uplinks, now)})
		} else {
			used = true
		}
		match := Rule{AddrIn{Dst: true, Set: at}}
		if len(f.Source) > 0 {
			from := sourceSet(fmt.Sprintf("forward%d_from", i+1), f.Source)
			out.sets = append(out.sets, from)
			match = append(match, AddrIn{Set: from.Name})
		}
		match = append(match, DestinationPort{f.Protocol, f.Ports})
		var rules []Rule
		if f.Limit.Count > 0 {
			rules = append(rules, slices.Concat(match, Rule{RateOver{f.Limit}, Counter{}, Jump{Kind: "drop"}}))
		}
		rules = append(rules, slices.Concat(match, Rule{Counter{}, DNAT{f.To, f.ToPort}}))
		wan.Rules = append(wan.Rules, rules...)
		if f.Hairpin {
			lan.Rules = append(lan.Rules, rules...)
			inner.Elements = append(inner.Elements, Element{Addr: f.To})
		}
	}
	if used {
		out.sets = append(out.sets, everywhere)
	}
	begin := Chain{Name: "redirects", Type: "nat", Hook: "prerouting", Priority: prioDNAT, Rules: []Rule{
		{Family4{Not: true}, Jump{Kind: "return"}},
		{InSet{Set: "wan_if"}, Jump{Kind: "goto", Chain: wan.Name}},
	}}
	out.chains = []Chain{begin, wan}
	if len(lan.Rules) == 0 {
		return out
	}
	out.chains[0].Rules = append(begin.Rules, Rule{InSet{Set: "lan_if"}, Jump{Kind: "goto", Chain: lan.Name}})
	out.chains = append(out.chains, lan)
	// The host must answer through the router, also to a neighbour of its own: the
	// router speaks for the client, by an address that moves along in a takeover.
	hairpin := Set{Name: "hairpin", Key: KeyIfname, Verdicts: true}
	for _, l := range c.Lans {
		speak := Rule{Masquerade{}}
		if len(l.Virtual) > 0 {
			speak = Rule{SNAT{l.Virtual[0].Addr()}}
		}
		name := "hairpin_" + l.Name
		out.chains = append(out.chains, Chain{Name: name, Rules: []Rule{speak}})
		for _, d := range l.devices() {
			hairpin.Elements = append(hairpin.Elements, Element{Ifname: d, Verdict: Jump{Kind: "goto", Chain: name}})
		}
	}
	out.sets = append(out.sets, hairpin, inner)
	out.post = []Rule{{CtMarked{Mask: c.MarkMask, Not: true}, Redirected{}, AddrIn{Dst: true, Set: inner.Name}, VMap{By: ByOutput, Map: hairpin.Name}}}
	return out
}

// reached are the addresses of some uplinks, or of all, that a forward is for.
func (c *Config) reached(uplinks []string, now Input) []Element {
	s := Set{}
	for _, u := range c.Uplinks {
		if len(uplinks) > 0 && !slices.Contains(uplinks, u.Name) {
			continue
		}
		s.add4(u.Virtual)
		if len(u.Virtual) == 0 {
			for _, a := range now.Own[u.Name] {
				s.Elements = append(s.Elements, Element{Addr: a})
			}
		}
	}
	return s.Elements
}

// checkForwards refuses what no rule can say.
func (c *Config) checkForwards() error {
	for i, f := range c.Forwards {
		switch {
		case transportNames[f.Protocol] == "":
			return fmt.Errorf("forward %d: protocol %d; only tcp and udp can be forwarded", i+1, f.Protocol)
		case !f.To.Is4():
			return fmt.Errorf("forward %d: %v is no IPv4 address", i+1, f.To)
		}
	}
	return nil
}
