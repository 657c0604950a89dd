package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"harouter/balancer"
	"harouter/balancer/probe"
	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/fit"
	"harouter/ha/links"
	"harouter/vrrp"
	"harouter/vrrp/vip"
	"harouter/vrrp/wire"
)

// settings is the file as one node uses it: each package's own configuration.
type settings struct {
	file       *config.Config
	node       string
	text       []byte
	generation uint64
	former     []string // devices that files before had as uplinks, see formerly
}

// formerly are the devices that were an uplink's in these settings or in those
// before, and are no link's and no network's in the next ones.
func (s *settings) formerly(next *settings) []string {
	out := slices.Clone(s.former)
	for _, u := range s.file.Uplinks {
		out = append(out, s.file.Device(s.node, u.Name))
	}
	slices.Sort(out)
	named := slices.Concat(next.devices(), next.routeDevices())
	return slices.DeleteFunc(slices.Compact(out), func(d string) bool { return slices.Contains(named, d) })
}

// load reads and checks the file for a node. Warnings go to stderr.
func load(c *common) (*settings, error) {
	text, problems := config.Read(c.config)
	var file *config.Config
	if problems == nil {
		file, problems = config.Parse(c.config, text)
	}
	for _, w := range problems.Warnings() {
		fmt.Fprintln(os.Stderr, w)
	}
	if errs := problems.Errors(); len(errs) > 0 {
		for _, e := range errs {
			fmt.Fprintln(os.Stderr, e)
		}
		return nil, silent{2}
	}
	if err := hasNode(file, c.config, c.node); err != nil {
		return nil, wrongInput{err}
	}
	s := &settings{file: file, node: c.node, text: text}
	if _, err := s.balancer(); err != nil {
		return nil, wrongInput{fmt.Errorf("%s: %w", c.config, err)}
	}
	return s, nil
}

// parse checks a text as the file of a node.
func parse(path string, text []byte, node string) (*settings, error) {
	file, problems := config.Parse(path, text)
	if err := problems.Errors().Err(); err != nil {
		return nil, err
	}
	if err := hasNode(file, path, node); err != nil {
		return nil, err
	}
	s := &settings{file: file, node: node, text: text}
	if _, err := s.balancer(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// hasNode tells whether the file has the node.
func hasNode(file *config.Config, path, node string) error {
	var all []string
	for _, n := range file.Nodes {
		if n.Name == node {
			return nil
		}
		all = append(all, n.Name)
	}
	return fmt.Errorf("%s has no node %q (this host's name unless --node is given); it has: %s", path, node, strings.Join(all, ", "))
}

// loadRunning finds the file that a daemon is to run: the one that the cluster
// agreed on last. What somebody edited since then does not run before all agree
// on it, by a reload or by starting with it together.
func loadRunning(c *common) (*settings, error) {
	if disk, problems := config.Read(c.config); problems == nil && isForgotten(c.stateDir, disk) {
		return nil, wrongInput{fmt.Errorf("node %s was taken out of the cluster by harouter leave --forget, the others do not know it any more: harouter token on one of them and harouter join --force here bring it back", c.node)}
	}
	gen, text, err := readGeneration(c.stateDir)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v; the file of the configuration is taken as it is\n", err)
	}
	if text == nil {
		return loadFirst(c)
	}
	agreed, err := parse(acceptedFile(c.stateDir), text, c.node)
	if err != nil {
		fmt.Fprintf(os.Stderr, "what the cluster agreed on last cannot run here: %v\n", err)
		return loadFirst(c)
	}
	agreed.generation = gen
	disk, problems := config.Read(c.config)
	if problems != nil {
		return loadFirst(c)
	}
	if bytes.Equal(disk, text) {
		return agreed, nil
	}
	edited, err := parse(c.config, disk, c.node)
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "%v\n%s is not used: what was agreed on before runs (generation %d)\n", err, c.config, gen)
	case edited.file.Cluster != agreed.file.Cluster: // the state is that of another cluster
		edited.generation = 1
		return edited, nil
	}
	return agreed, nil
}

// loadFirst takes the file as it is: the first generation.
func loadFirst(c *common) (*settings, error) {
	s, err := load(c)
	if s != nil {
		s.generation = 1
	}
	return s, err
}

func (s *settings) self() config.Node {
	i := slices.IndexFunc(s.file.Nodes, func(n config.Node) bool { return n.Name == s.node })
	return s.file.Nodes[i]
}

// gossip is where this node listens for the other nodes.
func (s *settings) gossip() []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s.self().Addresses {
		out = append(out, netip.AddrPortFrom(a, s.file.Ports.Gossip))
	}
	return out
}

