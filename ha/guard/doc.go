// Package guard fences this machine when the daemon dies or hangs.
//
// The daemon starts the guard beforehand as a process of its own (the same
// executable, a hidden verb) and tells it at each change what to do if the
// daemon is gone (State). The guard waits for the end of their socket and looks
// at the daemon's heartbeat on a shared page. When either says that the daemon
// is gone and a peer lives, it tells the successor, by datagrams that the daemon
// sealed beforehand, sends the farewell (priority 0) to all and takes the
// virtual addresses away in one step. When no peer lives the addresses stay and
// the guard listens: the first advert of another node takes them away. Routers
// that are not ours are told the farewell all the same, lest they wait. A new
// daemon ends a guard that still listens with TakeOver.
//
// The package owns the guard process, its socket guard.sock and what it was told
// last, guard.state, in the run directory (nothing else is written to disk) and the talk between the two
// processes. It must not import any edge: cmd hands in, as Ports, how addresses
// are removed, packets sent and adverts heard. ha calls the Client, cmd calls
// Run, TakeOver and, when both processes are dead, Avenge.
//
//	machine.go   what to do when: pure, events and a clock reading in, actions out; fence.go
//	run.go       the guard process: one poll loop on a locked thread, and workers.go
//	client.go    the daemon's side, start.go; takeover.go the next daemon's
//	avenge.go    a guard for a daemon that died together with its own; kept.go
//	page.go      the heartbeat, witness.go the thread that dies first
//	state.go and message.go what is told; word.go the datagrams
package guard
