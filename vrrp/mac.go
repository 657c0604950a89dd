package vrrp

import "net/netip"

// VirtualMAC is the MAC of a virtual router, for IPv4 or for IPv6 (RFC 9568
// §7.3).
func VirtualMAC(vrid uint8, six bool) [6]byte {
	family := byte(1)
	if six {
		family = 2
	}
	return [6]byte{0x00, 0x00, 0x5e, 0x00, family, vrid}
}

// LinkLocal is the IPv6 link-local address of a virtual router that was given
// none: what its MAC makes of it (RFC 4291 appendix A), the same on all nodes.
// FRR does so too. The nodes' own addresses are never made of that MAC.
func LinkLocal(vrid uint8) netip.Addr {
	m := VirtualMAC(vrid, true)
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}
