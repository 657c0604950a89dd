package pulse

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Neighbour discovery (RFC 4861): over IPv6 it is what ARP is over IPv4.

const (
	sixProtocol = unix.ETH_P_IPV6>>8 | unix.ETH_P_IPV6<<8&0xff00 // in network order

	headerLen     = 40 // of IPv6
	solicitLen    = 32 // a neighbour solicitation with one option
	icmp6         = 58
	solicitation  = 135
	advertisement = 136
	hopLimit      = 255 // else a router let it pass (§7.1)
	solicited     = 0x40
)

// onlyAdvertisements keeps all else out. A cooked socket begins at the IPv6 header;
// neighbour discovery has no extension headers from a kernel.
var onlyAdvertisements = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2}, // next header, hop limit
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6<<8 | hopLimit, SkipFalse: 3},
	bpf.LoadAbsolute{Off: headerLen, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertisement, SkipFalse: 1},
	bpf.RetConstant{Val: 128},
	bpf.RetConstant{Val: 0},
}

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
	last := q.Address.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: last[13], 14: last[14], 15: last[15]}) // §2.3
	if q.wide || q.mac == nil {
		return s.send(solicits(s.from, group, q.Address, s.mac), net.HardwareAddr{0x33, 0x33, 0xff, last[13], last[14], last[15]})
	}
	return s.send(solicits(s.from, q.Address, q.Address, s.mac), q.mac)
}

// solicits is the packet of a neighbour solicitation.
func solicits(from, to, target netip.Addr, mac net.HardwareAddr) []byte {
	b := make([]byte, headerLen+solicitLen)
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], solicitLen)
	b[6], b[7] = icmp6, hopLimit
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	m := b[headerLen:]
	m[0] = solicitation
	copy(m[8:], target.AsSlice())
	m[24], m[25] = 1, 1 // the sender's address on the wire, in units of 8 bytes
	copy(m[26:], mac)
	binary.BigEndian.PutUint16(m[2:], checksum(b))
	return b
}

// checksum is that of ICMPv6 over a whole packet without extension headers, in
// which it is 0 still (RFC 4443 §2.3).
func checksum(b []byte) uint16 {
	sum := uint32(icmp6) + uint32(len(b)-headerLen)
	for i := 8; i+1 < len(b); i += 2 { // the addresses and the message
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// advertiser returns who answers with a neighbour advertisement. One that was asked
// for alone need not tell its address on the wire.
func advertiser(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(b) < headerLen+24 || b[0]>>4 != 6 || b[6] != icmp6 || b[7] != hopLimit {
		return netip.Addr{}, nil, false
	}
	m := b[headerLen:]
	if m[0] != advertisement || m[1] != 0 || m[4]&solicited == 0 {
		return netip.Addr{}, nil, false
	}
	target := netip.AddrFrom16([16]byte(m[8:24]))
	if target.Is4In6() || target.IsMulticast() || target.IsUnspecified() {
		return netip.Addr{}, nil, false
	}
	if len(m) >= solicitLen && m[24] == 2 && m[25] == 1 {
		return target, slices.Clone(net.HardwareAddr(m[26:32])), true
	}
	return target, nil, true
}
