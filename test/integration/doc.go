// Package integration holds the tests of the whole: the real binary, in sites
// made of network namespaces, with real traffic, under the faults of DESIGN.md
// §5. It has no code of its own; test/site and test/netlab carry it.
package integration
