package vip

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ethernet"
)

const (
	icmp6             = 58
	neighbourSolicit  = 135
	neighbourAdvert   = 136
	targetLinkAddress = 2
	// routerOverride: this is a router, nobody asked, believe it instead of what
	// you have (RFC 9568 §8.2.2; RFC 4861 §4.4).
	routerOverride = 0xa0
	ipv6HeaderLen  = 40
	neighbourLen   = 4 + 4 + 16 + 8 // with the one option
	hopLimit       = 255            // of any other, nothing is believed
)

var (
	allNodes  = netip.MustParseAddr("ff02::1")
	solicited = netip.MustParseAddr("ff02::1:ff00:0") // with the last three bytes of an address
)

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
	to := solicited.As16()
	copy(to[13:], ip.AsSlice()[13:])
	return discovery(mac, netip.IPv6Unspecified(), netip.AddrFrom16(to), append([]byte{neighbourSolicit, 0, 0, 0, 0, 0, 0, 0}, ip.AsSlice()...))
}

// discovery is a message of neighbour discovery to a group, as a frame from mac.
func discovery(mac net.HardwareAddr, src, dst netip.Addr, body []byte) []byte {
	group := dst.As16()
	f := make([]byte, 0, 14+ipv6HeaderLen+len(body))
	f = append(f, 0x33, 0x33, group[12], group[13], group[14], group[15]) // RFC 2464 §7
	f = append(f, mac...)
	f = binary.BigEndian.AppendUint16(f, uint16(ethernet.EtherTypeIPv6))

	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(body)))
	f = append(f, icmp6, hopLimit)
	f = append(f, src.AsSlice()...)
	f = append(f, dst.AsSlice()...)

	at := len(f)
	f = append(f, body...)
	// Sources and destination, then length and protocol, then the message
	// (RFC 8200 §8.1).
	sum := uint32(len(body) + icmp6)
	for b := f[at-32:]; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(f[at+2:], ^uint16(sum))
	return f
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
