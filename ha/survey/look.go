package survey

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Look reads all devices of the network namespace in which it is called, in the
// kernel's order.
func Look() ([]Device, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	routes, err := defaults()
	if err != nil {
		return nil, err
	}
	byIndex := map[int]netlink.Link{}
	for _, l := range links {
		byIndex[l.Attrs().Index] = l
	}
	var all []Device
	for _, l := range links {
		a := l.Attrs()
		s := seen{
			Device:   Device{Name: a.Name},
			kind:     l.Type(),
			loopback: a.Flags&net.FlagLoopback != 0,
			up:       a.Flags&net.FlagUp != 0,
		}
		if m := byIndex[a.MasterIndex]; m != nil && m.Type() != "vrf" {
			s.part = m.Attrs().Name
		}
		if err := s.addresses(l); err != nil {
			return nil, err
		}
		if r, ok := routes[a.Index]; ok {
			s.route, s.Gateway = true, r.gateway
			s.Dynamic = s.Dynamic || r.dynamic
		}
		s.Use, s.Why = judge(s)
		all = append(all, s.Device)
	}
	return all, nil
}

// addresses reads those of a device. The one that counts is the first that does
// not stay on the link; the kernel tells second ones of a network last.
func (s *seen) addresses(l netlink.Link) error {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
	switch {
	case errors.Is(err, unix.ENODEV): // it went since
		return nil
	case err != nil:
		return fmt.Errorf("read the addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if bits, _ := a.Mask.Size(); ok && a.Label != "" && a.Label != s.Name {
			if s.Labelled == nil {
				s.Labelled = map[string]netip.Prefix{}
			}
			s.Labelled[a.Label] = netip.PrefixFrom(ip.Unmap(), bits)
		}
		switch ip = ip.Unmap(); {
		case !ok:
		case s.Address.IsValid(), ip.IsLinkLocalUnicast():
			s.Further = append(s.Further, ip)
		default:
			bits, _ := a.Mask.Size()
			s.Address, s.Dynamic = netip.PrefixFrom(ip, bits), a.Flags&unix.IFA_F_PERMANENT == 0
		}
	}
	return nil
}

type route struct {
	gateway netip.Addr
	metric  int
	dynamic bool
}

// defaults are the best default routes of the main table, by device.
func defaults() (map[int]route, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("read the default routes: %w", err)
	}
	best := map[int]route{}
	for _, r := range list {
		if r.Dst != nil && (!r.Dst.IP.IsUnspecified() || maskBits(r.Dst) != 0) {
			continue
		}
		for _, hop := range append([]*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}, r.MultiPath...) {
			gateway, _ := netip.AddrFromSlice(hop.Gw)
			was, ok := best[hop.LinkIndex]
			if !ok || r.Priority < was.metric { // an unreachable default has no device: 0
				best[hop.LinkIndex] = route{gateway.Unmap(), r.Priority, r.Protocol == unix.RTPROT_DHCP}
			}
		}
	}
	return best, nil
}

func maskBits(n *net.IPNet) int {
	ones, _ := n.Mask.Size()
	return ones
}
