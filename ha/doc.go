// Package ha is the node: it decides, from everything that the edges report,
// what this router does. The VRRP machine alone decides the role; gossip,
// probes, links and operators are inputs to its priority or ask it to move.
//
// machine.go takes events and the time and returns actions, without any I/O.
// run.go is the one loop that feeds it and carries the actions to the ports
// (ports.go): the advert thread, the addresses, the kernel's tables, gossip.
//
// It imports the pure packages vrrp, balancer and conntracksync, no edge;
// cmd/harouter wires the edges into Ports.
package ha
