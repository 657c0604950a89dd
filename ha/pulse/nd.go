package pulse

import (
	"fmt"

	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

// Neighbour discovery (RFC 4861): over IPv6 it is what ARP is over IPv4.

// sixProtocol is ETH_P_IPV6 in network order.
const sixProtocol = unix.ETH_P_IPV6>>8 | unix.ETH_P_IPV6<<8&0xff00

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
