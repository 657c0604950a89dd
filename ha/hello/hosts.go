package hello

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/ha"
	"harouter/vrrp"
)

// mostHosts is how many are told of each lan.
const mostHosts = 8

// lately ranks what the kernel knows of a neighbour: the lower, the surer that
// it was there a short time ago. Others were not there.
var lately = map[int]int{unix.NUD_REACHABLE: 1, unix.NUD_DELAY: 2, unix.NUD_PROBE: 3, unix.NUD_STALE: 4}

// seen are hosts that this machine spoke with on a device, the surest first.
func seen(index int, networks []netip.Prefix) ([]netip.Addr, error) {
	family := netlink.FAMILY_V6 // where there is IPv6 alone: one family is enough to tell
	if slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Addr().Is4() }) {
		family = netlink.FAMILY_V4
	}
	all, err := netlink.NeighList(index, family)
	if err != nil {
		return nil, fmt.Errorf("read the neighbours: %w", err)
	}
	type host struct {
		rank int
		ip   netip.Addr
	}
	var hosts []host
	for _, n := range all {
		ip, ok := netip.AddrFromSlice(n.IP)
		ip = ip.Unmap()
		if rank := lately[n.State]; ok && rank > 0 && slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Masked().Contains(ip) }) {
			hosts = append(hosts, host{rank, ip})
		}
	}
	slices.SortFunc(hosts, func(a, b host) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return a.ip.Compare(b.ip)
	})
	var out []netip.Addr
	for _, h := range hosts[:min(len(hosts), mostHosts)] {
		out = append(out, h.ip)
	}
	return out, nil
}

// asking is a look that goes on.
type asking struct {
	ha.Look
	linkLocal func(index int) (netip.Addr, error)
	ear       *ear
	six       bool // of neighbour discovery, not ARP
}

// listen opens the ear for the answers on a device.
func (a *asking) listen(ifi *net.Interface, heard chan<- packetIn) (err error) {
	six := slices.ContainsFunc(a.Hosts, netip.Addr.Is6)
	if a.ear != nil && (!a.ear.good(ifi) || a.six != six) {
		a.ear.close()
		a.ear = nil
	}
	if a.ear != nil {
		return nil
	}
	proto, filter := unix.ETH_P_ARP, vrrp.OnlyARPReplies
	if six {
		proto, filter = unix.ETH_P_IPV6, vrrp.OnlyNeighbours
	}
	a.six = six
	a.ear, err = openEar(ifi, proto, filter, heard)
	if err != nil {
		a.ear = nil
	}
	return err
}

// solicit asks each host over IPv6.
func (a *asking) solicit() error {
	from, err := a.linkLocal(a.ear.index)
	if err != nil {
		return fmt.Errorf("ask the hosts of %s: %w", a.Lan, err)
	}
	for _, h := range a.Hosts {
		if !h.Is6() {
			continue
		}
		b, to := vrrp.Solicitation(from, h, a.ear.mac, true)
		if err := a.ear.send(b, to); err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
	}
	return nil
}

// ask sends one request to each host. One with sender 0.0.0.0 changes nobody's
// table (RFC 5227 §2.1.1); it is answered as well.
func (a *asking) ask() error {
	if a.six {
		return a.solicit()
	}
	source := a.Source
	if !source.IsValid() {
		source = netip.IPv4Unspecified()
	}
	for _, h := range a.Hosts {
		p, err := arp.NewPacket(arp.OperationRequest, a.ear.mac, source, make(net.HardwareAddr, 6), h)
		if err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
		b, err := p.MarshalBinary()
		if err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
		if err := a.ear.broadcast(b); err != nil {
			return fmt.Errorf("ask for %v: %w", h, err)
		}
	}
	return nil
}

// answers tells whether a packet is the answer of a host that was asked.
func (a *asking) answers(b []byte) bool {
	if a.six {
		ip, _, ok := vrrp.Neighbour(b)
		return ok && slices.Contains(a.Hosts, ip)
	}
	var p arp.Packet
	return p.UnmarshalBinary(b) == nil && p.Operation == arp.OperationReply && p.HardwareType == 1 &&
		p.ProtocolType == uint16(ethernet.EtherTypeIPv4) && p.SenderIP.Is4() && slices.Contains(a.Hosts, p.SenderIP)
}
