// Package join hands the cluster's file and key to a new router: the side of
// the running node (Server) and that of the new one (Fetch).
//
// A person carries a ticket from one to the other. It holds a secret that is
// good for one router, and the pin of the certificate by which the new router
// knows that it talks to the cluster and to nobody in between. The new router
// speaks first, after the TLS handshake: its request with the secret in it. The
// answer is a bundle or a sentence that says why not.
//
// It owns the sync port while a ticket is valid, and no longer: with none the
// port is closed. Server.Serve and Server.TLS are for a listener that shares
// the port with others by ALPN. Tickets live in memory only, as a hash: they
// end with the daemon.
//
// What is in the bundle, and how a node gets into the file, is decided by
// Config.Give, which cmd/harouter fills in; where the new router writes what it
// got is cmd/harouter's too. It reads and writes no file and imports nothing of
// ours.
//
// How to read it: ticket.go is the word that a person carries, message.go what
// goes over the wire, book.go decides (pure) which secret is good and who has
// to wait, server.go issues tickets, door.go opens and closes the port, serve.go
// is one connection, fetch.go the new router's side.
package join
