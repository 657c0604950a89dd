package vrrp

import "net"

// VirtualMAC is the MAC of a virtual router, for IPv4 or for IPv6 (RFC 9568
// §7.3).
func VirtualMAC(vrid uint8, six bool) net.HardwareAddr {
	family := byte(1)
	if six {
		family = 2
	}
	return net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, family, vrid}
}
