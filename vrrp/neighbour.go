package vrrp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
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
	neighbourHops   = 255 // as of adverts: else a router let it pass (§7.1)
	arpReply        = 2

	// NeighbourSolicitation and NeighbourAdvertisement are types of ICMPv6.
	NeighbourSolicitation  = 135
	NeighbourAdvertisement = 136
)

// OnlyNeighbours keeps all but the answers out of a cooked packet socket, which
// begins at the IPv6 header.
var OnlyNeighbours = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2}, // next header, hop limit
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6<<8 | neighbourHops, SkipFalse: 3},
	bpf.LoadAbsolute{Off: sixHeaderLen, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: NeighbourAdvertisement, SkipFalse: 1},
	bpf.RetConstant{Val: 128},
	bpf.RetConstant{Val: 0},
}

// OnlyARPReplies is the same of ARP, where such a socket begins at its header: the
// requests of a busy segment are many.
var OnlyARPReplies = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: arpReply, SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 64},
}

// Discovery is the IPv6 packet of a message of neighbour discovery: ICMPv6 of an
// even length, whose checksum is 0 still.
func Discovery(from, to netip.Addr, message []byte) []byte {
	b := make([]byte, sixHeaderLen, sixHeaderLen+len(message))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(message)))
	b[6], b[7] = icmp6, neighbourHops
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	b = append(b, message...)
	// The addresses and the message, then length and protocol (RFC 8200 §8.1).
	binary.BigEndian.PutUint16(b[sixHeaderLen+2:], ^fold(sum(b[8:], uint32(len(message))+icmp6)))
	return b
}

// SolicitedGroup is the group of all who could have an address of IPv6 (RFC 4291
// §2.7.1).
func SolicitedGroup(target netip.Addr) netip.Addr {
	t := target.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
}

// GroupMAC is that of a group of IPv6 on Ethernet (RFC 2464 §7), of six bytes.
func GroupMAC(group netip.Addr) []byte {
	g := group.As16()
	return append([]byte{0x33, 0x33}, g[12:]...)
}

// Solicitation is the IPv6 packet that asks for a target, from an own address and a
// MAC of six bytes. With wide it goes to all who could have the target and returns
// their group's MAC, else to the target alone and returns nil.
func Solicitation(from, target netip.Addr, mac []byte, wide bool) (packet, to []byte) {
	dst := target
	if wide {
		dst = SolicitedGroup(target)
		to = GroupMAC(dst)
	}
	m := make([]byte, solicitationLen)
	m[0] = NeighbourSolicitation
	copy(m[8:], target.AsSlice())
	m[24], m[25] = sourceOption, 1 // in units of 8 bytes
	copy(m[26:], mac)
	return Discovery(from, dst, m), to
}

// Neighbour reads the answer to a solicitation, an IPv6 packet from the wire whose
// checksum nobody needs: who answers, and its MAC, nil where it does not tell, as
// one that was asked alone need not.
func Neighbour(b []byte) (netip.Addr, []byte, bool) {
	if len(b) < sixHeaderLen+24 || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != neighbourHops {
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
