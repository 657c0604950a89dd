// Command bench measures harouter on whole sites out of network namespaces and
// prints a table: each figure with min / median / max over the runs, the peer's
// beside it where there is one (keepalived with conntrackd in the same site,
// the bare kernel),
// and by how much the lab itself was late. `make bench` runs it.
//
//	go run ./test/bench [-runs 5] [-only REGEX] [-json FILE]
//
// It judges nothing: a figure that misses the aim of the issue or of DESIGN.md
// is marked, and the exit code is 0 all the same; 1 is a bench that could not
// be run. Every figure was measured in this run, but for the lines that say
// they are a reference.
//
//	main.go    flags, order, progress        versions.go   what was measured
//	row.go     a figure                      print.go      the table
//	pair.go    two routers, ours             keepalived.go two routers, the peer's
//	fault.go   one fault under traffic       takeover.go   crash, hand-over, kill, LAN port
//	uplink.go  dead ISPs                     weights.go    one Apply (apply.go: its role)
//	shares.go  who gets how many             idle.go       what it costs to do nothing
//	rate.go    connections per second (hammer.go: its roles)      busy.go  false takeovers
//	policies.go  what policies cost (balancing.go: the routers)   theirs.go  beside Net-ISP-Balance's stored figures
//	replication.go  flows to the backup (stamps.go: its role), conntrackd.go the peer's
//
// It uses test/netlab and test/site, balancer/dataplane for the one bench that
// times Apply, and conntracksync/kernel to hear of flows; nothing imports it.
package main
