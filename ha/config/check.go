package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// facts are what the decoder noted, with its place, for comparing things that
// stand apart from each other.
type facts struct {
	owned    []claim // addresses that must be distinct: of nodes, virtual, of foreign routers
	far      []claim // addresses that must be none of ours: gateways, targets
	first    []claim // of each node
	six      []claim // virtual addresses of IPv6
	nets     []subnet
	links    []linkFact
	devices  []override
	gateways []gatewayFact
	ids      []idFact
	macs     []macFact
	policies map[string]*value
	forwards []forwardFact
	allows   []allowFact
	groups   *value // firewall.groups
	routes   []routeFact
	weight   *value // of the last uplink
	mask     *value // balance.mark_mask
}

const foreignRouter = "a foreign router"

type claim struct {
	addr netip.Addr
	link string // of a link-local virtual address: another link may have it too
	who  string
	v    *value
}

func (c claim) clashes(o claim) bool {
	return c.addr == o.addr && (c.link == o.link || c.link == "" || o.link == "")
}

type subnet struct {
	prefix netip.Prefix
	link   string
	v      *value
}

type linkFact struct {
	name, kind, dev string
	named, device   *value
}

type override struct {
	node, path   string
	link, device *value
}

type gatewayFact struct {
	addr    netip.Addr
	uplink  string
	virtual []netip.Prefix
	v       *value
}

type idFact struct {
	id      int
	uplink  string
	written bool
	v       *value
}

// macFact is a link with a virtual MAC.
type macFact struct {
	vrid uint8
	link string
	v    *value
}

func (f *facts) own(a netip.Addr, link, who string, v *value) {
	f.owned = append(f.owned, claim{a, link, who, v})
}

// byPlace orders as the file does, so that the later of two is the one blamed.
func byPlace(a, b *value) int {
	return cmp.Or(a.line-b.line, a.col-b.col)
}

func (d *decoder) check(c *Config) {
	d.checkNames()
	d.checkDevices(c)
	d.checkAddresses()
	d.checkFamilies(c)
	d.checkNetworks()
	d.checkGateways()
	d.checkNodes(c)
	d.checkIDs(c)
	d.checkWeights(c)
	d.checkMACs()
	d.checkMeasured(c)
	d.checkForwards(c)
	d.checkAllows(c)
	d.checkGroups(c)
	d.checkRoutes(c)
	d.checkPlaceholders(c)
	if len(c.Nodes) > 0 && len(d.facts.links) == 0 {
		d.warn(&value{line: 1, col: 1}, "there are neither lans nor uplinks: the nodes only watch each other")
	}
}

var article = map[string]string{"lan": "a lan", "uplink": "an uplink"}

// checkNames: lans and uplinks share one set of names (nodes.N.devices).
func (d *decoder) checkNames() {
	first := map[string]linkFact{}
	for _, l := range d.facts.links {
		if was, ok := first[l.name]; ok && l.name != "" {
			d.fail(l.named, "%ss: the name %s is that of %s in line %d too; allowed: a different name for each lan and uplink",
				l.kind, l.name, article[was.kind], was.named.line)
			continue
		}
		first[l.name] = l
	}
	delete(first, "")
	names := slices.Sorted(maps.Keys(first))
	for _, o := range d.facts.devices {
		if _, ok := first[o.link.text]; !ok {
			d.fail(o.link, "%s: there is no lan or uplink %s%s; allowed: %s", o.path, quote(o.link.text), didYouMean(o.link.text, names), join(names))
		}
	}
}

// checkDevices: one device carries one link, on each node. Two on one device
// could not be told apart by where a packet comes in.
func (d *decoder) checkDevices(c *Config) {
	type use struct {
		link, dev string
		v         *value
	}
	overrides := map[[2]string]*value{}
	for _, o := range d.facts.devices {
		overrides[[2]string{o.node, o.link.text}] = o.device
	}
	blamed := map[*value]bool{}
	for _, n := range c.Nodes {
		first := map[string]use{}
		for _, l := range d.facts.links {
			u := use{l.name, l.dev, l.device}
			if v := overrides[[2]string{n.Name, l.name}]; v != nil {
				u.dev, u.v = v.text, v
			}
			was, taken := first[u.dev]
			switch {
			case u.dev == "" || u.v == nil:
				continue
			case !taken:
				first[u.dev] = u
				continue
			case byPlace(was.v, u.v) > 0:
				was, u = u, was
			}
			if !blamed[u.v] {
				blamed[u.v] = true
				d.fail(u.v, "device %s carries %s on node %s already (line %d); allowed: one lan or uplink on each device, all its addresses in one list",
					u.dev, was.link, n.Name, was.v.line)
			}
		}
	}
}

