// Package integration holds the tests of the whole: the real binary, in sites
// made of network namespaces, with real traffic, under the faults of DESIGN.md
// §5. It has no code of its own; test/site and test/netlab carry it.
//
// Tests of times and of losses run one after the other. Those that mostly wait
// call t.Parallel and run at the end, three at once.
package integration
