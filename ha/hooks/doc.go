// Package hooks runs the scripts of the admin when something happens: the
// executables in hooks/NAME.d beside the file, in alphabetical order. What ends
// in ~ or .bak, begins or ends with #, begins with a dot, or is not executable is
// passed over.
//
//	uplink-up.d, up.d                    an uplink may be used (also degraded)
//	uplink-down.d, down.d                it may not (also disabled by hand)
//	uplink-long-down.d, long_down.d      it has been so for two minutes
//	master.d, backup.d, fault.d          the role of this node; master with the addresses in place
//	post-apply.d                         the kernel has got another plan
//
// Every node runs its own. up.d, down.d and long_down.d are the directories of
// Net-ISP-Balance; its scripts run unchanged, since those about an uplink get the
// 16 arguments of its link monitor, and here as there a script of up.d also runs
// when a line is back that was down for long. In one thing more is told than
// there: up.d runs at the start too, with "unknown" as what was before. For a
// role the arguments are the new one, the node and the old one; for post-apply
// the word and the role. HAROUTER_* variables tell the same by name (words.go).
//
// There is one worker: no two scripts run at once. While one runs, what happens
// waits, and of each uplink and of the role only the newest state (queue.go); a
// script is told no state twice in a row. One that takes longer than its limit
// is killed with all that it has started. Nothing waits for a hook: the calls
// only note what happened. At the end of the daemon what waits still runs, for
// endLimit.
//
// The directory is looked at each time, nothing is kept on disk. It imports
// balancer alone; cmd/harouter starts it as a task, hands it what happens and the
// way to start a program.
//
//	queue.go   what waits, and what was told
//	tally.go   the last rounds of an uplink, counted as the link monitor did
//	words.go   arguments and variables
//	script.go  the scripts of a directory, and how one is run
//	run.go     the worker
package hooks
