// Package race finds out which uplink answers a destination first, for policies
// with the method fastest-response.
//
// While there is such a policy it reads four times a second which destinations
// the kernel has no winner for, connects to each (TCP) by all uplinks that may run
// at the same moment, and has the first that is through remembered. Each attempt
// leaves with the mark of its uplink and the node's own address there, as probes
// do; the winner's is ended with a reset, and so is one that is through later.
// Nobody waits for a race: flows go by the weights meanwhile.
//
// It decides nothing: balancer.Races says what is run, and how much of it.
//
//	racer.go  the Task    lane.go  an attempt by one uplink
//
// It imports package balancer, nothing else of ours; cmd/harouter starts it, and
// gives it the kernel's side of package dataplane as two functions.
package race
