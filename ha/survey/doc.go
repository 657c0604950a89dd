// Package survey looks at a machine that is to become a router: which devices it
// has, what their addresses and default routes are, and what each of them seems
// to be for. It is what `harouter init` knows without asking.
//
// It reads the kernel once by netlink and changes nothing; any user may do that.
// It imports no other package of ours; cmd/harouter calls it and turns what it
// says into a starter file (ha/config). judge.go decides, look.go reads.
package survey
