// Package conntracksync knows what a connection is: the two tuples, the mark
// that names its uplink, its status.
//
// It is pure: it imports no kernel, socket, file or clock, and no other package
// of ours. Package kernel below it speaks of these flows with the kernel's
// connection table; ha counts and deletes flows through that.
package conntracksync
