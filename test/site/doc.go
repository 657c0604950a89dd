// Package site runs the real harouter binary in the routers of a netlab site:
// it writes configuration and key, starts and ends daemons, and reads their
// status. test/integration, test/demo and test/bench build on it.
package site
