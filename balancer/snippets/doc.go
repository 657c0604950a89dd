// Package snippets puts rules of the admin into our nft table: the files
// nft.d/*.nft beside the configuration, which hold what may stand between the
// braces of a table for nft -f. What they may hold, and the chains that they can
// fill, package balancer says (snippet.go).
//
// As hooks they are local: every node has its own, they are no part of the agreed
// configuration nor of its hash. The directory is looked at at the start and at
// a reload. All files are tried together with nft -c, and if nft refuses that,
// one after the other: one that is refused is named with nft's words, and what was
// in force of it before stays, as does the rest. Then nft puts all of them into
// the table in one transaction, which also takes out what was there before. As
// long as one is refused it is looked at every few seconds.
//
// There is one worker, after the plan, and nothing waits for it. The data plane
// (balancer/dataplane) leaves alone what begins with user_, tells when it is
// lost, with the table or by another program, and then it is written anew. What
// sets of the admin have learned goes with that.
//
// It imports balancer alone; cmd/harouter starts it as a task and hands it the
// way to start a program.
//
//	files.go  the directory
//	nft.go    the program
//	run.go    the worker
package snippets
