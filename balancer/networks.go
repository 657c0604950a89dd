package balancer

import (
	"fmt"
	"net/netip"
	"slices"
)

// Network is one that is reached another way than over the uplinks: behind a
// tunnel, a modem, or a router that stands in a lan. The main table leads there,
// ours before anything that is balanced; while its way lacks, nothing goes there:
// it would leave over an ISP, with that one's address.
type Network struct {
	To      netip.Prefix
	Device  string     // "": that of the link in whose network Gateway lies, or where the main table leads
	Gateway netip.Addr // zero: it is on the link
	// Source is what the node's own packets there have, on a node that has it;
	// zero: the kernel chooses.
	Source netip.Addr
	// Masquerade: what is forwarded there gets Source where that is virtual, else
	// the device's own address.
	Masquerade bool
}

// Names within our table.
const (
	setExtra    = "extra"     // addresses of these networks
	setExtraNAT = "extra_nat" // those that are translated
)

// over is the way to a network, and the device with a virtual MAC beside it.
func (c *Config) over(n Network) (hop Hop, mac string) {
	hop = Hop{Device: n.Device, Gateway: n.Gateway}
	link := func(device, macDevice string, virtual []netip.Prefix) {
		holds := slices.ContainsFunc(virtual, func(p netip.Prefix) bool { return p.Masked().Contains(n.Gateway) })
		if mac == "" && (hop.Device == device || hop.Device == "" && holds) {
			hop.Device, mac = device, macDevice
		}
	}
	for _, l := range c.Lans {
		link(l.Device, l.MACDevice, l.Virtual)
	}
	for _, u := range c.Uplinks {
		link(u.Device, u.MACDevice, u.Virtual)
	}
	return hop, mac
}

// networkRoutes are the ways to these networks, each above a wall.
func (c *Config) networkRoutes() []Route {
	var out []Route
	for _, n := range c.Networks {
		hop, mac := c.over(n)
		out = append(out, ways(Route{Table: mainTable, To: n.To, Source: n.Source}, hop, mac)...)
		out = append(out, Route{Table: mainTable, To: n.To, Unreachable: true, Metric: floor})
	}
	return out
}

// networkDevices are the devices of these networks that are of no link.
func (c *Config) networkDevices() []string {
	var links, out []string
	for _, u := range c.Uplinks {
		links = append(links, u.devices()...)
	}
	links = append(links, c.lanDevices()...)
	for _, n := range c.Networks {
		if hop, _ := c.over(n); hop.Device != "" && !slices.Contains(links, hop.Device) {
			out = append(out, hop.Device)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// extra is a span of addresses that leads to a network.
type extra struct {
	Span
	Network
}

// extras are the addresses of these networks: of those that lie in each other the
// innermost counts, and what is a link's own network is none of them.
func (c *Config) extras() []extra {
	type owner struct {
		Span
		bits    int
		network *Network // nil: a link
	}
	var owners []owner
	add := func(p netip.Prefix, n *Network) {
		if p.Addr().Is4() {
			owners = append(owners, owner{PrefixSpan(p.Masked()), p.Bits(), n})
		}
	}
	for i := range c.Networks {
		add(c.Networks[i].To, &c.Networks[i])
	}
	for _, l := range c.Lans {
		for _, p := range l.Virtual {
			add(p, nil)
		}
	}
	for _, u := range c.Uplinks {
		for _, p := range u.Virtual {
			add(p, nil)
		}
	}
	var cuts []uint64
	for _, o := range owners {
		cuts = append(cuts, o.First, o.Last+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var out []extra
	for i := range max(len(cuts), 1) - 1 {
		best := owner{bits: -1}
		for _, o := range owners {
			if o.First <= cuts[i] && cuts[i] <= o.Last && (o.bits > best.bits || o.bits == best.bits && o.network == nil) {
				best = o
			}
		}
		if best.network != nil {
			out = append(out, extra{Span{cuts[i], cuts[i+1] - 1}, *best.network})
		}
	}
	return out
}

// networks is what they add to the table.
type networks struct {
	sets   []Set
	chains []Chain
	lan    []Rule // before a new flow of a lan looks for its uplink
	toWAN  []Rule // for those without a mark towards an uplink's device
	post   []Rule // before source NAT
}

// extraRules let what goes to these networks through as it is: no uplink is
// chosen for it, also where it leaves by the device of one, and only what is
// masqueraded gets another source.
func (c *Config) extraRules() (out networks) {
	extras := c.extras()
	if len(extras) == 0 {
		return out
	}
	all := Set{Name: setExtra, Key: KeyAddr4, Interval: true}
	nat := Set{Name: setExtraNAT, Key: KeyAddr4, Interval: true, Verdicts: true}
	var spans []Span
	named := map[string]bool{}
	for _, e := range extras {
		spans = append(spans, e.Span)
		if !e.Masquerade {
			continue
		}
		chain := Chain{Name: "extra_masquerade", Rules: []Rule{{Masquerade{}}}}
		if c.IsVirtual(e.Source) {
			chain = Chain{Name: "extra_" + e.Source.String(), Rules: []Rule{{SNAT{e.Source}}}}
		}
		if !named[chain.Name] {
			named[chain.Name] = true
			out.chains = append(out.chains, chain)
		}
		to := Jump{Kind: "goto", Chain: chain.Name}
		if n := len(nat.Elements); n > 0 && nat.Elements[n-1].Verdict == to && nat.Elements[n-1].Span.Last+1 == e.First {
			nat.Elements[n-1].Span.Last = e.Last
			continue
		}
		nat.Elements = append(nat.Elements, Element{Span: e.Span, Verdict: to})
	}
	for _, span := range Union(spans...) {
		all.Elements = append(all.Elements, Element{Span: span})
	}
	there := AddrIn{Dst: true, Set: all.Name}
	out.sets = []Set{all}
	out.lan = []Rule{{State{CtNew}, there, Jump{Kind: "return"}}}
	out.toWAN = []Rule{{State{CtNew}, MetaMarked{Mask: c.MarkMask, Not: true}, there, ProtoIn{Set: SetActive}, Jump{Kind: "return"}}}
	if len(nat.Elements) > 0 {
		out.sets = append(out.sets, nat)
		out.post = []Rule{{FibType{Source: true, Not: true, Type: "local"}, VMap{By: ByDaddr, Map: nat.Name}}}
	}
	return out
}

// checkNetworks refuses what no route can say.
func (c *Config) checkNetworks() error {
	for i, n := range c.Networks {
		switch {
		case !n.To.IsValid() || !n.To.Addr().Is4() || n.To != n.To.Masked():
			return fmt.Errorf("network %d: %v is no IPv4 network", i+1, n.To)
		case n.To.Bits() == 0:
			return fmt.Errorf("network %d: the default route is the uplinks'", i+1)
		case n.Device == "" && !n.Gateway.IsValid():
			return fmt.Errorf("network %d (%v): neither device nor gateway", i+1, n.To)
		}
	}
	return nil
}
