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
// everything; who is told by the master that a flow is the master's gives it up.
// What never lives long is never told.
//
// A flow's whole record takes about 16 bytes in a frame, later ones name it by a
// number. Digests over 256 buckets find what differs all the same, and only
// those buckets are told anew.
//
// It is pure: it imports no kernel, socket, file or clock, and no other package
// of ours. Package kernel below it speaks of these flows with the kernel's
// connection table, package peer brings the frames, package replica runs the
// table between the two; ha counts and deletes flows through the first.
package conntracksync
