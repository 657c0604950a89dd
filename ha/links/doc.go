// Package links watches the devices of the file: whether they are there and
// carry, which addresses they have, which gateway the main table knows behind
// them, and how much passes through. It reports to the loop of package ha and
// changes nothing.
//
// It imports package ha for the event that it reports, no other edge;
// cmd/harouter starts it.
package links
