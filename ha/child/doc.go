// Package child starts the programs of others: hooks, checks, services. They get
// nothing of what makes the daemon sure to run in time, which whoever is started
// inherits: real-time priority, a nice level of -20, protection from the kernel's
// out-of-memory killer, ignored signals, lateness of timers, the service
// manager's socket. (Locked memory ends with exec(2) by itself.)
//
// Between fork and exec the starting process stands still as a whole, for as
// long as the disk takes to give the program. So the daemon never starts it
// itself: it starts its own executable, which is in memory, with a hidden verb
// (Verb), and that one becomes an ordinary process (Become) before it looks for
// the program. It is the one place that does: whatever starts a program has
// Command handed in by cmd, as edges import no other edge.
//
//	command.go  the daemon's side
//	become.go   that of the process in between
package child
