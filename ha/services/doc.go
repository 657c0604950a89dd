// Package services has the services that the file names run on the master, and
// on no other node: a DHCP server, say. It starts and stops them through systemd
// (systemctl) or OpenRC (rc-service), whichever the machine has.
//
// They are started once the virtual addresses are there, and stopped when this
// node is no master (any more). Each has a goroutine of its own: one that hangs
// holds up no other, and nothing waits for any. A call that takes longer than
// callLimit is killed and, like one that failed, made again; meanwhile there is
// an alarm. A change of the role ends the call that is under way.
//
// Nothing is known of a service before the first call, so a daemon that was
// started anew adopts what runs: to start what runs does nothing. A node does not
// stop anything before its role has settled, or the restart of a lone daemon
// would interrupt them. At its end the daemon lets them run where the addresses
// stay too, and waits endLimit for those that are to be stopped. What dies while
// it should run is for systemd or OpenRC to start again. A name that a reload
// takes out of the file is left as it is.
//
// It imports nothing of ours. cmd/harouter starts it as a task, tells it whether
// this node serves, and hands it the way to start a program.
package services
