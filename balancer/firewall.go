package balancer

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Firewall says what may begin at an uplink: to the routers nothing but what
// Allow names, pings and the cluster's own talk, to the lans nothing but what is
// forwarded. All decisions go by the state of the connection, never by flags or
// source ports. What the lans may say Groups.
type Firewall struct {
	Enabled   bool
	Allow     []Allow
	ICMP, SYN Rate // pings of all, and new connections of one source; Count 0: no limit
	Log       bool
	Antispoof bool
	Groups    Groups

	Gossip, Sync uint16 // ports that are open for the nodes
}

// Allow opens ports of the routers.
type Allow struct {
	Uplinks  []string // none: all
	Protocol uint8    // 6, 17 with Ports; any other without
	Ports    []Ports
	Source   []netip.Prefix
	Limit    Rate
}

type (
	// Layer4 matches a protocol above IP.
	Layer4 struct{ Protocol uint8 }
	// ICMP6 matches ICMPv6 messages of some types.
	ICMP6 struct{ First, Last uint8 }
	// SourceBehind matches packets to whose source the route leads over a device:
	// that of the packet's mark, since a backup's own may go through the master.
	SourceBehind struct{ Device string }
	// SourceOver matches IPv4 packets above a rate for each source.
	SourceOver struct {
		Set   string
		Lasts time.Duration
		Rate
	}
	// FitMSS lowers the segment size that a SYN asks for to what its way carries.
	FitMSS struct{}
	// Log writes a line to the kernel's log, once a second at most.
	Log struct{ Prefix string }
)

func (Layer4) stmt()       {}
func (ICMP6) stmt()        {}
func (SourceBehind) stmt() {}
func (SourceOver) stmt()   {}
func (FitMSS) stmt()       {}
func (Log) stmt()          {}

func (s Layer4) String() string { return fmt.Sprintf("meta l4proto %d", s.Protocol) }
func (s ICMP6) String() string {
	return "icmpv6 type " + Ports{uint16(s.First), uint16(s.Last)}.String()
}
func (s SourceBehind) String() string { return fmt.Sprintf("fib saddr . mark oifname %q", s.Device) }
func (s SourceOver) String() string {
	return fmt.Sprintf("update @%s { ip saddr timeout %ds limit rate over %d/%s burst %d packets }",
		s.Set, int(s.Lasts.Seconds()), s.Count, s.Unit, s.Count)
}
func (FitMSS) String() string { return "tcp option maxseg size set rt mtu" }
func (s Log) String() string {
	return fmt.Sprintf("limit rate 1/second burst 5 packets log prefix %q", s.Prefix)
}

// Refusals are the reasons of the firewall, by which it counts. What it refuses
// for one goes through the chain RefusalChain of it.
var Refusals = []string{"denied", "invalid", "spoofed", "icmp", "syn", refusedGroup}

// RefusalChain is the chain that counts and refuses.
func RefusalChain(reason string) string { return "refuse_" + reason }

const (
	prioFirewall = -5 // behind what keeps flows alive in a takeover
	protoVRRP    = 112
	synSources   = "syn_sources"
	synRemembers = 10 * time.Second
)

