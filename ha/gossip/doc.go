// Package gossip tells the nodes of a cluster about each other: who is a
// member (memberlist), the newest snapshot that each node publishes, and
// direct messages. It carries bytes and never learns what they mean, and it
// never decides who is master.
//
// It owns the gossip port (UDP and TCP) of this node's address. Nothing that
// was not sealed with a key of the cluster, and that does not come from the
// address of a configured node, reaches memberlist; it is counted by reason.
// What was sealed but is old (a replay) is dropped too: see life.go.
//
// cmd/harouter creates it, runs it as a task and turns its events into those
// of package ha. It imports nothing of ours.
package gossip
