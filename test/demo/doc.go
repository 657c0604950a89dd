// Package main is the demo: a whole site out of network namespaces on this
// machine, the real harouter in its two routers, real traffic through it, and
// the faults that such a site lives through, told on the terminal with times.
//
//	make demo          # under a minute, leaves nothing behind
//	make demo KEEP=1   # leaves the site standing and says how to look around
//
// It owns the story and how it is shown; test/netlab builds and breaks the
// site, test/site runs the program in it. It exits with 1 if something did not
// happen as DESIGN.md §5 promises. Nothing imports it.
package main
