// Package peer keeps one encrypted session with each other node, and carries
// frames over it that it does not understand: those of the flow replication.
//
// It owns the sync port (TCP) of this node's addresses, all the time. TLS 1.3
// with both sides known by an Ed25519 key that is derived from the cluster's
// secret and the node's name, so no node can pose as another one. While the
// secret is changed, two nodes use the one that both have: the client says by
// name (SNI) which is its first, the server shows that if it has it, and the
// client answers with the same. The port is shared by ALPN: what is not
// harouter-sync/1 goes to Config.Other, which is asked for each connection (join
// answers while a ticket is valid) and without whose word the handshake is
// refused.
//
// Of two nodes the one with the lesser name dials, over all pairs of addresses
// at once with a small head start for those preferred; the first that gets
// through the handshake is kept (dial.go). A session that says nothing for
// 1.2 s is over, and another one is tried within a second.
//
// A frame that Send took arrives once and in order as long as the session
// lives, unless Overflow or Down tells that frames were lost: the caller then
// starts over with its whole state. What waits is bounded on both sides: the
// sender's queue by Config.Queue, the receiver's by a window of credit
// (window), which it grants as its Handler returns. So a slow Handler never
// stops the reading of the socket, and heartbeats, barriers and urgent frames
// are not held up behind bulk.
//
// cmd/harouter creates it and runs it as a task. It imports nothing of ours.
//
// How to read it: frame.go is what goes over the wire, stream.go frames over
// TLS and the greeting, outbox.go and inbox.go the two queues of a session,
// session.go its goroutines, link.go one peer with or without a session,
// dial.go and listen.go how sessions come about, door.go who may try,
// roster.go what is configured, sessions.go the API.
package peer
