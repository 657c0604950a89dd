// Package balancer decides how the LAN's traffic is spread over the uplinks:
// verdicts on their health, the slots of each policy, and the Plan, the
// complete kernel state that follows from the file and from what is known now.
//
// A link with a virtual MAC has two devices: rules name both, and its routes are
// there twice, see ways in plan.go.
//
// Which packet sees what of the table: of a known flow that is forwarded, each
// packet passes the first rule of the chain pre, which gives it the flow's mark,
// the first one or two of forwarded, and the first of leave, which let it go; TCP's SYN and SYN-ACK
// get their segment size there before that. Only what begins a flow, what belongs
// to none, and what has another program's mark or an uplink with a brake goes on
// to the policies, the checks of sources (sources.go: from a lan strictly, the way
// back must lead over the device by which the packet came), the firewall; the nat chains are asked
// once for each flow. What the node receives itself passes the chains at input,
// what it sends those at output and leave, packet by packet.
//
// It is pure: no kernel, socket, file, log or clock, and it imports nothing of
// ours. balancer/probe measures, balancer/dataplane makes the kernel agree with
// a Plan; package ha drives both.
//
//	health.go   rounds to a verdict    window.go loss, latency, jitter and their limits
//	flaps.go    who is held back       slots.go  who owns which of 256 slots
//	method.go   the eight methods      verdict.go, round.go  words of all these
//	config.go   what goes in           plan.go   what comes out
//	match.go    what a policy is for   span.go   values as runs of numbers   hours.go
//	tree.go     how a packet finds its policy    policies.go  what that does with it
//	lost.go     what belongs to nothing, and goes nowhere in silence
//	own.go      the node's own traffic           strays.go    flows that should move back
//	forward.go  ports that lead to a host inside   networks.go  what is reached past the uplinks
//	firewall.go what may begin at an uplink      groups.go   what may begin at a lan
//	measure.go  the shares of the methods that measure: overflow.go, leastused.go, latency.go
//	race.go     who answers a destination first      hold.go  and who waits for that
//	brake.go    what the kernel does about a full line by itself
//	ended.go    how hosts learn that a connection of theirs is gone
//	snippet.go  rules of the admin's own in our table
//	table.go    the nft table as data  rules.go  its rules   text.go  as a script
package balancer
