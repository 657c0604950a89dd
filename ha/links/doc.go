// Package links watches the devices of the file: whether they are there and
// carry, which addresses they have, which gateway the main table knows behind
// them. It reports to the loop of package ha and
// changes nothing. What to watch can be replaced while it runs.
//
//	watcher.go  the Task: events, and a look at all after each
//	read.go     one device, one gateway
//	route.go    what a default route is
//	own.go      from which address neighbours may be asked
//
// It imports package ha for the event that it reports, no other edge;
// cmd/harouter starts it.
package links