// firewall is what it adds to the table.
func (c *Config) firewall() (sets []Set, chains []Chain) {
	f := c.Firewall
	if !f.Enabled || len(c.Uplinks) == 0 && len(f.Groups) == 0 {
		return nil, nil
	}
	ret := Jump{Kind: "return"}
	refuse := func(reason string) Jump { return Jump{Kind: "goto", Chain: RefusalChain(reason)} }
	used := []string{"denied", "invalid"}
	if f.Antispoof {
		used = append(used, "spoofed")
	}
	if f.ICMP.Count > 0 {
		used = append(used, "icmp")
	}
	if f.SYN.Count > 0 {
		used = append(used, "syn")
		sets = append(sets, Set{Name: synSources, Key: KeyAddr4, Timeout: true, Lasts: synRemembers, Volatile: true})
	}
	// What both ways in have in common.
	begun := []Rule{
		{InSet{Not: true, Set: "wan_if"}, ret},
		{State{CtEstablished | CtRelated}, ret},
	}
	doubtful := []Rule{{State{CtInvalid}, refuse("invalid")}}
	if f.Antispoof { // who comes from outside is not one of those inside
		for _, d := range append(c.lanOnly(), c.networkDevices()...) {
			doubtful = append(doubtful, Rule{SourceBehind{d}, refuse("spoofed")})
		}
	}
	if f.SYN.Count > 0 {
		doubtful = append(doubtful, Rule{Layer4{6}, SourceOver{synSources, synRemembers, f.SYN}, refuse("syn")})
	}
	in := slices.Concat(begun, []Rule{
		{Layer4{protoVRRP}, ret}, // who may speak it is decided where it is read
		{ICMP6{130, 137}, ret},   // listeners, routers, neighbours: without them there is no IPv6
		{ICMP6{143, 143}, ret},   // listeners of version 2
	}, doubtful, []Rule{
		{DestinationPort{17, Ports{68, 68}}, ret},   // answers to a DHCP client are sent to all
		{DestinationPort{17, Ports{546, 546}}, ret}, // and those of DHCPv6 to an address that did not ask
	})
	nodes := []AddrIn{{Set: "nodes"}}
	if six := c.nodes6(); len(six.Elements) > 0 {
		sets = append(sets, six)
		nodes = append(nodes, AddrIn{Six: true, Set: six.Name})
	}
	for _, from := range nodes {
		in = append(in,
			Rule{from, DestinationPort{6, Ports{f.Gossip, f.Gossip}}, ret},
			Rule{from, DestinationPort{17, Ports{f.Gossip, f.Gossip}}, ret},
			Rule{from, DestinationPort{6, Ports{f.Sync, f.Sync}}, ret})
	}
	if f.ICMP.Count > 0 {
		in = append(in, Rule{EchoRequest{}, RateOver{f.ICMP}, refuse("icmp")}, Rule{ICMP6{128, 128}, RateOver{f.ICMP}, refuse("icmp")})
	}
	in = append(in, Rule{EchoRequest{}, ret}, Rule{ICMP6{128, 128}, ret})
	for i, a := range f.Allow {
		var match Rule
		if len(a.Uplinks) > 0 {
			from := Set{Name: fmt.Sprintf("allow%d_if", i+1), Key: KeyIfname}
			for _, u := range c.Uplinks {
				if slices.Contains(a.Uplinks, u.Name) {
					for _, d := range devices(u.Device, u.MACDevice) {
						from.Elements = append(from.Elements, Element{Ifname: d})
					}
				}
			}
			sets = append(sets, from)
			match = append(match, InSet{Set: from.Name})
		}
		if len(a.Source) > 0 {
			from := sourceSet(fmt.Sprintf("allow%d_from", i+1), a.Source)
			sets = append(sets, from)
			match = append(match, AddrIn{Set: from.Name})
		}
		for _, what := range a.what() {
			all := append(slices.Clone(match), what...)
			if a.Limit.Count > 0 {
				in = append(in, append(slices.Clone(all), RateOver{a.Limit}, refuse("denied")))
			}
			in = append(in, append(all, ret))
		}
	}
	in = append(in, Rule{refuse("denied")})
	first, groupSets, groups := c.groups()
	if len(first) > 0 {
		used = append(used, refusedGroup)
	}
	sets, chains = append(sets, groupSets...), append(chains, groups...)
	through := slices.Concat(first, begun, doubtful, []Rule{{Redirected{}, ret}, {refuse("denied")}})
	if f.Antispoof {
		behind := Chain{Name: "of_lans"}
		for _, d := range c.lanDevices() {
			behind.Rules = append(behind.Rules, Rule{SourceBehind{d}, ret})
		}
		behind.Rules = append(behind.Rules, Rule{AddrIn{Set: "nodes"}, ret}, Rule{refuse("spoofed")})
		chains = append(chains, behind)
		through = slices.Insert(through, 0, Rule{State{CtNew}, InSet{Set: "lan_if"}, Jump{Kind: "jump", Chain: behind.Name}})
	}
	chains = append(chains,
		Chain{Name: "guard_in", Type: "filter", Hook: "input", Priority: prioFirewall, Rules: in},
		Chain{Name: "guard_forward", Rules: through})
	for _, reason := range used {
		var rules []Rule
		if f.Log {
			rules = append(rules, Rule{Log{"harouter " + reason + ": "}})
		}
		chains = append(chains, Chain{Name: RefusalChain(reason), Rules: append(rules, refusalRules(reason)...)})
	}
	return sets, chains
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

// nodes6 are the nodes' addresses of IPv6.
func (c *Config) nodes6() Set {
	s := Set{Name: "nodes6", Key: KeyAddr6}
	for _, a := range c.Nodes {
		if a.Is6() {
			s.Elements = append(s.Elements, Element{Addr: a})
		}
	}
	return s
}

// sourceSet is a set of networks.
func sourceSet(name string, of []netip.Prefix) Set {
	s := Set{Name: name, Key: KeyAddr4, Interval: true}
	var spans []Span
	for _, p := range of {
		spans = append(spans, PrefixSpan(p))
	}
	for _, span := range Union(spans...) {
		s.Elements = append(s.Elements, Element{Span: span})
	}
	return s
}

func (c *Config) lanDevices() (out []string) {
	for _, l := range c.Lans {
		out = append(out, devices(l.Device, l.MACDevice)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lanOnly are the devices of lans that are none of an uplink.
func (c *Config) lanOnly() []string {
	return slices.DeleteFunc(c.lanDevices(), func(d string) bool {
		return slices.ContainsFunc(c.Uplinks, func(u Uplink) bool { return slices.Contains(devices(u.Device, u.MACDevice), d) })
	})
}

// clamp fits the segment size of what crosses an uplink: many lines carry less
// than a lan, and not all of the internet tells that.
func (c *Config) clamp() []Chain {
	if !c.ClampMSS || len(c.Uplinks) == 0 {
		return nil
	}
	return []Chain{{Name: "clamp", Rules: []Rule{
		{InSet{Output: true, Set: "wan_if"}, FitMSS{}},
		{InSet{Set: "wan_if"}, FitMSS{}},
	}}}
}
