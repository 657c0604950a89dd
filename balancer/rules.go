package balancer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Names within our table that balancer/dataplane changes by themselves.
const (
	SetActive = "active" // switch: has an element while this node takes new flows
	SetGrace  = "grace"  // timed: while it has one, TCP in mid-stream is dropped
)

// Hook priorities: connection tracking is at -200, the admin's filter at 0,
// destination NAT at -100, source NAT at 100.
const (
	prioMark   = -150
	prioDNAT   = -100
	prioFilter = -10
	prioSNAT   = 100
)

// nft builds the nft table. A comment at each chain says what it is for.
func (c *Config) nft(now Input, does []doing, six []netip.Addr) Table {
	mask := c.MarkMask
	jump := func(chain string) Jump { return Jump{Kind: "goto", Chain: chain} }
	ret := Jump{Kind: "return"}
	drop := Jump{Kind: "drop"}
	others := Family4{Not: true} // other families are not ours yet

	lanIf := Set{Name: "lan_if", Key: KeyIfname}
	for _, l := range c.Lans {
		for _, d := range l.devices() {
			lanIf.Elements = append(lanIf.Elements, Element{Ifname: d})
		}
	}
	wanIf := Set{Name: "wan_if", Key: KeyIfname}
	nodes := Set{Name: "nodes", Key: KeyAddr4}
	for _, a := range c.Nodes {
		if a.Is4() {
			nodes.Elements = append(nodes.Elements, Element{Addr: a})
		}
	}
	inside := Set{Name: "inside", Key: KeyAddr4, Elements: slices.Clone(nodes.Elements)}
	for _, l := range c.Lans {
		for _, p := range slices.Concat(l.Virtual, now.OwnLan[l.Name]) {
			if p.Addr().Is4() {
				inside.Elements = append(inside.Elements, Element{Addr: p.Addr()})
			}
		}
	}
	virtual := Set{Name: "virtual", Key: KeyAddr4}
	active := Set{Name: SetActive, Key: KeyProto}
	if now.Active {
		active.Elements = []Element{{}}
	}
	grace := Set{Name: SetGrace, Key: KeyProto, Timeout: true, Volatile: true}
	ended := Set{Name: SetEnded, Key: KeyEnds, Timeout: true, Volatile: true}
	wayIn := Set{Name: "way_in", Key: KeyIfname, Verdicts: true}
	wanOut := Set{Name: "wan_out", Key: KeyIfname, Verdicts: true}
	restore := Set{Name: "restore", Key: KeyMark, Verdicts: true, Room: maxUplinks}
	marks := Set{Name: "marks", Key: KeyMark, Room: maxUplinks}
	nat := Set{Name: "nat", Key: KeyIfname, Verdicts: true}
	search := c.classify(does, now)
	guardSets, guards, from := c.firewall()
	var perUplink []Chain
	for _, u := range c.Uplinks {
		id := c.mark(u)
		for _, d := range u.devices() {
			wanIf.Elements = append(wanIf.Elements, Element{Ifname: d})
			wayIn.Elements = append(wayIn.Elements, Element{Ifname: d, Verdict: jump("in_" + u.Name)})
			wanOut.Elements = append(wanOut.Elements, Element{Ifname: d, Verdict: jump("own_" + u.Name)})
			nat.Elements = append(nat.Elements, Element{Ifname: d, Verdict: jump("nat_" + u.Name)})
		}
		restore.Elements = append(restore.Elements, Element{Mark: id, Verdict: jump("mark_" + u.Name)})
		if c.brake(u) == 0 { // else each packet is measured
			marks.Elements = append(marks.Elements, Element{Mark: id})
		}
		translate := Rule{Masquerade{}}
		if to := u.NAT(); to.IsValid() {
			translate = Rule{SNAT{To: to}}
		}
		for _, p := range u.Virtual {
			virtual.Elements = append(virtual.Elements, Element{Addr: p.Addr()})
		}
		perUplink = append(perUplink,
			// What comes in on the uplink is answered through it. The packet's own
			// mark is for rp_filter (src_valid_mark): without it the kernel looks the
			// source up in the main table, and drops all if there is no default.
			Chain{Name: "in_" + u.Name, Rules: slices.Concat([]Rule{
				{State{CtNew}, CtMarked{Mask: mask, Not: true}, SetCtMark{mask, id}},
				{SetMetaMark{mask, id}},
			}, from.wan, c.brakeRules(u, u.Speed.Down))},
			// A new flow is given to it.
			Chain{Name: "up_" + u.Name, Rules: []Rule{{Counter{}, SetCtMark{mask, id}, SetMetaMark{mask, id}, Jump{Kind: "accept"}}}},
			// A flow that is on it stays on it.
			Chain{Name: "mark_" + u.Name, Rules: append([]Rule{{SetMetaMark{mask, id}}}, c.brakeRules(u, u.Speed.Up)...)},
			// The route led there: remember.
			Chain{Name: "own_" + u.Name, Rules: []Rule{{SetCtMark{mask, id}}}},
			Chain{Name: "nat_" + u.Name, Rules: []Rule{translate}},
		)
	}
	for _, e := range lanIf.Elements {
		if !wanIf.has(e) { // what is both is an uplink
			wayIn.Elements = append(wayIn.Elements, Element{Ifname: e.Ifname, Verdict: jump("lan")})
		}
	}
	if len(from.wan) > 0 {
		for _, d := range c.Firewall.Former {
			if e := (Element{Ifname: d}); !lanIf.has(e) && !wanIf.has(e) {
				wanIf.Elements = append(wanIf.Elements, e)
				wayIn.Elements = append(wayIn.Elements, Element{Ifname: d, Verdict: jump("former")})
			}
		}
		if len(c.Firewall.Former) > 0 {
			perUplink = append(perUplink, Chain{Name: "former", Rules: from.wan})
		}
	}
	sets := []Set{lanIf, wanIf, nodes, inside, virtual, active, grace, ended, wayIn, wanOut, restore, marks, nat}
	in := []Rule{{others, ret}}
	var unaccepted []Chain
	if c.NoAccept {
		all := Set{Name: "virtual_all", Key: KeyAddr4}
		for _, l := range c.Lans {
			all.add4(l.Virtual)
		}
		for _, u := range c.Uplinks {
			all.add4(u.Virtual)
		}
		sets = append(sets, all)
		in = append(in, Rule{AddrIn{Dst: true, Set: all.Name}, jump("unaccepted")})
		// The router's own flows may have such an address, and neither they nor
		// what it says to itself come from others.
		unaccepted = []Chain{{Name: "unaccepted", Rules: []Rule{
			{State{CtEstablished | CtRelated}, ret},
			{FibType{Source: true, Type: "local"}, ret},
			{Counter{}, drop},
		}}}
		if len(six) > 0 {
			all := Set{Name: "virtual_all6", Key: KeyAddr6}
			for _, a := range six {
				all.Elements = append(all.Elements, Element{Addr: a})
			}
			sets = append(sets, all)
			in = slices.Insert(in, 0, Rule{AddrIn{Dst: true, Six: true, Set: all.Name}, jump("unaccepted6")})
			// Who asks whose MAC that is gets an answer all the same (RFC 9568 §6.1).
			unaccepted = append(unaccepted, Chain{Name: "unaccepted6", Rules: slices.Insert(slices.Clone(unaccepted[0].Rules), 0, Rule{Neighbour{}, ret})})
		}
	}
	in = append(in,
		Rule{InSet{Not: true, Set: "wan_if"}, ret},
		Rule{AddrIn{Dst: true, Set: "virtual"}, jump("to_virtual")},
	)
	forward := c.forwarding(now)
	extra := c.extraRules()
	clamp := c.clamp()
	sets = slices.Concat(sets, search.sets, c.brakeSets(), forward.sets, guardSets, extra.sets)

	chains := append([]Chain{
		// Marks, before routing.
		{Name: "pre", Type: "filter", Hook: "prerouting", Priority: prioMark, Rules: slices.Concat([]Rule{
			{Unmarked{}, CtMarkIn{Mask: mask, Set: "marks"}, CopyMark{mask}, ret},
		}, from.six, search.byLan, []Rule{
			{VMap{By: ByInput, Map: "way_in"}},
			{AddrIn{Set: "nodes"}, jump(search.ofNodes)}, // a backup without an own way out
		})},
		{Name: "lan", Rules: slices.Concat([]Rule{
			{VMap{By: ByCtMark, Mask: mask, Map: "restore"}},
		}, from.lan, extra.lan, []Rule{
			{State{CtNew}, FibType{Type: "unicast"}, jump("classify")},
		}, search.invalid)},
		// Which policy, and by it which uplink.
		{Name: "classify", Rules: search.rules},
		// The node's own packets: those that carry a mark chose by themselves
		// (probes); others follow the flow that they belong to.
		{Name: "out", Type: "route", Hook: "output", Priority: prioMark, Rules: []Rule{
			{others, ret},
			{MetaMarked{Mask: mask}, ret},
			{VMap{By: ByCtMark, Mask: mask, Map: "restore"}},
			{State{CtNew}, FibType{Source: true, OnOutput: true, Type: "local"}, VMap{By: ByOutput, Map: "wan_out"}},
		}},
		// The node's own packets are not translated. In the moment between two
		// roles some may have a way out but no address there: better none than
		// one from an inner network.
		{Name: "leave", Type: "filter", Hook: "postrouting", Priority: prioFilter, Rules: []Rule{
			{CameIn{}, ret},
			{others, ret},
			{InSet{Output: true, Not: true, Set: "wan_if"}, ret},
			{IntoTunnel{}, ret},
			{AddrIn{Set: "inside"}, FibType{Source: true, Type: "local"},
				FibType{Source: true, OnOutput: true, Not: true, Type: "local"}, Counter{}, drop},
		}},
		// Towards uplinks: nothing without an entry but what begins here.
		{Name: "forwarded", Type: "filter", Hook: "forward", Priority: prioFilter, Rules: slices.Concat(through(clamp, len(guards) > 0, mask), []Rule{
			{others, ret},
			{InSet{Output: true, Set: "wan_if"}, jump("to_wan")},
		})},
		// Packets without a mark are of nobody's that we look after, unless they
		// come from a lan: then they would leave without translation.
		{Name: "to_wan", Rules: slices.Concat([]Rule{
			{State{CtInvalid}, InSet{Set: "lan_if"}, Counter{}, drop},
			{State{CtInvalid}, AddrIn{Set: "nodes"}, Counter{}, drop},
		}, extra.toWAN, []Rule{
			append(Rule{State{CtNew}, MetaMarked{Mask: mask, Not: true}, InSet{Set: "lan_if"}}, search.unmarked...),
			// A flow of an uplink that a reload took out of the file: what the main
			// table would lead it to is another ISP, with the wrong source.
			{CtMarked{Mask: mask}, MetaMarked{Mask: mask, Not: true}, Counter{}, drop},
			{MetaMarked{Mask: mask, Not: true}, ret},
			{State{CtNew}, TCPFlags{Mask: flagFIN | flagSYN | flagRST | flagACK, Value: flagSYN, Not: true}, jump("midstream")},
			{State{CtNew}, ProtoIn{Not: true, Set: SetActive}, Counter{}, drop},
			// To an uplink's own network the main table leads, whatever was drawn.
			{State{CtNew}, VMap{By: ByOutput, Map: "wan_out"}},
		})},
		c.midstream(),
		// From uplinks to virtual addresses: an answer "closed" would end a
		// flow whose entry the other node has.
		{Name: "in", Type: "filter", Hook: "input", Priority: prioFilter, Rules: in},
		{Name: "to_virtual", Rules: c.toVirtual()},
		{Name: "post", Type: "nat", Hook: "postrouting", Priority: prioSNAT, Rules: slices.Concat([]Rule{{others, ret}, {IntoTunnel{}, ret}}, forward.post, extra.post, []Rule{
			{MetaMarked{Mask: mask, Not: true}, ret},
			{CameIn{Not: true}, FibType{Source: true, Type: "local"}, ret},
			{VMap{By: ByOutput, Map: "nat"}},
		})},
	}, slices.Concat(search.chains, perUplink, unaccepted, forward.chains, guards, extra.chains, clamp, c.notice())...)
	for i := range sets {
		sets[i].tidy()
	}
	return Table{Sets: sets, Chains: chains}
}

