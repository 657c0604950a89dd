// Package soak holds the tests that need real minutes, with the real binary in
// the routers of a netlab site: make soak. They have no place among those that
// are run at each change; what they wait for, test/integration asks of kernels
// whose times are set short.
package soak
