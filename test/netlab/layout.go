package netlab

import (
	"fmt"
	"net"
	"net/netip"
)

// Kind is what a node stands for.
type Kind string

const (
	KindRouter   Kind = "router"
	KindISP      Kind = "isp"
	KindHost     Kind = "host"
	KindInternet Kind = "internet"
	KindSwitch   Kind = "switch"
)

// segment is one broadcast domain: a bridge in the switch namespace.
type segment struct {
	bridge string
	cable  bool // two ends of one cable: carrier is there when both ends are
	ports  []*Port
}

// drawing turns a Spec into nodes, ports and segments. It touches nothing.
type drawing struct {
	site  *Site
	nodes []*Node
	macs  byte
}

func (d *drawing) node(name string, kind Kind) *Node {
	n := &Node{Name: name, Kind: kind, site: d.site}
	d.nodes = append(d.nodes, n)
	return n
}

func (d *drawing) segment(name string) *segment { return &segment{bridge: "br-" + name} }

func (d *drawing) port(n *Node, device string, s *segment, own ...netip.Prefix) *Port {
	d.macs++
	p := &Port{
		Node: n, Device: device, Addresses: own, segment: s, plugged: true,
		MAC:  net.HardwareAddr{0x02, 0x6c, 0x61, 0x62, byte(len(d.nodes)), d.macs},
		peer: n.Name + "-" + device,
	}
	n.ports = append(n.ports, p)
	s.ports = append(s.ports, p)
	return p
}

// draw lays out the address plan described at Spec.
func draw(site *Site, spec Spec) []*Node {
	d := &drawing{site: site}
	sw := d.node("sw", KindSwitch)
	sw.sysctls = []sysctl{
		{"net.ipv6.conf.all.disable_ipv6", "1"}, {"net.ipv6.conf.default.disable_ipv6", "1"},
		// A switch does not show its frames to a firewall.
		{"net.bridge.bridge-nf-call-iptables", "0"}, {"net.bridge.bridge-nf-call-ip6tables", "0"},
		{"net.bridge.bridge-nf-call-arptables", "0"},
	}
	for _, r := range spec.Routers {
		n := d.node(r.Name, KindRouter)
		n.sysctls = append(pristine("2"), sysctl{"net.ipv4.ip_forward", "0"})
		for name, value := range r.Sysctls {
			n.sysctls = append(n.sysctls, sysctl{name, value})
		}
	}
	routers := d.nodes[1:]

	for i, l := range spec.LANs {
		s := d.segment(l.Name)
		for k, r := range routers {
			d.port(r, fmt.Sprintf("lan%d", i), s, own(l.Own, l.Net, 2+k)...)
		}
		for k := range l.Hosts {
			h := d.node(fmt.Sprintf("h%d", d.count(KindHost)+1), KindHost)
			h.sysctls = pristine("0")
			d.port(h, "eth0", s, netip.PrefixFrom(nth(l.Net, 100+k), l.Net.Bits()))
			h.routes = []string{fmt.Sprintf("default via %s dev eth0", nth(l.Net, 1))}
		}
	}

	internet := d.node("net", KindInternet)
	internet.sysctls = append(pristine("0"), sysctl{"net.ipv4.ip_forward", "1"})
	for _, a := range spec.Servers {
		internet.loopback = append(internet.loopback, netip.PrefixFrom(a, a.BitLen()))
	}
	for i, isp := range spec.ISPs {
		d.isp(i+1, isp, spec, routers, internet)
	}
	for i, c := range spec.Cables {
		s := d.segment(fmt.Sprintf("sync%d", i))
		s.cable = len(routers) == 2
		for k, r := range routers {
			d.port(r, fmt.Sprintf("sync%d", i), s, own(true, c, 1+k)...)
		}
	}
	return d.nodes
}

func (d *drawing) isp(number int, isp ISPSpec, spec Spec, routers []*Node, internet *Node) {
	n := d.node(isp.Name, KindISP)
	n.sysctls = append(pristine("0"), sysctl{"net.ipv4.ip_forward", "1"})
	n.isp = &isp
	wan := d.segment(isp.Name)
	d.port(n, "wan0", wan, own(true, isp.Net, 1)...)
	for k, r := range routers {
		d.port(r, fmt.Sprintf("wan%d", number), wan, own(isp.Own, isp.Net, 2+k)...)
	}
	core := d.segment(fmt.Sprintf("core%d", number))
	transfer := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 254, byte(number), 0}), 30)
	device := fmt.Sprintf("core%d", number)
	d.port(internet, device, core, own(true, transfer, 1)...)
	d.port(n, "core0", core, own(true, transfer, 2)...)
	n.routes = []string{fmt.Sprintf("default via %s dev core0", nth(transfer, 1))}
	route := fmt.Sprintf("%s via %s dev %s", isp.Net, nth(transfer, 2), device)
	if len(spec.Servers) > 0 {
		route += " src " + spec.Servers[0].String()
	}
	internet.routes = append(internet.routes, route)
}

func (d *drawing) count(k Kind) int {
	c := 0
	for _, n := range d.nodes {
		if n.Kind == k {
			c++
		}
	}
	return c
}

func own(has bool, p netip.Prefix, n int) []netip.Prefix {
	if !has {
		return nil
	}
	return []netip.Prefix{netip.PrefixFrom(nth(p, n), p.Bits())}
}

// pristine sets what a new namespace would otherwise copy from the machine
// that runs the lab, so that a site behaves the same everywhere.
func pristine(rpFilter string) []sysctl {
	return []sysctl{
		{"net.ipv4.conf.all.rp_filter", "0"}, {"net.ipv4.conf.default.rp_filter", rpFilter},
		{"net.ipv4.conf.all.arp_ignore", "0"}, {"net.ipv4.conf.default.arp_ignore", "0"},
		{"net.ipv4.conf.all.arp_announce", "0"}, {"net.ipv4.conf.default.arp_announce", "0"},
		{"net.ipv4.conf.all.promote_secondaries", "0"}, {"net.ipv4.conf.default.promote_secondaries", "0"},
		// Link-local addresses are there at once, so that dumps do not change by themselves.
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv4.conf.all.accept_local", "0"}, {"net.ipv4.conf.default.accept_local", "0"},
	}
}
