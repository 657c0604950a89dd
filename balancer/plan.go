package balancer

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// Plan is the complete kernel state that a node should have: twice applied is
// once applied.
type Plan struct {
	Sysctls []Sysctl
	Rules   []IPRule
	Routes  []Route
	Table   Table
	Active  bool
	MACs    []MACDevice

	TableBase, RulePriority int // the ranges that are ours

	Learned []LearnedSet // what rules learn, see LearnedSet
	Races   []RaceSet    // what rules want to know

	Slots  map[string][SlotCount]int     // by policy: the uplink's id, 0 if there is none
	Shares map[string]map[string]float64 // by policy, by uplink: 0…1 of the slots
	Does   map[string]string             // by policy, what it does without slots: "bypasses", "passes", "drops"
}

// Opens tells that packets may go through the router by it, which needs the rules
// of the table to be there first.
func (s Sysctl) Opens() bool {
	return strings.HasSuffix(s.Key, "/ip_forward") || strings.HasSuffix(s.Key, "/forwarding")
}

// Sysctl is one setting; Key has slashes ("net/ipv4/ip_forward"). Keep is left
// as it is at a clean-up.
type Sysctl struct {
	Key, Value string
	Keep       bool
}

// MACDevice is a macvlan with a virtual MAC, which vrrp/vip makes and switches on
// and off; it stands in the plan for those who read it.
type MACDevice struct {
	Name, Parent, MAC string
}

// IPRule is one rule of the routing policy database.
type IPRule struct {
	Priority   int
	From       netip.Addr // zero: any
	Mark, Mask uint32     // 0: any
	Of         Own        // of the node's own traffic: which
	Local      bool       // only the node's own traffic (iif lo)
	Table      int
	Specific   bool // no default route of that table (suppress_prefixlength 0)
}

// Route is one route. Routes reach their gateway without looking at addresses
// (onlink), and only those to extra networks name a source, so that no address
// that comes or goes changes another one.
type Route struct {
	Table       int
	To          netip.Prefix // /0: default
	Hops        []Hop
	Unreachable bool
	Metric      int
	// Waits: it is there while its device is up and has an address, which is
	// while this node holds the virtual ones, and lacks in silence else.
	Waits bool
	// Source is that of the node's own packets; left out while the node does not
	// have it.
	Source netip.Addr
}

// Hop is a way out of a route; several share by Weight.
type Hop struct {
	Device  string
	Gateway netip.Addr // zero: the destination is on the link
	Weight  int
}

// Well-known numbers.
const (
	mainTable  = 254
	floor      = math.MaxInt32 // metric of the unreachable default under each uplink's routes; an int has 32 bits on some nodes
	behindMAC  = 1             // metric of a route for which there is a better one while this node is master
	maxUplinks = 63
)

var any4 = netip.MustParsePrefix("0.0.0.0/0")

// Offsets from RulePriority.
const (
	ruleSpecific = 0
	ruleMarks    = 0 // + id, 1…63
	ruleOwn      = 100
	ruleVirtual  = 400
	rulePolicies = 700 // + place of the policy
	rulePool     = 900
)

// Build makes the plan; it is an error if the configuration contradicts
// itself in a way that the file's check lets pass.
func Build(c Config, in Input) (Plan, error) {
	if err := c.Check(); err != nil {
		return Plan{}, err
	}
	six := c.six()
	c = c.four()
	p := Plan{Active: in.Active, TableBase: c.TableBase, RulePriority: c.RulePriority,
		Slots: map[string][SlotCount]int{}, Shares: map[string]map[string]float64{}, Does: map[string]string{}}
	does := c.doings(in)
	for _, d := range does {
		p.Slots[d.Name], p.Shares[d.Name] = d.slots, c.shares(d.slots)
		if d.outcome != spreads {
			p.Does[d.Name] = d.outcome.String()
		}
	}
	p.Learned, p.Races = c.learned(does, in), c.races(does, in)
	p.MACs = c.macs()
	p.Table = c.nft(in, does, six)
	p.Sysctls = c.sysctls()
	p.Rules = c.rules(in, does)
	p.Routes = c.routes(in, does)
	return p, nil
}