func (d *decoder) checkAddresses() {
	slices.SortStableFunc(d.facts.owned, func(a, b claim) int { return byPlace(a.v, b.v) })
	seen := map[netip.Addr][]claim{}
	for _, cl := range d.facts.owned {
		if i := slices.IndexFunc(seen[cl.addr], cl.clashes); i >= 0 {
			was := seen[cl.addr][i]
			d.fail(cl.v, "%s stands twice: %s in line %d, %s here; allowed: each address once", cl.addr, was.who, was.v.line, cl.who)
			continue
		}
		seen[cl.addr] = append(seen[cl.addr], cl)
	}
	for _, g := range d.facts.gateways {
		d.facts.far = append(d.facts.far, claim{addr: g.addr, who: g.uplink + ".gateway", v: g.v})
	}
	for _, cl := range d.facts.far {
		if all := seen[cl.addr]; len(all) > 0 && all[0].who != foreignRouter {
			d.fail(cl.v, "%s: %s is %s (line %d); allowed: an address that is not ours", cl.who, cl.addr, all[0].who, all[0].v.line)
		}
	}
}

// checkFamilies: unicast adverts go between the first addresses of the nodes, so
// these are of one family, and version 2 knows IPv4 only.
func (d *decoder) checkFamilies(c *Config) {
	family := map[bool]string{true: "IPv4", false: "IPv6"}
	if c.VRRP.Version == 2 {
		for _, cl := range d.facts.six {
			d.fail(cl.v, "%s: %s with vrrp.version: 2, which knows IPv4 only (RFC 3768); allowed: IPv4 addresses, or vrrp.version: 3", cl.who, cl.addr)
		}
	}
	for i, cl := range d.facts.first {
		was := d.facts.first[0]
		switch {
		case c.VRRP.Version == 2 && cl.addr.Is6():
			d.fail(cl.v, "%s: %s comes first, and vrrp.version: 2 knows IPv4 only (RFC 3768); allowed: an IPv4 address first, or vrrp.version: 3", cl.who, cl.addr)
		case i > 0 && cl.addr.Is4() != was.addr.Is4():
			d.fail(cl.v, "%s: %s is %s, but the first address of %s (line %d) is %s; allowed: first addresses of one family, since adverts go between them",
				cl.who, cl.addr, family[cl.addr.Is4()], was.who, was.v.line, family[was.addr.Is4()])
		}
	}
	if !c.VRRP.UnicastOnly || len(d.facts.first) == 0 {
		return
	}
	first := d.facts.first[0].addr
	for _, cl := range d.facts.owned {
		switch {
		case cl.who != foreignRouter:
		case cl.addr.Is6() && cl.addr.IsLinkLocalUnicast():
			d.fail(cl.v, "vrrp.foreign: %s is good on one link only, and with unicast_only adverts are routed; allowed: an address that is good everywhere", cl.addr)
		case cl.addr.Is4() != first.Is4():
			d.fail(cl.v, "vrrp.foreign: %s is %s, and with unicast_only adverts leave from %s; allowed: an address of that family", cl.addr, family[cl.addr.Is4()], first)
		}
	}
}

// checkNetworks finds overlaps: networks nest or are apart, so that in the order
// of first address and length each one's nearest enclosing is on the stack.
func (d *decoder) checkNetworks() {
	var nets []subnet
	seen := map[string]bool{}
	for _, n := range d.facts.nets {
		key := fmt.Sprint(n.link, n.prefix.Masked())
		if !seen[key] {
			seen[key] = true
			nets = append(nets, subnet{n.prefix.Masked(), n.link, n.v})
		}
	}
	slices.SortStableFunc(nets, func(a, b subnet) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), a.prefix.Bits()-b.prefix.Bits(), byPlace(a.v, b.v))
	})
	var open []subnet
	for _, n := range nets {
		for len(open) > 0 && !open[len(open)-1].prefix.Overlaps(n.prefix) {
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			d.overlap(open[len(open)-1], n)
		}
		open = append(open, n)
	}
}

func (d *decoder) overlap(a, b subnet) {
	if a.link == b.link && b.prefix.IsSingleIP() {
		return
	}
	if byPlace(a.v, b.v) > 0 {
		a, b = b, a
	}
	allowed := "networks that do not overlap"
	switch {
	case a.link == b.link:
		allowed = fmt.Sprintf("the same length for all addresses of one network, or /%d", a.prefix.Addr().BitLen())
	case strings.HasPrefix(a.link, "uplinks.") && strings.HasPrefix(b.link, "uplinks."):
		allowed += fmt.Sprintf(" (two lines in one network: write their addresses with /%d)", a.prefix.Addr().BitLen())
	}
	d.fail(b.v, "%s: network %s overlaps %s of %s in line %d; allowed: %s", b.link, b.prefix, a.prefix, a.link, a.v.line, allowed)
}

func (d *decoder) checkGateways() {
	for _, g := range d.facts.gateways {
		inside, real := false, false
		for _, p := range g.virtual {
			inside = inside || p.Contains(g.addr)
			real = real || is4(p) && !p.IsSingleIP()
		}
		if real && !inside {
			d.warn(g.v, "%s: gateway %s lies in no network of its virtual_addresses", g.uplink, g.addr)
		}
		for _, n := range d.facts.nets {
			if n.link != g.uplink && n.prefix.Contains(g.addr) && !n.prefix.IsSingleIP() {
				d.warn(g.v, "%s: gateway %s lies in the network of %s (line %d)", g.uplink, g.addr, n.link, n.v.line)
				break
			}
		}
	}
}

