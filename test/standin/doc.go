// Package standin has what stands in the tests of several packages in place of
// another part of the daemon. Only tests import it.
//
//	command.go  package child    reports.go  the loop of package ha
package standin
