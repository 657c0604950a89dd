package hello

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBookIsBounded: nodes that nobody knows do not fill it.
func TestBookIsBounded(t *testing.T) {
	b := newBook(100)
	for i := range 2 * maxSenders {
		b.take("r1", frame{Kind: kindState, From: fmt.Sprintf("n%d", i), Lan: "office", Life: 1, Seq: 1, Challenge: 10})
	}
	if n := len(b.echoes()); n != maxSenders {
		t.Errorf("%d nodes are remembered, want %d", n, maxSenders)
	}
}

// TestBook: r1 hears r2; its own challenge is 100.
func TestBook(t *testing.T) {
	at := func(life, seq uint64, echoes ...uint64) frame {
		f := frame{Kind: kindState, From: "r2", Lan: "office", Life: life, Seq: seq, Challenge: life * 10}
		for _, c := range echoes {
			f.Echoes = append(f.Echoes, echo{"r1", c})
		}
		return f
	}
	on := func(lan string, f frame) frame { f.Lan = lan; return f }
	type step struct {
		what        string
		frame       frame
		news, greet bool
	}
	for _, c := range []struct {
		name   string
		steps  []step
		echoes []echo
	}{
		{"a first word has to wait", []step{
			{"unproved", at(1, 1), false, true},
			{"unproved again", at(1, 2), false, false},
			{"proved", at(1, 3, 100), true, false},
			{"without, once it is known", at(1, 4), true, false},
		}, []echo{{"r2", 10}}},
		{"nothing counts twice", []step{
			{"proved", at(1, 3, 100), true, false},
			{"the same", at(1, 3, 100), false, false},
			{"an older one", at(1, 2, 100), false, false},
			{"the same on another lan", on("guests", at(1, 3, 100)), true, false},
			{"and again", on("guests", at(1, 3, 100)), false, false},
		}, []echo{{"r2", 10}}},
		{"a former life does not come back", []step{
			{"the first", at(1, 3, 100), true, false},
			{"the second", at(2, 1, 100), true, false},
			{"recorded from the first", at(1, 9, 100), false, false},
			{"the second goes on", at(2, 2, 100), true, false},
		}, []echo{{"r2", 20}}},
		{"recorded while this node lived before", []step{
			{"it echoes what this node was", at(1, 3, 77), false, true},
		}, []echo{{"r2", 10}}},
		{"a recording does not keep the real one from proving itself", []step{
			{"the real one", at(2, 1, 100), true, false},
			{"a recording", at(1, 5), false, true},
			{"the real one", at(2, 2), true, false},
		}, []echo{{"r2", 20}, {"r2", 10}}},
		{"no life at all", []step{{"zero", at(0, 1, 100), false, false}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBook(100)
			for _, s := range c.steps {
				if news, greet := b.take("r1", s.frame); news != s.news || greet != s.greet {
					t.Fatalf("%s: news %t, greet %t, want %t, %t", s.what, news, greet, s.news, s.greet)
				}
			}
			if diff := cmp.Diff(c.echoes, b.echoes()); diff != "" {
				t.Error(diff)
			}
			if b.keep([]string{"r3"}); len(b.echoes()) != 0 {
				t.Error("one that left the file is remembered")
			}
		})
	}
}
