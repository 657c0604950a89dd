package links

import "net"

// isDefault tells whether a route's destination is 0.0.0.0/0; older kernels'
// dumps have no destination then.
func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0 && dst.IP.To4() != nil && dst.IP.IsUnspecified()
}
