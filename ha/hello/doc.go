// Package hello lets the nodes hear each other on each lan by sealed broadcasts
// of their own: a backup sends no adverts there, and those of a master may be
// filtered. It carries a node's state, as gossip does, and direct messages, and
// it asks hosts of a lan by ARP, or by neighbour solicitations where there is IPv6
// alone, whether they are reached (DESIGN.md §2, §5 row 11).
// What it hears of nodes that this one's file does not have it reports as well,
// since their files may be newer: unlike gossip, which refuses them.
//
//	frame.go    what travels, sealed with a key of the cluster
//	book.go     which frames are news, and which were recorded and sent again
//	hello.go    the Task, what ha calls
//	run.go      its one goroutine
//	ear.go      a packet socket and its reader
//	hosts.go    the neighbours that the kernel knows, and the asking
//
// Frames are Ethernet broadcasts of a type of their own (0x88b5, IEEE 802 local
// experimental): they go where ARP goes, need no address, and no firewall of
// a router or a host sees them. It decides nothing: what follows is for package
// ha, which it imports, and no other edge.
package hello