// Check refuses what contradicts itself in a way that no plan can follow.
func (c *Config) Check() error {
	ids := map[int]string{}
	for _, u := range c.Uplinks {
		if u.ID < 1 || u.ID > maxUplinks {
			return fmt.Errorf("plan uplink %s: id %d, want 1 to %d", u.Name, u.ID, maxUplinks)
		}
		if m := c.mark(u); m&^c.MarkMask != 0 || m == 0 {
			return fmt.Errorf("plan uplink %s: id %d does not fit into the mark mask %#x", u.Name, u.ID, c.MarkMask)
		}
		if other, ok := ids[u.ID]; ok {
			return fmt.Errorf("plan uplinks %s and %s: both have id %d", other, u.Name, u.ID)
		}
		ids[u.ID] = u.Name
	}
	for _, p := range c.Policies {
		if err := p.Match.check(); err != nil {
			return fmt.Errorf("policies.%s: %w", p.Name, err)
		}
	}
	if err := c.checkForwards(); err != nil {
		return err
	}
	if err := c.checkNetworks(); err != nil {
		return err
	}
	return c.checkOwn()
}

func (c *Config) macs() (out []MACDevice) {
	add := func(parent, name, mac, name6, mac6 string) {
		if name != "" {
			out = append(out, MACDevice{name, parent, mac})
		}
		if name6 != "" {
			out = append(out, MACDevice{name6, parent, mac6})
		}
	}
	for _, l := range c.Lans {
		add(l.Device, l.MACDevice, l.MAC, l.MACDevice6, l.MAC6)
	}
	for _, u := range c.Uplinks {
		add(u.Device, u.MACDevice, u.MAC, u.MACDevice6, u.MAC6)
	}
	return out
}

func (c *Config) sysctls() []Sysctl {
	out := []Sysctl{
		{Key: "net/ipv4/ip_forward", Value: "1", Keep: true},
		// A device sends redirects if "all" or its own setting says so.
		{Key: "net/ipv4/conf/all/send_redirects", Value: "0"},
	}
	var all []string
	uplink := map[string]bool{}
	for _, l := range c.Lans {
		all = append(all, l.devices()...)
	}
	for _, u := range c.Uplinks {
		for _, d := range u.devices() {
			all = append(all, d)
			uplink[d] = true
		}
	}
	slices.Sort(all)
	for _, d := range slices.Compact(all) {
		for _, kv := range [][2]string{
			{"arp_ignore", "1"},          // answer only for addresses of that device
			{"arp_announce", "2"},        // and ask only in their name
			{"promote_secondaries", "1"}, // a virtual address takes no other along
			{"rp_filter", "0"},           // the way back is chosen by mark
			{"send_redirects", "0"},      // hosts stay with the virtual address
			{"forwarding", "1"},          // also where it was set for each device
		} {
			out = append(out, Sysctl{Key: "net/ipv4/conf/" + d + "/" + kv[0], Value: kv[1]})
		}
		if uplink[d] { // where rp_filter is on for all devices, it must look at our mark
			out = append(out, Sysctl{Key: "net/ipv4/conf/" + d + "/src_valid_mark", Value: "1"})
		}
	}
	for _, d := range c.networkDevices() {
		out = append(out, Sysctl{Key: "net/ipv4/conf/" + d + "/forwarding", Value: "1"})
	}
	return out
}

func (c *Config) rules(in Input, does []doing) []IPRule {
	out := []IPRule{{Priority: c.RulePriority + ruleSpecific, Table: mainTable, Specific: true}}
	own, virtual := ruleOwn, ruleVirtual
	for _, u := range c.Uplinks {
		out = append(out, IPRule{Priority: c.RulePriority + ruleMarks + u.ID, Mark: c.mark(u), Mask: c.MarkMask, Table: c.table(u)})
		for _, a := range in.Own[u.Name] {
			out = append(out, IPRule{Priority: c.RulePriority + own, From: a, Table: c.table(u)})
			own++
		}
		for _, p := range u.Virtual {
			out = append(out, IPRule{Priority: c.RulePriority + virtual, From: p.Addr(), Table: c.table(u)})
			virtual++
		}
	}
	out = append(out, c.ownRules(does)...)
	if len(c.Uplinks) > 0 {
		out = append(out, IPRule{Priority: c.RulePriority + rulePool, Local: true, Table: c.TableBase})
	}
	slices.SortStableFunc(out, func(a, b IPRule) int { return cmp.Compare(a.Priority, b.Priority) })
	return out
}

