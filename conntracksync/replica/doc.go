// Package replica runs the replication of flows: it owns a
// conntracksync.Table, and brings together what that decides with the kernel's
// connection table and with the sessions to the other nodes.
//
// One goroutine (Replica.Run) owns the Table. Events of the kernel come in
// batches, frames of peers one by one: who brings them waits until they are
// handled, which is also when they are in the kernel. All that the Table wants
// is done at once and in order by the same goroutine; nothing there waits for
// another node. What is to be sent goes before what is to be written, and while
// the role moves no flow waits for its window to be over.
//
// ha drives it through ha.Flows: Take before a takeover puts addresses on,
// Yield when the role is another's, Flush before a hand-over. cmd/harouter
// wires Kernel (conntracksync/kernel) and Sessions (conntracksync/peer). It
// imports conntracksync only.
//
// How to read it: replica.go is what it needs and the API, run.go the goroutine,
// hear.go what the kernel tells, meet.go what peers tell, status.go what is shown.
package replica
