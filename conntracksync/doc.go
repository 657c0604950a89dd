// Package conntracksync knows what a connection is, and what two or more nodes
// tell each other so that each has the connections of all.
//
// A Table holds a node's own flows and those that its peers told. It is fed with
// what happens: events of the kernel (Heard, Dump), frames and sessions of peers
// (Received, Connected, Disconnected), the node's role (SetRole). Work returns
// what is to be done: flows to install, update, remove, and frames to send.
//
// A flow has one owner: the node through which its packets go. The owner tells
// its begin, changes and end; the others hold it in their kernel's table for as
// long as the owner does not say that it ended. Who becomes master owns
// everything, in a term above all before it; who is told of a flow by the node of
// the later term gives it up. That one has given it up is told apart from its end.
// What never lives long is never told. A master keeps what it has until its own
// kernel says that it ended, whatever another one says that thinks itself master.
//
// A flow's whole record takes about 16 bytes in a frame, later ones name it by a
// number. Digests over 256 buckets find what differs all the same, and only
// those buckets are told anew.
//
// Beside the flows stand the connections that a helper of the kernel foresees
// (FTP, SIP): they are few and short, are told after their masters and again at
// each sync of everything, and are in no digest. By how much a helper moved the
// sequence numbers of a flow no event tells: such flows are read now and then.
//
// How to read it: flow.go and expectation.go are what is told, codec.go and
// message.go how; table.go is the state, heard.go what the kernel does to it,
// peer.go what peers do, tell.go what is told and when, action.go what comes out.
// entry.go is a flow in the table, lifetime.go how long it may stay, ends.go what
// is needed to end a connection, adjust.go sequence numbers that a helper moved.
//
// It is pure: it imports no kernel, socket, file or clock, and no other package
// of ours. Package kernel below it speaks of these flows with the kernel's
// connection table, package peer brings the frames, package replica runs the
// table between the two; cmd/harouter ties them together.
package conntracksync
