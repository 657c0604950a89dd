// Package balancer decides how the LAN's traffic is spread over the uplinks:
// verdicts on their health, the slots of each policy, and the Plan, the
// complete kernel state that follows from the file and from what is known now.
//
// It is pure: no kernel, socket, file, log or clock, and it imports nothing of
// ours. balancer/probe measures, balancer/dataplane makes the kernel agree with
// a Plan; package ha drives both.
//
//	method.go   the eight methods      slots.go  who owns which of 256 slots
//	config.go   what goes in           plan.go   what comes out
//	table.go    the nft table as data  rules.go  its rules   text.go  as a script
package balancer