func (c *Config) routes(in Input, does []doing) []Route {
	var out []Route
	for _, l := range c.Lans {
		for _, p := range l.Virtual {
			covered := slices.ContainsFunc(in.OwnLan[l.Name], func(o netip.Prefix) bool {
				return o.Bits() <= p.Bits() && o.Masked().Contains(p.Addr())
			})
			if !covered {
				out = append(out, ways(Route{Table: mainTable, To: p.Masked()}, Hop{Device: l.Device}, l.MACDevice)...)
			}
		}
	}
	for _, u := range c.Uplinks {
		t := c.table(u)
		for _, p := range u.Virtual {
			out = append(out, ways(Route{Table: t, To: p.Masked()}, Hop{Device: u.Device}, u.MACDevice)...)
		}
		if gw := c.gateway(u, in); gw.IsValid() {
			out = append(out, ways(Route{Table: t, To: any4}, via(u.Device, gw, 0), u.MACDevice)...)
		}
		out = append(out, Route{Table: t, To: any4, Unreachable: true, Metric: floor})
	}
	if n := len(does); n > 0 {
		out = append(out, c.spread(c.TableBase, c.pool(in, does[n-1].slots))...)
	}
	out = append(out, c.ownRoutes(in, does)...)
	out = append(out, c.networkRoutes()...)
	slices.SortFunc(out, func(a, b Route) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.To.String(), b.To.String()))
	})
	return slices.CompactFunc(out, func(a, b Route) bool { return a.Table == b.Table && a.Metric == b.Metric && a.To == b.To })
}

// ways are a route over a link's device, and before it, where there is one, the
// same over the device with the virtual MAC: so neighbours are asked in the
// virtual address's name, and switches learn that MAC from all that is sent. The
// former stays behind it, for the moments in which the latter comes or goes and
// for a backup.
func ways(r Route, over Hop, mac string) []Route {
	behind := r
	behind.Hops = []Hop{over}
	if mac == "" {
		return []Route{behind}
	}
	behind.Metric = behindMAC
	over.Device = mac
	r.Hops, r.Waits = []Hop{over}, true
	return []Route{r, behind}
}

// via is a hop to an uplink's gateway; 0.0.0.0 stands for a point-to-point
// device, which needs none.
func via(device string, gw netip.Addr, weight int) Hop {
	if gw.IsUnspecified() {
		gw = netip.Addr{}
	}
	return Hop{Device: device, Gateway: gw, Weight: weight}
}

// spread is the default route of a table over several hops, if there are any.
func (c *Config) spread(table int, hops []Hop) []Route {
	if len(hops) == 0 {
		return nil
	}
	waits := slices.ContainsFunc(hops, func(h Hop) bool {
		return slices.ContainsFunc(c.Uplinks, func(u Uplink) bool { return h.Device != "" && h.Device == u.MACDevice })
	})
	return []Route{{Table: table, To: any4, Hops: hops, Waits: waits}}
}

// pool is the way of the node's own traffic: the uplinks that have slots, each
// as many as its weight; on a backup only those where it has an own address,
// and if there is none, through the master.
func (c *Config) pool(in Input, slots [SlotCount]int) []Hop {
	var hops []Hop
	for _, u := range c.Uplinks {
		n := slotsOf(slots, u.ID)
		gw := c.gateway(u, in)
		if n > 0 && gw.IsValid() && (in.Holding && len(u.Virtual) > 0 || len(in.Own[u.Name]) > 0) {
			device := u.Device
			if u.MACDevice != "" && len(in.Own[u.Name]) == 0 { // it is there that the source is
				device = u.MACDevice
			}
			hops = append(hops, via(device, gw, n))
		}
	}
	if len(hops) > 0 || in.Holding {
		return hops
	}
	for _, u := range c.Uplinks { // a healthy uplink of its own beats the detour
		if gw := c.gateway(u, in); in.Usable[u.Name] && gw.IsValid() && len(in.Own[u.Name]) > 0 {
			return []Hop{via(u.Device, gw, 1)}
		}
	}
	var detours []Hop
	for _, l := range c.Lans {
		for _, p := range l.Virtual {
			for _, o := range in.OwnLan[l.Name] {
				if o.Masked().Contains(p.Addr()) {
					way := Hop{Device: l.Device, Gateway: p.Addr(), Weight: 1}
					if detours = append(detours, way); slices.Contains(c.Nodes, o.Addr()) {
						return []Hop{way}
					}
				}
			}
		}
	}
	// The master tells a node's traffic by its address; from another one it would
	// take the policies of the lan.
	routers := slices.ContainsFunc(c.Policies, func(p Policy) bool { return p.Router })
	if in.Master.IsValid() && (routers || len(detours) == 0) {
		return []Hop{{Gateway: in.Master, Weight: 1}}
	}
	if len(detours) > 0 {
		return detours[:1]
	}
	return nil
}

