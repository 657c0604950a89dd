package vip

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
)

const (
	icmp6             = 58
	neighbourAdvert   = 136
	targetLinkAddress = 2
	// routerOverride: this is a router, nobody asked, believe it instead of what
	// you have (RFC 9568 §8.2.2; RFC 4861 §4.4).
	routerOverride = 0xa0
	ipv6HeaderLen  = 40
	neighbourLen   = 4 + 4 + 16 + 8 // with the one option
)

// allNodes is who is told, and its Ethernet address (RFC 2464 §7).
var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
)

// neighbour is the unsolicited neighbour advertisement of an IPv6 address, the
// like of gratuitous ARP: a frame to all nodes, from mac.
func neighbour(mac net.HardwareAddr, ip netip.Addr) []byte {
	f := make([]byte, 0, 14+ipv6HeaderLen+neighbourLen)
	f = append(f, allNodesMAC...)
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, uint16(ethernet.EtherTypeIPv6))

	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, neighbourLen)
	f = append(f, icmp6, 255) // with any other hop limit it is refused
	f = append(f, ip.AsSlice()...)
	f = append(f, allNodes.AsSlice()...)

	at := len(f)
	f = append(f, neighbourAdvert, 0, 0, 0, routerOverride, 0, 0, 0)
	f = append(f, ip.AsSlice()...)
	f = append(f, targetLinkAddress, 1)
	f = append(f, mac...)
	// Sources and destination, then length and protocol, then the message
	// (RFC 8200 §8.1).
	sum := uint32(neighbourLen + icmp6)
	for b := f[at-32:]; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(f[at+2:], ^uint16(sum))
	return f
}
