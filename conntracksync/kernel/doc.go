// Package kernel reads and changes the kernel's connection table by ctnetlink.
//
// It owns the sockets for that and the codec of the messages, nothing more. Its
// functions keep no state between two calls: each opens its own socket and may
// run at the same time as others. An Injector keeps one to write flows, a
// Listener one to hear what happens to them. All work on the network namespace
// of the calling thread and need CAP_NET_ADMIN; the table of IPv4 and IPv6 is
// one.
//
// A translated flow is installed with the plain inverse as its reply and the
// translation beside it, never with the reply as it is read: that gives an entry
// which lists well and translates nothing. The proof is TestTakeover.
//
// Expectations are a table of their own (expectations.go). The kernel tells of
// them, but not of moved sequence numbers, nor that one was prolonged.
//
// It decides nothing and imports no edge of ours. cmd/harouter calls it: to delete
// the flows of an uplink that died, to show how many flows each has, and to see
// the limits of the table and of the ports of NAT before they bite. What an
// Injector writes and a Listener hears is conntracksync.Table's to decide.
package kernel