// String is the plan as a shell script that gives this state on a machine that
// has none of it.
func (p Plan) String() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\nset -e\n")
	for _, m := range p.MACs { // up only where the sysctls keep it from answering for others
		fmt.Fprintf(&b, "ip link add %s link %s address %s type macvlan mode private\n", m.Name, m.Parent, m.MAC)
	}
	set := func(opens bool) {
		for _, s := range p.Sysctls {
			value := s.Value
			if strings.HasSuffix(s.Key, "/rp_filter") { // all=1 would make it strict
				value = `$([ "$(sysctl -n net/ipv4/conf/all/rp_filter)" = 1 ] && echo 2 || echo ` + value + ")"
			}
			if s.Opens() == opens {
				fmt.Fprintf(&b, "sysctl -qw %s=%s\n", s.Key, value)
			}
		}
	}
	set(false)
	for _, m := range p.MACs {
		if p.Active {
			fmt.Fprintf(&b, "ip link set %s up\n", m.Name)
		}
	}
	for _, r := range p.Routes {
		if r.Waits && !p.Active {
			continue
		}
		words := r.String()
		if len(r.Hops) == 1 && r.Hops[0].Device == "" { // where the main table leads directly
			words += fmt.Sprintf(` dev $(ip route get %v | sed -n 's/^[^ ]* dev \([^ ]*\) .*/\1/p') onlink`, r.Hops[0].Gateway)
		}
		if r.Source.IsValid() { // refused where it is no address of the machine
			fmt.Fprintf(&b, "ip route add %s src %v 2>/dev/null || ", words, r.Source)
		}
		fmt.Fprintf(&b, "ip route add %s\n", words)
	}
	for _, r := range p.Rules {
		fmt.Fprintf(&b, "ip rule add %v\n", r)
	}
	fmt.Fprintf(&b, "nft -f - <<'EOF'\n%sEOF\n", p.Table)
	set(true) // not before the rules are there
	return b.String()
}

// Protocol is the routing protocol number that our rules and routes carry.
const Protocol = 200

func (r IPRule) String() string {
	words := []string{fmt.Sprintf("priority %d", r.Priority)}
	if r.From.IsValid() {
		words = append(words, "from "+r.From.String())
	}
	if r.Mask != 0 {
		words = append(words, fmt.Sprintf("fwmark %#x/%#x", r.Mark, r.Mask))
	}
	if r.Local {
		words = append(words, "iif lo")
	}
	if own := r.Of.String(); own != "" {
		words = append(words, own)
	}
	words = append(words, fmt.Sprintf("lookup %d", r.Table))
	if r.Specific {
		words = append(words, "suppress_prefixlength 0")
	}
	return strings.Join(append(words, fmt.Sprintf("protocol %d", Protocol)), " ")
}

func (r Route) String() string {
	to := r.To.String()
	if r.To.Bits() == 0 {
		to = "default"
	}
	var words []string
	if r.Unreachable {
		words = append(words, "unreachable", to)
	} else {
		words = append(words, to)
	}
	words = append(words, fmt.Sprintf("table %d protocol %d", r.Table, Protocol))
	if r.Metric != 0 {
		words = append(words, fmt.Sprintf("metric %d", r.Metric))
	}
	if len(r.Hops) == 1 {
		words = append(words, r.Hops[0].String())
		if !r.Hops[0].Gateway.IsValid() {
			words = append(words, "scope link")
		}
	} else {
		for _, h := range r.Hops {
			words = append(words, fmt.Sprintf("nexthop %v weight %d", h, h.Weight))
		}
	}
	return strings.Join(words, " ")
}

func (h Hop) String() string {
	switch {
	case !h.Gateway.IsValid():
		return "dev " + h.Device
	case h.Device == "":
		return "via " + h.Gateway.String()
	}
	return "via " + h.Gateway.String() + " dev " + h.Device + " onlink"
}
