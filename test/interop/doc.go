// Package interop runs the real keepalived and the real FRR beside harouter, on
// one LAN out of network namespaces, and judges all by the adverts that were on
// the wire: who is master when, how soon, and never two of them.
//
// The daemon itself takes part, with the others under vrrp.foreign: over IPv6 by
// their link-local addresses.
//
// `make peers` unpacks the Debian packages into bin/peers: nothing of them is
// installed, and no service of the machine starts. FRR is run as root from
// there, with its own /etc/group and /var/tmp.
package interop
