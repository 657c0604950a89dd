// Package gossip tells the nodes of a cluster about each other: who is a
// member (memberlist), the newest snapshot that each node publishes, and
// direct messages. It carries bytes and never learns what they mean, and it
// never decides who is master.
//
// It owns the gossip port (UDP and TCP) of this node's addresses. Nodes with
// several addresses have several paths to each other (path.go): a packet goes
// over all of them and is taken once, a stream over the first that confirms its
// message (stream.go), so the loss of a path is not noticed. memberlist knows
// nodes by name only; addresses change while it runs (Gossip.Configure).
//
// Nothing that was not sealed with a key of the cluster, and that does not come
// from an address of a configured node, reaches memberlist; it is counted by
// reason. What was sealed but is old (a replay) is dropped too: see life.go.
//
// cmd/harouter creates it, runs it as a task and turns its events into those
// of package ha. It imports nothing of ours.
package gossip
