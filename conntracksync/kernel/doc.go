// Package kernel reads and changes the kernel's connection table by ctnetlink.
//
// It owns the sockets for that and the codec of the messages, nothing more: no
// state is kept between two calls, each of which opens its own socket and may
// run at the same time as others. All work on the network namespace of the
// calling thread and need CAP_NET_ADMIN; the table of IPv4 and IPv6 is one.
//
// It decides nothing and imports no edge of ours. ha calls it: to delete the
// flows of an uplink that died, to show how many flows each has, and to see
// the limits of the table and of the ports of NAT before they bite.
package kernel
