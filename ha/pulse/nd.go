package pulse

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

// Neighbour discovery (RFC 4861): over IPv6 it is what ARP is over IPv4.

// sixProtocol is ETH_P_IPV6 in network order.
const sixProtocol = unix.ETH_P_IPV6>>8 | unix.ETH_P_IPV6<<8&0xff00

// linkLocal is an address of this machine on a device that may be asked from.
func linkLocal(index int) (netip.Addr, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return netip.Addr{}, err
	}
	all, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ok && ip.IsLinkLocalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			return ip, nil
		}
	}
	return netip.Addr{}, errors.New("it has no link-local one")
}

// solicit asks for an address: all on the wire that could have it, or the machine
// that answered last.
func (s *socket) solicit(q question) error {
	if !s.from.IsValid() {
		return fmt.Errorf("ask for %v: this socket is for ARP", q.Address)
	}
	b, to := vrrp.Solicitation(s.from, q.Address, s.mac, q.wide || q.mac == nil)
	if to == nil {
		to = q.mac
	}
	return s.send(b, to)
}
