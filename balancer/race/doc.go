// Package race finds out which uplink answers a destination first, for policies
// with the method fastest-response.
//
// While there is such a policy it reads four times a second which destinations
// the kernel has no winner for, connects to each (TCP) by all uplinks that may run
// at the same moment, and has the first that is through remembered. Each attempt
// leaves with the mark of its uplink and the node's own address there, as probes
// do; the winner's is ended with a reset, and so is one that is through later.
//
// Flows go by the weights meanwhile. With race: hold the first packets to a
// destination wait for it, in the kernel's queue (nfnetlink_queue), which this
// package reads: the winner's mark leads them. After balancer.HoldFor they go by
// the weights; so does at once what is not raced, what finds the queue full, and
// all where nobody reads it. When the daemon dies the kernel drops those that
// wait, and lets pass what is sent after it: the client's next SYN.
//
// It decides nothing: balancer.Races says what is run, and how much of it,
// balancer.Holds who waits.
//
//	racer.go  the Task       lane.go   an attempt by one uplink
//	hold.go   who waits      queue.go  the kernel's queue     wire.go  its codec
//
// It imports package balancer, nothing else of ours; cmd/harouter starts it, and
// gives it the kernel's side of package dataplane as functions.
package race