// toVirtual is what becomes of packets from uplinks to virtual addresses.
func (c *Config) toVirtual() []Rule {
	ret := Jump{Kind: "return"}
	out := []Rule{
		{State{CtEstablished | CtRelated}, ret},
		{EchoRequest{}, ret},
		{Listener{}, ret},
	}
	protocols, all := c.opened()
	if all {
		out = append(out, Rule{Layer4{6}, Counter{}, Jump{Kind: "drop"}}, Rule{Layer4{17}, Counter{}, Jump{Kind: "drop"}}, Rule{ret})
	}
	for _, p := range protocols {
		out = append(out, Rule{Layer4{p}, ret})
	}
	return append(out, Rule{Counter{}, Jump{Kind: "drop"}})
}

// through is what stands before all else in the chain of what is forwarded. A
// flow that is known and has its mark is of nobody's interest there, nor is one
// that no uplink has to do with.
func through(clamp []Chain, guarded bool, mask uint32) (out []Rule) {
	ret, known := Jump{Kind: "return"}, State{CtEstablished | CtRelated}
	if len(clamp) > 0 {
		out = append(out, Rule{TCPFlags{Mask: flagSYN | flagRST, Value: flagSYN}, Jump{"jump", "clamp"}})
	}
	out = append(out, Rule{known, MetaMarked{Mask: mask}, ret}, Rule{known, CtMarked{Mask: mask, Not: true}, ret})
	// A more specific route of the main table led elsewhere: not ours. What is
	// refused behind this is answered by the way it came.
	out = append(out, Rule{State{CtNew}, CtMarked{Mask: mask}, InSet{Output: true, Not: true, Set: "wan_if"}, InSet{Not: true, Set: "wan_if"}, SetCtMark{mask, 0}, SetMetaMark{mask, 0}})
	if guarded {
		out = append(out, Rule{Jump{"jump", "guard_forward"}})
	}
	return out
}

