// Package dataplane makes the kernel agree with a balancer.Plan: our nft table,
// the routing rules and routes that carry our protocol number, and sysctls. It
// reads, compares and writes the difference; twice is the same as once. What
// others wrote it never touches.
//
// The Kernel is a Task too: while it runs, what other programs change of the
// plan that was applied last is put back within a second. Events of the kernel
// that concern the plan (scope.go) lead to a look at that kind of state, which
// compares all of it with the plan (pass, in kernel.go); sysctls, most of which
// have no events, are looked at all the time. What is missing counts as
// somebody's doing if it was there after our last write; what went with its
// device comes back with it, uncounted. Who takes something away again and again
// is met at growing intervals (fight.go).
//
// It imports the pure package balancer and no other edge; cmd/harouter makes it
// the Plane of package ha, which calls it from workers, never from the loop
// that elects.
package dataplane
