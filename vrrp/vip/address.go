package vip

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Address is one virtual address.
type Address struct {
	Device  string
	Prefix  netip.Prefix
	Link    string     // lan or uplink, for the log
	Gateway netip.Addr // the ISP's router, told by an ARP request; zero none
}

func (a Address) String() string { return a.Prefix.String() + " on " + a.Device }

func (a Address) spot() spot { return spot{a.Device, a.Prefix} }

// OwnAddress is set on a device that has no permanent IPv4 address of its own, or
// no link-local IPv6 one, and taken away once it has.
type OwnAddress struct {
	Device  string
	Prefix  netip.Prefix   // link-local
	Virtual []netip.Prefix // do not count as the device's own
}

// Status is an address and whether it is on its device now.
type Status struct {
	Address
	Present bool
}

func kernelAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is4() {
		a.Broadcast = net.IPv4zero // none: the library makes one up, with a route of its own
	}
	return a
}

func prefix(a netlink.Addr) netip.Prefix {
	ip, _ := netip.AddrFromSlice(a.IP)
	bits, _ := a.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits)
}
