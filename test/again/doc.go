// Command again runs go test with the arguments that it is given, and what
// failed once more, alone: most of our tests are about milliseconds on real
// packets, and a shared machine stands still for longer than these bounds now
// and then. A test that fails twice is red; one that passes the second time is
// named at the end, so that it is seen when it does so often. Nothing is run
// again after a panic, a time-out, a failed build, or more than [limit] failures:
// that is no noise.
//
//	outcome.go what a run printed, read    main.go the two runs
package main
