package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// play shows one step with two details.
func play(s *screen) {
	s.Begin("1/8 both routers start")
	s.Doing("booting")
	s.Doing("waiting for the probes to tell what nobody else can tell, at great length")
	s.End("    r1 is master")
	s.Close("the end")
	s.Print("too late")
}

func TestPlainLines(t *testing.T) {
	var b strings.Builder
	play(&screen{out: &b})
	if d := cmp.Diff("1/8 both routers start\n    r1 is master\nthe end\n", b.String()); d != "" {
		t.Error(d)
	}
}

// TestTerminal: what is rewritten never reaches the last column, and what
// stays is the same as plain lines.
func TestTerminal(t *testing.T) {
	for name, columns := range map[string]int{"usual": 80, "narrow": 40, "tiny": 5} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			play(&screen{out: &b, live: true, width: func() int { return columns }})
			stays := ""
			for line := range strings.Lines(b.String()) {
				parts := strings.Split(line, "\r\x1b[K")
				for _, p := range parts[:len(parts)-1] {
					if len(p) >= max(columns, len("  0.0 s")+1) {
						t.Errorf("%d columns: %q", len(p), p)
					}
				}
				stays += parts[len(parts)-1]
			}
			if d := cmp.Diff("1/8 both routers start\n    r1 is master\nthe end\n", stays); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestColourOnlyWhereThereIs(t *testing.T) {
	if d := cmp.Diff("x", (&screen{}).red("x")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("\x1b[31mx\x1b[0m", (&screen{colour: true}).red("x")); d != "" {
		t.Error(d)
	}
}
