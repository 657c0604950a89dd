// Package probe asks, round by round, whether each uplink still leads
// anywhere, and hands the answers to whoever keeps the verdicts.
//
// It owns the ICMP sockets (by pro-bing, a fresh one per target and round: no
// state that leaks or outlives an address) and one packet socket per uplink
// that is asked by ARP. It sends nothing else and changes nothing in the
// kernel. A ping leaves with the uplink's mark and the node's own address
// there, so the routing table of that mark decides its way: that table ends in
// an unreachable default, and a probe without a route is a bad round and never
// one that went out by another uplink.
//
// It decides nothing: balancer.Health makes verdicts out of rounds, and the
// edge that watches links tells it about carrier. It imports no edge of ours.
// cmd/harouter runs one Prober as a task, and tells it each new generation of
// the configuration by Configure.
package probe
