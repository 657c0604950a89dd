// Package wire holds the sockets of VRRP: it receives adverts on each lan, and on uplinks with a virtual MAC
// (multicast, of IPv4 and IPv6) and at the node's own address (unicast), and its sender thread
// repeats on every path what the deciding loop said last, for as long as that
// loop renews its lease.
//
//	config.go     what a configuration means: paths and places
//	transport.go  the Task, what ha calls
//	configure.go  another configuration while it runs
//	look.go       devices and addresses come and go: where paths lead now
//	sender.go     the advert thread
//	path.go       one way out, packets made ready
//	framed.go     packets with the virtual router's MAC
//	listen.go     the receive sockets of a set of places, also for the guard
//	unread.go     whether something waits in them
//	receive.go    one receive socket, and the judgement of a packet
//	flood.go      what is not handed over, so that no flood reaches the loop
//	frame.go      ready-made packets for the guard
//
// It judges what any receiver can judge (TTL, checksum, length, version), after
// it has put aside what is of another virtual router; who
// the sender is, and what follows, is for package ha. It imports the pure
// package vrrp and no other edge; cmd/harouter wires it to the loop and to the
// guard.
package wire