// add4 adds the IPv4 addresses of a list.
func (s *Set) add4(ps []netip.Prefix) {
	for _, p := range ps {
		if p.Addr().Is4() {
			s.Elements = append(s.Elements, Element{Addr: p.Addr()})
		}
	}
}

// WithoutListener is the table for a kernel that cannot tell whether a packet
// has a listening socket (no NFT_SOCKET): instead of the packet, the answer is
// dropped that would betray that there is none.
func (t Table) WithoutListener() Table {
	out := Table{Sets: t.Sets}
	for _, c := range t.Chains {
		if slices.ContainsFunc(c.Rules, func(r Rule) bool { return slices.Contains(r, Stmt(Listener{})) }) {
			c.Rules = nil
		}
		out.Chains = append(out.Chains, c)
	}
	ret, drop := Jump{Kind: "return"}, Jump{Kind: "drop"}
	out.Chains = append(out.Chains, Chain{Name: "mute", Type: "filter", Hook: "output", Priority: prioFilter, Rules: []Rule{
		{Family4{Not: true}, ret},
		{InSet{Output: true, Not: true, Set: "wan_if"}, ret},
		{AddrIn{Set: "virtual"}, TCPFlags{Mask: flagRST, Value: flagRST}, Counter{}, drop},
		{AddrIn{Set: "virtual"}, NoListener{}, Counter{}, drop},
	}})
	return out
}

func (s *Set) has(e Element) bool {
	return slices.ContainsFunc(s.Elements, func(o Element) bool { return e.compare(o) == 0 })
}

// tidy sorts the elements and drops doubles: two lans may share a device.
func (s *Set) tidy() {
	slices.SortFunc(s.Elements, Element.compare)
	s.Elements = slices.CompactFunc(s.Elements, func(a, b Element) bool { return a.compare(b) == 0 })
}

func (e Element) compare(o Element) int {
	addr := func(a netip.Addr) string { return fmt.Sprintf("%032x", a.AsSlice()) }
	return cmp.Or(cmp.Compare(e.Ifname, o.Ifname), cmp.Compare(e.Mark, o.Mark), cmp.Compare(e.Span.First, o.Span.First), cmp.Compare(addr(e.Addr), addr(o.Addr)))
}