// checkNodes: a node all of whose addresses are on lans or uplinks has no path
// of its own.
func (d *decoder) checkNodes(c *Config) {
	if len(c.Nodes) < 2 {
		return
	}
	apart := map[string]bool{} // has a path of its own
	for _, cl := range d.facts.owned {
		if !strings.HasPrefix(cl.who, "node ") {
			continue
		}
		if cl.addr.IsLoopback() {
			d.fail(cl.v, "%s: %s is reached by no other node; allowed: an address that the others reach", cl.who, cl.addr)
		}
		apart[cl.who] = apart[cl.who] || d.linkOf(cl.addr) == ""
	}
	for _, cl := range d.facts.owned {
		if on, of := apart[cl.who]; of && !on {
			d.warn(cl.v, "%s: %s lies in the network of %s: when that fails the nodes lose each other there too, so there is one witness less", cl.who, cl.addr, d.linkOf(cl.addr))
			apart[cl.who] = true // once for each node
		}
	}
}

// linkOf is the lan or uplink in whose network an address lies.
func (d *decoder) linkOf(a netip.Addr) string {
	for _, n := range d.facts.nets {
		if n.prefix.Contains(a) {
			return n.link
		}
	}
	return ""
}

func (d *decoder) checkIDs(c *Config) {
	ids := slices.Clone(d.facts.ids)
	// Written ones have the better claim.
	slices.SortStableFunc(ids, func(a, b idFact) int {
		switch {
		case a.written == b.written:
			return 0
		case a.written:
			return -1
		}
		return 1
	})
	first := map[int]idFact{}
	for _, f := range ids {
		was, taken := first[f.id]
		switch {
		case !taken:
			first[f.id] = f
		case f.written:
			d.fail(f.v, "%s: id %d is that of %s too (line %d); allowed: a different id from 1 to %d for each", f.uplink, f.id, was.uplink, was.v.line, maxID)
		default:
			d.fail(f.v, "%s: its id would be %d, from its place in the file, but %s has that id (line %d); allowed: a different id; write one from 1 to %d", f.uplink, f.id, was.uplink, was.v.line, maxID)
		}
	}
	for _, f := range ids {
		if f.id > c.Balance.MarkMask.Max() && d.facts.mask != nil {
			d.fail(d.facts.mask, "balance.mark_mask: %s holds ids up to %d, but %s has id %d; allowed: a mask of more bits, such as 0x3f00",
				c.Balance.MarkMask, c.Balance.MarkMask.Max(), f.uplink, f.id)
			break
		}
	}
}

// checkMACs warns of links with the same virtual MAC: which of them share a
// switch, the file does not tell.
func (d *decoder) checkMACs() {
	first := map[uint8]macFact{}
	for _, f := range d.facts.macs {
		was, taken := first[f.vrid]
		if !taken {
			first[f.vrid] = f
			continue
		}
		d.warn(f.v, "%s.virtual_mac and %s.virtual_mac have the same virtual MAC 00:00:5e:00:01:%02x, from vrid %d: where one switch carries both without VLANs, give one of them another vrid",
			f.link, was.link, f.vrid, f.vrid)
	}
}

// checkWeights: something must be left for new flows.
func (d *decoder) checkWeights(c *Config) {
	for _, p := range c.Policies {
		sum, used := 0, 0
		for _, u := range c.Uplinks {
			if len(p.Uplinks) > 0 && !contains(p.Uplinks, u.Name) {
				continue
			}
			w, own := p.Weights[u.Name]
			if !own {
				w = u.Weight
			}
			sum, used = sum+w, used+1
		}
		if used == 0 || sum > 0 {
			continue
		}
		if at := d.facts.policies[p.Name]; len(p.Uplinks) > 0 || len(p.Weights) > 0 {
			d.fail(at, "policies.%s: the weights of all its uplinks are 0; allowed: 1 to 255 for at least one of them", p.Name)
		} else if p.Name == DefaultPolicy {
			d.fail(d.facts.weight, "uplinks: the weights of all of them are 0; allowed: 1 to 255 for at least one")
		}
	}
}

// Placeholders are addresses that no network has (RFC 2544). import writes one where
// it does not know the real one; check names each that is left.
var Placeholders = netip.MustParsePrefix("198.19.0.0/16")

// checkPlaceholders names what somebody must still fill in.
func (d *decoder) checkPlaceholders(c *Config) {
	for _, cl := range d.facts.owned {
		switch {
		case len(c.Nodes) == 1 && cl.who == "node "+c.Nodes[0].Name && cl.addr.IsLoopback():
			d.warn(cl.v, "%s: %s is reached by no other node; before a second one joins, write an address that it reaches", cl.who, cl.addr)
		case Placeholders.Contains(cl.addr):
			d.warn(cl.v, "%s is a placeholder (%s); write the real address", cl.addr, cl.who)
		}
	}
}
