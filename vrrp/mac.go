package vrrp

// VirtualMAC is the MAC of a virtual router, for IPv4 or for IPv6 (RFC 9568
// §7.3).
func VirtualMAC(vrid uint8, six bool) [6]byte {
	family := byte(1)
	if six {
		family = 2
	}
	return [6]byte{0x00, 0x00, 0x5e, 0x00, family, vrid}
}