// sync is where this node listens for state sync and for new routers.
func (s *settings) sync() []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s.self().Addresses {
		out = append(out, netip.AddrPortFrom(a, s.file.Ports.Sync))
	}
	return out
}

// peers are the other nodes' addresses, by name.
func (s *settings) peers() map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for _, n := range s.file.Nodes {
		if n.Name != s.node {
			out[n.Name] = n.Addresses
		}
	}
	return out
}

// devices are all devices that this node uses, each once.
func (s *settings) devices() []string {
	var out []string
	add := func(name string) {
		if d := s.file.Device(s.node, name); !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	for _, l := range s.file.Lans {
		add(l.Name)
	}
	for _, u := range s.file.Uplinks {
		add(u.Name)
	}
	return out
}

// deviceHere is a device that the file names, as this node calls it: that of a lan
// or uplink may be another one here.
func (s *settings) deviceHere(name string) string {
	for _, l := range s.file.Lans {
		if l.Device == name {
			return s.file.Device(s.node, l.Name)
		}
	}
	for _, u := range s.file.Uplinks {
		if u.Device == name {
			return s.file.Device(s.node, u.Name)
		}
	}
	return name
}

// routeDevices are those of extra networks that are of no lan or uplink.
func (s *settings) routeDevices() []string {
	var out []string
	have := s.devices()
	for _, r := range s.file.Routes {
		if d := s.deviceHere(r.Device); d != "" && !slices.Contains(have, d) && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// virtualMAC is that of a link, for IPv4 or for IPv6.
func virtualMAC(vrid uint8, six bool) net.HardwareAddr {
	mac := vrrp.VirtualMAC(vrid, six)
	return mac[:]
}

// macDevice is the name of the device with the virtual MAC of a link for a
// family; "" if it has none. A link's name is that on every node.
func macDevice(on bool, link string, virtual []netip.Prefix, six bool) string {
	if !on || !slices.ContainsFunc(virtual, func(p netip.Prefix) bool { return p.Addr().Is6() == six }) {
		return ""
	}
	name := macPrefix + link
	if six {
		name = macPrefix6 + link
	}
	if len(name) > maxDevice {
		sum := sha256.Sum256([]byte(link))
		name = fmt.Sprintf("%s-%x", name[:maxDevice-7], sum[:3])
	}
	return name
}

// macPrefix and macPrefix6 begin the names of the devices with virtual MACs.
const macPrefix, macPrefix6 = "hrv-", "hrv6-"

// maxDevice is how long a device's name may be (IFNAMSIZ less the end).
const maxDevice = 15

// watched are the devices whose addresses and carrier are followed.
func (s *settings) watched() []string {
	return slices.Concat(s.devices(), s.macDevices(), s.routeDevices())
}

// macDevices are those of all links that have one.
func (s *settings) macDevices() []string {
	var out []string
	for _, v := range s.vip().MACs {
		out = append(out, v.Name)
	}
	return out
}

func addresses(ps []netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range ps {
		out = append(out, p.Addr())
	}
	return out
}

func (s *settings) balancer() (balancer.Config, error) {
	b := balancer.Config{
		MarkMask: uint32(s.file.Balance.MarkMask), TableBase: s.file.Balance.TableBase, RulePriority: s.file.Balance.RulePriority,
		NoAccept: !s.file.VRRP.Accept, NoReset: !s.file.Balance.ResetClients,
	}
	for _, n := range s.file.Nodes {
		b.Nodes = append(b.Nodes, n.Addresses...)
	}
	for _, l := range s.file.Lans {
		b.Lans = append(b.Lans, balancer.Lan{
			Name: l.Name, Device: s.file.Device(s.node, l.Name), Virtual: l.Virtual,
			MACDevice: macDevice(l.VirtualMAC, l.Name, l.Virtual, false), MAC: virtualMAC(l.VRID, false).String(),
			MACDevice6: macDevice(l.VirtualMAC, l.Name, l.Virtual, true), MAC6: virtualMAC(l.VRID, true).String(),
		})
	}
	for _, u := range s.file.Uplinks {
		b.Uplinks = append(b.Uplinks, balancer.Uplink{
			Name: u.Name, ID: u.ID, Device: s.file.Device(s.node, u.Name), Gateway: u.Gateway.Address,
			Virtual: u.Virtual, Weight: u.Weight, Tier: u.Tier, Metered: u.Metered, Speed: balancer.Load{Down: float64(u.Down), Up: float64(u.Up)},
			MACDevice: macDevice(u.VirtualMAC, u.Name, u.Virtual, false), MAC: virtualMAC(u.VRID, false).String(),
			MACDevice6: macDevice(u.VirtualMAC, u.Name, u.Virtual, true), MAC6: virtualMAC(u.VRID, true).String(),
		})
	}
	for _, p := range s.file.Policies {
		m, err := balancer.ParseMethod(string(p.Method))
		if err != nil {
			return b, err
		}
		policy := balancer.Policy{
			Name: p.Name, Match: p.Match.Balancer(s.file.Lans), Router: p.Match.Router,
			Method: m, Uplinks: p.Uplinks, Weights: p.Weights, Bypass: p.Bypass,
			WhenNone: whenNone[p.WhenNone], Persistence: persistenceKeys[p.Persistence.By], Move: p.OnRecovery == config.RecoveryMove, Hold: p.Race == config.RaceHold,
			Overflow: balancer.OverflowLimits{Enter: float64(p.Overflow.Enter), Leave: float64(p.Overflow.Leave), Hold: p.Overflow.Hold},
			Margin:   balancer.LatencyMargin(p.LatencyMargin),
		}
		policy.Hours, policy.NotHours = p.Match.Hours()
		if p.Persistence.Learned || m == balancer.FastestResponse {
			policy.Learned = p.Persistence.Timeout
		}
		b.Policies = append(b.Policies, policy)
	}
	for _, f := range s.file.Firewall.Forward {
		for _, name := range f.Protocol {
			b.Forwards = append(b.Forwards, balancer.Forward{
				Protocol: uint8(protocols[name]), Ports: balancer.Ports(f.Port), To: f.To, ToPort: f.ToPort, Uplinks: f.Uplinks,
				Source: f.Source, Hairpin: f.Hairpin, Limit: balancer.Rate(f.Limit),
			})
		}
	}
	for _, r := range s.file.Routes {
		b.Networks = append(b.Networks, balancer.Network{
			To: r.To, Device: s.deviceHere(r.Device), Gateway: r.Gateway, Source: r.Source, Masquerade: r.Masquerade,
		})
	}
	b.Firewall, b.ClampMSS = s.firewall(), s.file.Firewall.MSS == config.MSSClamp
	return b, b.Check()
}

// firewall is what may come in by the uplinks.
func (s *settings) firewall() balancer.Firewall {
	f := s.file.Firewall
	out := balancer.Firewall{
		Enabled: f.Enabled, Log: f.Log, Antispoof: f.Antispoof, ICMP: balancer.Rate(f.ICMPLimit), SYN: balancer.Rate(f.SYNLimit),
		Gossip: s.file.Ports.Gossip, Sync: s.file.Ports.Sync, Groups: s.file.Groups(), Former: s.former,
	}
	for _, a := range f.Allow {
		uplinks, all := s.file.AllowedBy(a)
		if len(uplinks) == 0 && !all { // from a lan, which is not kept out
			continue
		}
		rule := balancer.Allow{Uplinks: uplinks, To: a.To, Source: a.Source, Limit: balancer.Rate(a.Limit)}
		for _, p := range a.Ports {
			rule.Ports = append(rule.Ports, balancer.Ports(p))
		}
		if len(a.Protocol) == 0 {
			out.Allow = append(out.Allow, rule)
		}
		for _, p := range a.Protocol {
			rule.Protocol = p
			out.Allow = append(out.Allow, rule)
		}
	}
	return out
}

var whenNone = map[config.WhenNone]balancer.WhenNone{
	config.NoneNext: balancer.NoneNext, config.NoneDrop: balancer.NoneDrop, config.NoneAny: balancer.NoneAny,
}

var persistenceKeys = map[config.PersistenceKey]balancer.PersistenceKey{
	config.BySourceDestination: balancer.BySourceDestination, config.BySource: balancer.BySource, config.ByDestination: balancer.ByDestination,
}

func (s *settings) ha() (ha.Config, error) {
	b, err := s.balancer()
	if err != nil {
		return ha.Config{}, err
	}
	v := s.file.VRRP
	vrids, bare := map[string]uint8{}, false
	for _, l := range s.file.Lans {
		vrids[l.Name] = l.VRID
		bare = bare || l.VirtualMAC
	}
	for _, u := range s.file.Uplinks {
		vrids[u.Name] = u.VRID
		bare = bare || u.VirtualMAC
	}
	c := ha.Config{
		Cluster: s.file.Cluster, Node: s.node, Version: versionString(), Hash: s.file.Hash,
		VRID: v.ID, VRIDs: vrids, OneHolder: bare, VRRPVersion: v.Version, Advertise: v.Advertise, Preempt: v.Preempt, PreemptDelay: v.PreemptDelay,
		Foreign: v.Foreign, Balancer: b, Probes: map[string]balancer.ProbeConfig{},
		Text: s.text, Generation: s.generation,
		Hello: !v.UnicastOnly,
		Check: ha.CheckConfig{Command: v.Check.Command, Rise: v.Check.Rise, Fall: v.Check.Fall},
		Sync:  s.file.ConntrackSync.Enabled, SyncTimeout: s.file.ConntrackSync.Timeout, PreemptUnsynced: s.file.ConntrackSync.PreemptUnsynced,
	}
	for _, n := range s.file.Nodes {
		node := ha.Node{Name: n.Name, Address: n.Addresses[0], Priority: n.Priority}
		if i := slices.IndexFunc(n.Addresses, netip.Addr.Is4); i > 0 {
			node.Via = n.Addresses[i]
		}
		c.Nodes = append(c.Nodes, node)
	}
	for _, u := range s.file.Uplinks {
		loss := u.Probe.Loss
		c.Probes[u.Name] = balancer.ProbeConfig{
			Fall: u.Probe.Fall, Rise: u.Probe.Rise,
			Loss:     balancer.Limit[float64]{Degraded: float64(loss.Degraded), Clear: float64(loss.Clear)},
			Latency:  balancer.Limit[time.Duration](u.Probe.Latency),
			Jitter:   balancer.Limit[time.Duration](u.Probe.Jitter),
			FlapHold: s.file.Balance.FlapHold.Hold, FlapMax: s.file.Balance.FlapHold.Max,
		}
	}
	return c, nil
}

// fit is the command that tells whether this node is fit.
func (s *settings) fit() fit.Config {
	c := s.file.VRRP.Check
	return fit.Config{Command: c.Command, Interval: c.Interval, Timeout: c.Timeout}
}

func (s *settings) wire() wire.Config {
	v := s.file.VRRP
	w := wire.Config{
		VRID: v.ID, Version: vrrp.Version(v.Version), Interval: v.Advertise, Checksum: vrrp.ChecksumPseudo, Password: v.Authentication,
		Local: s.self().Addresses[0], UnicastOnly: v.UnicastOnly, Lease: ha.Lease(v.Advertise),
	}
	if v.Checksum == config.ChecksumPlain {
		w.Checksum = vrrp.ChecksumPlain
	}
	for _, p := range s.peers() {
		w.Peers = append(w.Peers, p[0])
	}
	if v.UnicastOnly { // else they hear the group
		w.Peers = append(w.Peers, v.Foreign...)
	}
	slices.SortFunc(w.Peers, netip.Addr.Compare)
	for _, l := range s.file.Lans {
		as := addresses(l.Virtual)
		w.Links = append(w.Links, wire.Link{
			Name: l.Name, Device: s.file.Device(s.node, l.Name), Addresses: as, VRID: l.VRID,
			MACDevice: macDevice(l.VirtualMAC, l.Name, l.Virtual, false), MACDevice6: macDevice(l.VirtualMAC, l.Name, l.Virtual, true),
		})
		w.Virtual = append(w.Virtual, as...)
	}
	for _, u := range s.file.Uplinks {
		w.Virtual = append(w.Virtual, addresses(u.Virtual)...)
	}
	for _, u := range s.file.Uplinks {
		if u.VirtualMAC {
			w.Links = append(w.Links, wire.Link{
				Name: u.Name, Uplink: true, Device: s.file.Device(s.node, u.Name), Addresses: addresses(u.Virtual), VRID: u.VRID,
				MACDevice: macDevice(true, u.Name, u.Virtual, false), MACDevice6: macDevice(true, u.Name, u.Virtual, true),
			})
		}
	}
	switch { // DESIGN.md §6: the first lan's, else the first uplink's, else the sender's own
	case len(s.file.Lans) > 0:
		w.UnicastAddresses = w.Links[0].Addresses
	case len(s.file.Uplinks) > 0:
		w.UnicastAddresses = addresses(s.file.Uplinks[0].Virtual)
	}
	return w
}

// linkLocal is the address that this node gives to a device without an own
// one: 169.254.<vrid>.<position in the file>, of IPv6 fe80::a9fe:<both in one>.
func (s *settings) linkLocal(vrid uint8, six bool) netip.Prefix {
	i := slices.IndexFunc(s.file.Nodes, func(n config.Node) bool { return n.Name == s.node })
	a := netip.AddrFrom4([4]byte{169, 254, vrid, byte(i + 1)})
	if six {
		a = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 12: 169, 13: 254, 14: vrid, 15: byte(i + 1)})
	}
	return netip.PrefixFrom(a, a.BitLen())
}

func (s *settings) vip() vip.Config {
	var v vip.Config
	// link adds what one link holds. Adverts over IPv6 need a link-local source.
	link := func(name string, vrid uint8, virtual []netip.Prefix, mac, adverts6 bool, gateway netip.Addr) {
		d := s.file.Device(s.node, name)
		v.Own = append(v.Own, vip.OwnAddress{Device: d, Prefix: s.linkLocal(vrid, false), Virtual: virtual})
		if adverts6 && slices.ContainsFunc(virtual, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
			v.Own = append(v.Own, vip.OwnAddress{Device: d, Prefix: s.linkLocal(vrid, true), Virtual: virtual})
		}
		for _, six := range []bool{false, true} {
			if m := macDevice(mac, name, virtual, six); m != "" {
				v.MACs = append(v.MACs, vip.VirtualMAC{Name: m, Parent: d, MAC: virtualMAC(vrid, six)})
			}
		}
		for _, p := range virtual {
			carrier := cmp.Or(macDevice(mac, name, virtual, p.Addr().Is6()), d)
			v.Addresses = append(v.Addresses, vip.Address{Device: carrier, Prefix: p, Link: name, Gateway: gateway})
		}
	}
	for _, l := range s.file.Lans {
		link(l.Name, l.VRID, l.Virtual, l.VirtualMAC, !s.file.VRRP.UnicastOnly, netip.Addr{})
	}
	for _, u := range s.file.Uplinks {
		link(u.Name, u.VRID, u.Virtual, u.VirtualMAC, u.VirtualMAC && !s.file.VRRP.UnicastOnly, u.Gateway.Address)
	}
	return v
}

func (s *settings) probes() []probe.Uplink {
	var out []probe.Uplink
	for _, u := range s.file.Uplinks {
		p := probe.Uplink{
			Name: u.Name, Device: s.file.Device(s.node, u.Name), Mark: balancer.Mark(u.ID, uint32(s.file.Balance.MarkMask)),
			Gateway: u.Gateway.Address, Interval: u.ProbeInterval(), Timeout: u.Probe.Timeout, Quorum: u.Probe.Quorum,
			OwnOnly: len(u.Virtual) == 0,
		}
		for _, t := range u.Probe.Targets {
			p.Targets = append(p.Targets, probe.Target{
				Address: t.Address, Method: probeMethods[t.Method], Port: uint16(t.Port), URL: t.URL, Name: t.Name,
			})
		}
		out = append(out, p)
	}
	return out
}

// racers are the marks of the uplinks, where a policy's method has them race.
func (s *settings) racers() map[string]uint32 {
	if !slices.ContainsFunc(s.file.Policies, func(p config.Policy) bool { return p.Method == config.MethodFastestResponse }) {
		return nil
	}
	out := map[string]uint32{}
	for _, u := range s.file.Uplinks {
		out[u.Name] = balancer.Mark(u.ID, uint32(s.file.Balance.MarkMask))
	}
	return out
}

var probeMethods = map[config.ProbeMethod]probe.Method{
	config.ProbeICMP: probe.ICMP, config.ProbeTCP: probe.TCP, config.ProbeDNS: probe.DNS,
	config.ProbeHTTP: probe.HTTP, config.ProbeARP: probe.ARP,
}

// uplinkDevices are the devices whose counters tell the load of the uplinks.
func (s *settings) uplinkDevices() map[string]string {
	out := map[string]string{}
	for _, u := range s.file.Uplinks {
		out[u.Name] = s.file.Device(s.node, u.Name)
	}
	return out
}

// goesByLoad tells whether a policy's method asks for the load.
func (s *settings) goesByLoad() bool {
	b, err := s.balancer()
	return err == nil && b.NeedsLoad()
}

// auto are the uplinks that look for their gateway.
func (s *settings) auto() map[string]links.Line {
	out := map[string]links.Line{}
	for _, u := range s.file.Uplinks {
		if u.Gateway.Kind != config.GatewayStatic {
			out[u.Name] = links.Line{Device: s.file.Device(s.node, u.Name), Point: u.Gateway.Kind == config.GatewayPPP}
		}
	}
	return out
}

// missingDevices warns of devices that this machine does not have.
func (s *settings) missingDevices() []error {
	var out []error
	for _, d := range slices.Concat(s.devices(), s.routeDevices()) {
		if _, err := os.Stat("/sys/class/net/" + d); errors.Is(err, os.ErrNotExist) {
			out = append(out, fmt.Errorf("node %s has no device %q now; the daemon will treat it as a link that is down", s.node, d))
		}
	}
	return out
}
