// Package notice lets hosts find out at once that a TCP connection of theirs was
// ended, because its uplink died or another one is to be used. A host that sends
// meets the reset of the rules (chain midstream) by itself; one that waits in
// silence would do so for minutes. It is sent a bare ACK in the name of its peer,
// from outside of its window, which RFC 9293 §3.10.7.4 has it answer, and the
// answer meets the reset.
//
// Nothing but lans is sent to: the rules drop what would leave by another device
// (chain notice of package balancer), and keep it from connection tracking.
//
//	segment.go  the packet    teller.go  the Task
//
// It imports package balancer, nothing else of ours; cmd/harouter starts it and
// tells it what was ended. The notices of a moment are lost with the daemon: what
// they would have told is learned later.
package notice
