package vrrp

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Neighbour discovery (RFC 4861), as far as a router asks whether others are there.
// Packets with extension headers are not understood: no kernel sends such.
const (
	sixHeaderLen    = 40
	solicitationLen = 32 // with one option
	icmp6           = 58
	solicited       = 0x40 // a flag of advertisements
	sourceOption    = 1
	targetOption    = 2

	// NeighbourHops is the hop limit, as of adverts: else a router let it pass (§7.1).
	NeighbourHops = 255
	// ICMP6NextHeader stands in the IPv6 header; NeighbourSolicitation and
	// NeighbourAdvertisement are types of ICMPv6.
	ICMP6NextHeader        = icmp6
	NeighbourSolicitation  = 135
	NeighbourAdvertisement = 136
)

// Solicitation is the IPv6 packet that asks for a target, from an own address and a
// MAC of six bytes. With wide it goes to all who could have the target and returns
// their group's MAC, else to the target alone and returns nil.
func Solicitation(from, target netip.Addr, mac []byte, wide bool) (packet, to []byte) {
	dst := target
	if wide { // §2.3
		t := target.As16()
		dst = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
		to = []byte{0x33, 0x33, 0xff, t[13], t[14], t[15]}
	}
	b := make([]byte, sixHeaderLen+solicitationLen)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], solicitationLen)
	b[6], b[7] = icmp6, NeighbourHops
	copy(b[8:], from.AsSlice())
	copy(b[24:], dst.AsSlice())
	m := b[sixHeaderLen:]
	m[0] = NeighbourSolicitation
	copy(m[8:], target.AsSlice())
	m[24], m[25] = sourceOption, 1 // in units of 8 bytes
	copy(m[26:], mac)
	binary.BigEndian.PutUint16(m[2:], icmp6Sum(b))
	return b, to
}

// icmp6Sum is the checksum of a whole packet, in which it is 0 still (RFC 4443 §2.3).
func icmp6Sum(b []byte) uint16 {
	sum := uint32(icmp6) + uint32(len(b)-sixHeaderLen)
	for i := 8; i+1 < len(b); i += 2 { // the addresses and the message
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Neighbour reads the answer to a solicitation, an IPv6 packet from the wire whose
// checksum nobody needs: who answers, and its MAC, nil where it does not tell, as
// one that was asked alone need not.
func Neighbour(b []byte) (netip.Addr, []byte, bool) {
	if len(b) < sixHeaderLen+24 || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != NeighbourHops {
		return netip.Addr{}, nil, false
	}
	m := b[sixHeaderLen:]
	if m[0] != NeighbourAdvertisement || m[1] != 0 || m[4]&solicited == 0 {
		return netip.Addr{}, nil, false
	}
	target := netip.AddrFrom16([16]byte(m[8:24]))
	if target.Is4In6() || target.IsMulticast() || target.IsUnspecified() {
		return netip.Addr{}, nil, false
	}
	if len(m) >= solicitationLen && m[24] == targetOption && m[25] == 1 {
		return target, slices.Clone(m[26:32]), true
	}
	return target, nil, true
}
