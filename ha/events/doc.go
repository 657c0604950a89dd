// Package events is the event log: what happened when, on all nodes of the
// cluster, kept over restarts.
//
// Each node numbers what it records itself (event.go). The log holds the newest
// events of every node, bounded for each, so that a node in trouble does not
// push out what the others have to tell (store.go). It writes them to one file
// of JSON lines, which is bounded too (disk.go). Exchange keeps the logs of the
// nodes alike: new events go to the others at once, and digests of what a node
// holds (digest.go) bring back what was lost on the way or missed while it was
// off (exchange.go, message.go).
//
// It owns the directory events in the state directory. It imports nothing of
// ours: cmd/harouter hands it the records of package ha and carries its messages
// over gossip; `harouter events` reads it through the control socket or, where
// no daemon runs, with Read.
package events
