// Package ledger finds out whether a test that a list names is really there, so
// that such a list (of clauses of a standard, of cases of another program) cannot
// become a lie. It reads the test files and runs nothing. Only tests import it.
package ledger
