// Package control is how commands reach the daemon: a unix socket in the run
// directory, its client, and the tables of `harouter status` and `events`.
//
// One connection carries one command: a line {"command":"status","args":{…}},
// answered by any number of lines {"data":…} and then {"done":true} or
// {"error":"…","code":1}. What the commands are and what they answer is
// decided by the handler that cmd/harouter gives to Listen.
//
// It owns harouter.sock and harouter.lock in the run directory; holding the
// lock is what makes a process the one daemon of that directory. Of ours it
// imports package ha, for the types of the status, and the pure balancer, for the
// verdicts in them.
package control
