// Package probe asks, round by round, whether each uplink still leads
// anywhere, and hands the answers to whoever keeps the verdicts.
//
// It owns the ICMP sockets (by pro-bing), the TCP and UDP sockets of the other
// methods (a fresh one per target and round: no state that leaks or outlives an
// address) and one packet socket per uplink on which somebody is asked by ARP.
// While rounds are bad one more packet socket per uplink sees what proves that the
// line carries traffic all the same: witness. It sends nothing else and changes
// nothing in the kernel. What counts as an
// answer stands at Method. All but ARP leaves with the uplink's mark and the
// node's own address there, so the routing table of that mark decides its way:
// that table ends in an unreachable default, and a probe without a route is a
// bad round and never one that went out by another uplink.
//
// A bad round whose source has left this machine is not handed on for a while: it
// says nothing about the line (uplink.isVoid).
//
// The round trip of every method is one round trip of the line: that of the
// handshake with tcp and http. A round has that of its fastest target.
//
// It decides nothing: balancer.Health makes verdicts out of rounds, and the
// edge that watches links tells it about carrier. It imports no edge of ours.
// cmd/harouter runs one Prober as a task, and tells it each new generation of
// the configuration by Configure.
package probe
