// Package ha is the node: it decides, from everything that the edges report,
// what this router does. The VRRP machine alone decides the role; gossip,
// probes, links and operators are inputs to its priority or ask it to move.
//
// machine.go takes events and the time and returns actions, without any I/O.
// run.go is the one loop that feeds it and carries the actions to the ports
// (ports.go): the advert thread, the addresses, the kernel's tables, gossip.
//
// The flows of the connection table go with the role (flows.go): a new master
// takes them before its addresses, a hand-over waits until the successor has
// them, a better node claims the role once it does. Each mastership has a term,
// higher than all before that anybody told of; of two words on a flow the one of
// the later term holds. The flows of a dead uplink end by the master's verdict
// (doomed.go). How flows travel is not ha's concern (Flows in ports.go).
//
// The master's word on the uplinks counts on all nodes (uplinks.go): verdicts,
// the pool, and of policies that go by what is measured the shares, with an epoch
// (measure.go). What an operator says of an uplink is told by every node, and the
// latest word holds (switches.go).
//
// The master is lost only when every path is silent: it is asked before it is
// given up (silence.go), and the best of those that live goes first (order.go). Nodes greet each other on each lan (ha/hello); one that is
// alive and not heard there makes that lan deaf, and who reaches its hosts serves
// (deaf.go, ways.go). The greetings also tell who missed a generation of the file
// which nodes there are now, and whether it is one of them (newer.go).
//
// A new master does not end the flows of a line by what it saw as a backup
// (vouch.go). An operator's hand-over waits for a node that is nearly ready (wish.go).
//
// A machine that answers ARP on no path, while others there do, is dead: its
// successor does not wait for the timers (pulse.go, ha/pulse).
//
// A node whose check fails is less fit than any whose check passes (fit.go; ha/fit
// runs it), before lans and uplinks (fitness.go).
//
// It imports the pure packages vrrp, balancer and conntracksync, no edge;
// cmd/harouter wires the edges into Ports.
package ha
