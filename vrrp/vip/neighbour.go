package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"

	"harouter/vrrp"
)

const (
	icmp6             = 58
	neighbourSolicit  = vrrp.NeighbourSolicitation
	neighbourAdvert   = vrrp.NeighbourAdvertisement
	targetLinkAddress = 2
	// routerOverride: this is a router, nobody asked, believe it instead of what
	// you have (RFC 9568 §8.2.2; RFC 4861 §4.4).
	routerOverride = 0xa0
	ipv6HeaderLen  = 40
	neighbourLen   = 4 + 4 + 16 + 8 // with the one option
	hopLimit       = 255            // of any other, nothing is believed
)

var allNodes = netip.MustParseAddr("ff02::1")

// neighbour is the unsolicited neighbour advertisement of an IPv6 address, the
// like of gratuitous ARP: a frame to all nodes, from mac. It comes from the
// address itself, as those of the kernel do.
func neighbour(mac net.HardwareAddr, ip netip.Addr) []byte {
	body := append([]byte{neighbourAdvert, 0, 0, 0, routerOverride, 0, 0, 0}, ip.AsSlice()...)
	body = append(append(body, targetLinkAddress, 1), mac...)
	return discovery(mac, ip, allNodes, body)
}

// solicitation asks who has an address, in nobody's name: all that have it answer
// to all nodes (RFC 4861 §7.2.4).
func solicitation(mac net.HardwareAddr, ip netip.Addr) []byte {
	return discovery(mac, netip.IPv6Unspecified(), vrrp.SolicitedGroup(ip), append([]byte{neighbourSolicit, 0, 0, 0, 0, 0, 0, 0}, ip.AsSlice()...))
}

// discovery is a message of neighbour discovery to a group, as a frame from mac.
func discovery(mac net.HardwareAddr, src, dst netip.Addr, body []byte) []byte {
	f := make([]byte, 0, 14+ipv6HeaderLen+len(body))
	f = append(f, vrrp.GroupMAC(dst)...)
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, uint16(ethernet.EtherTypeIPv6))
	return append(f, vrrp.Discovery(src, dst, body)...)
}

// holder6 returns of which address a neighbour advertisement tells the MAC. Of
// one without that option, which only answers to a known neighbour may lack,
// nothing can be said.
func holder6(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(b) < ipv6HeaderLen+neighbourLen || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != hopLimit || b[ipv6HeaderLen] != neighbourAdvert || b[ipv6HeaderLen+1] != 0 {
		return netip.Addr{}, nil, false
	}
	ip := netip.AddrFrom16([16]byte(b[ipv6HeaderLen+8:]))
	for o := b[ipv6HeaderLen+24:]; len(o) >= 8 && o[1] > 0; o = o[8*int(o[1]):] {
		if o[0] == targetLinkAddress && o[1] == 1 {
			return ip, bytes.Clone(o[2:8]), true
		}
		if len(o) < 8*int(o[1]) {
			break
		}
	}
	return netip.Addr{}, nil, false
}
