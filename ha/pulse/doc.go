// Package pulse tells whether the machine of another node runs: its kernel answers
// ARP (and neighbour solicitations where it has IPv6 alone), whatever its daemon does. It is asked every 40 ms on one way; once it owes
// an answer, every 10 ms on all wires that both nodes are on, and hosts and
// gateways there with it, so that silence of the node can be told from
// silence of the wire.
//
//	book.go    who was asked and who answered: what follows is decided here, without I/O
//	pulse.go   the Task, what ha calls
//	socket.go  a packet socket on one device, for ARP; nd.go for IPv6
//
// It costs a backup 25 short wake-ups a second, 0.6 % of a core of a small virtual
// machine, and the master as many answers of its kernel. It decides nothing of
// the election: what follows is for package ha, which it imports, and no other
// edge; cmd/harouter starts it.
package pulse
