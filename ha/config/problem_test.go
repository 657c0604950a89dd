package config

import "testing"

// TestNameOfFile: the name of a file begins no line, and nothing that a terminal obeys.
func TestNameOfFile(t *testing.T) {
	t.Parallel()
	p := Problem{File: "a\n1: \x1b[31mü\xff", Line: 2, Col: 3, Text: "no"}
	if got, want := p.Error(), "a?1: ?[31mü\ufffd:2:3: no"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
