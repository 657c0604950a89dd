// Package fit runs the command that tells whether a router is fit
// (vrrp.check), and hands on what each run said. How many runs make a verdict
// is counted by the machine of package ha; a run that hangs delays nothing there.
//
// The command is run without a shell, one run at a time, as an ordinary process
// in a group of its own. A run that takes too long has failed, and the whole
// group is killed; while even that does not end it (a dead network file system),
// no other is started, and each interval counts as failed. Of what the command
// prints the last line is kept, as the reason.
//
//	runner.go  the Task    run.go  one run    tail.go  what it printed
//
// It imports nothing of ours; cmd/harouter starts it, and hands in how a program
// is started (package ha/child).
package fit
