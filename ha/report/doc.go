// Package report tells people what happens: by mail and by a webhook.
//
// It gets all events of the cluster (ha/events) as this node learns them. Each is
// sent once: those of a moment (gatherFor) are looked at together, and the node
// that is master then sends them; where none of the nodes is, each sends its own
// (chooser.go). A master that dies within that moment has told nothing, and its
// successor does. What another node recorded long before is not told again, it
// comes from a node that was alone and told it itself.
//
// Mail has changes of role, node, uplink and configuration, alarms and what an
// operator did; the webhook has every event. Each has an outbox (outbox.go) of
// outboxSize events at most, sends one message at a time, not more than one in
// its gap, and tries again after retryFirst, doubling to retryMost; what is older
// than tooOld, or does not fit, is dropped, and how much is said in the next
// message. Nobody waits for any of it, and nothing is kept over a restart.
//
// Mail goes to the server of mail.smtp by net/smtp, or to the sendmail of the
// machine. net/smtp takes no more features, and needs none for this: a text to a
// few people, EHLO, STARTTLS, AUTH PLAIN, with our own time limits; that spares a
// dependency. A server that offers TLS gets it, and a password goes over TLS
// only, or to this machine itself.
//
// It imports nothing of ours. cmd/harouter starts it as a task, feeds it from the
// event log, and hands it who is master and the way to start a program.
package report
