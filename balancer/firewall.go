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
	// Former are devices that were an uplink's since the program began and are
	// nobody's now: what is behind them is still outside.
	Former []string

	Gossip, Sync uint16 // ports that are open for the nodes
}

type (
	// Layer4 matches a protocol above IP.
	Layer4 struct{ Protocol uint8 }
	// ICMP6 matches ICMPv6 messages of some types.
	ICMP6 struct{ First, Last uint8 }
	// SourceOver matches packets above a rate for each source; of IPv6, for each
	// network of /64, all of whose addresses one host may have.
	SourceOver struct {
		Six   bool
		Set   string
		Lasts time.Duration
		Rate
	}
	// SourceWithout matches packets whose source has no place in such a set, which is
	// full then.
	SourceWithout struct {
		Six bool
		Set string
	}
	// FitMSS lowers the segment size that a SYN asks for to what its way carries.
	FitMSS struct{}
	// Log writes a line to the kernel's log, once a second at most.
	Log struct{ Prefix string }
)

func (Layer4) stmt()        {}
func (ICMP6) stmt()         {}
func (SourceOver) stmt()    {}
func (SourceWithout) stmt() {}
func (FitMSS) stmt()        {}
func (Log) stmt()           {}

func (s Layer4) String() string { return fmt.Sprintf("meta l4proto %d", s.Protocol) }
func (s ICMP6) String() string {
	return "icmpv6 type " + Ports{uint16(s.First), uint16(s.Last)}.String()
}
func (s SourceOver) String() string {
	return fmt.Sprintf("update @%s { %s timeout %ds limit rate over %d/%s burst %d packets }",
		s.Set, sourceText(s.Six), int(s.Lasts.Seconds()), s.Count, s.Unit, s.Count)
}
func (s SourceWithout) String() string { return sourceText(s.Six) + " != @" + s.Set }

// sourceText is what counts as one source, as nft writes it.
func sourceText(six bool) string {
	if six {
		return "ip6 saddr & ffff:ffff:ffff:ffff::"
	}
	return "ip saddr"
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
	protoIGMP    = 2
	protoVRRP    = 112
	synSources   = "syn_sources"
	synSources6  = "syn_sources6"
	synRemembers = 10 * time.Second
)

// firewall is what it adds to the table.
func (c *Config) firewall() (sets []Set, chains []Chain, from sources) {
	f := c.Firewall
	if !f.Enabled || len(c.Uplinks) == 0 && len(f.Groups) == 0 {
		return nil, nil, sources{six: []Rule{{Family4{Not: true}, Jump{Kind: "return"}}}}
	}
	ret := Jump{Kind: "return"}
	refuse := func(reason string) Jump { return Jump{Kind: "goto", Chain: RefusalChain(reason)} }
	used := []string{"denied", "invalid", "spoofed"}
	if f.ICMP.Count > 0 {
		used = append(used, "icmp")
	}
	if f.SYN.Count > 0 {
		used = append(used, "syn")
		sources := Set{Name: synSources, Key: KeyAddr4, Timeout: true, Lasts: synRemembers, Volatile: true}
		sources6 := sources
		sources6.Name, sources6.Key = synSources6, KeyAddr6
		sets = append(sets, sources, sources6)
	}
	from = c.sources()
	sets = append(sets, from.sets...)
	// What both ways in have in common.
	begun := []Rule{
		{InSet{Not: true, Set: "wan_if"}, ret},
		{State{CtEstablished | CtRelated}, ret},
		{OutOfTunnel{}, ret},
	}
	doubtful := []Rule{{State{CtInvalid}, refuse("invalid")}}
	if f.SYN.Count > 0 {
		doubtful = append(doubtful,
			Rule{Layer4{6}, SourceOver{false, synSources, synRemembers, f.SYN}, refuse("syn")},
			Rule{Layer4{6}, SourceOver{true, synSources6, synRemembers, f.SYN}, refuse("syn")},
			// Those for whom there is no room, in a flood of forged sources, count as one.
			Rule{Layer4{6}, SourceWithout{false, synSources}, RateOver{f.SYN}, refuse("syn")},
			Rule{Layer4{6}, SourceWithout{true, synSources6}, RateOver{f.SYN}, refuse("syn")})
	}
	in := slices.Concat(begun, []Rule{
		{Layer4{protoIGMP}, ret}, // an ISP's switch asks who listens, as those of IPv6 do
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
	opened, openedBehind, allowSets := c.allows()
	sets = append(sets, allowSets...)
	in = append(in, opened...)
	in = append(in, Rule{refuse("denied")})
	first, groupSets, groups := c.groups()
	if len(first) > 0 {
		used = append(used, refusedGroup)
	}
	sets, chains = append(sets, groupSets...), append(chains, groups...)
	through := slices.Concat(first, begun, doubtful, []Rule{{Redirected{}, ret}}, openedBehind, []Rule{{refuse("denied")}})
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
	return sets, append(chains, from.chains...), from
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
		out = append(out, l.devices()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// lanOnly are the devices of lans that are none of an uplink.
func (c *Config) lanOnly() []string {
	return slices.DeleteFunc(c.lanDevices(), func(d string) bool {
		return slices.ContainsFunc(c.Uplinks, func(u Uplink) bool { return slices.Contains(u.devices(), d) })
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
