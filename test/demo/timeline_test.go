package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

func TestTimeline(t *testing.T) {
	begin := netlab.Instant(5 * time.Second)
	line := timeline{begin: begin}
	line.cause(begin.Add(2310*time.Millisecond), "r1 loses power", "-")
	line.effect(begin.Add(2628*time.Millisecond), "r2 has the addresses, all three of them", "r2",
		"gateway silent for 322 ms", "new connections work again after 640 ms (8 failed)")
	line.effect(begin.Add(4500*time.Millisecond), "quiet", "r2")
	want := `    TIME  WHAT HAPPENED                    MASTER  WHAT THE HOST NOTICED
  2.31 s  r1 loses power                   -
 +318 ms  r2 has the addresses, all three  r2      gateway silent for 322 ms
            of them                                new connections work again
                                                     after 640 ms (8 failed)
 +2.19 s  quiet                            r2`
	lines := line.Lines(func(s string) string { return s })
	if d := cmp.Diff(want, strings.Join(lines, "\n")); d != "" {
		t.Error(d)
	}
}

// TestFitsATerminal: 80 columns, and only characters that every terminal has.
func TestFitsATerminal(t *testing.T) {
	line := timeline{}
	line.cause(0, strings.Repeat("word ", 20), "master", strings.Repeat("text ", 20))
	lines := append(line.Lines(func(s string) string { return s }), picture...)
	for i, s := range steps {
		lines = append(lines, "0/0 "+s.title)
		if s.play == nil {
			t.Errorf("step %d does nothing", i)
		}
	}
	for _, l := range lines {
		if len(l) >= 80 {
			t.Errorf("%d columns: %q", len(l), l)
		}
		for _, r := range l {
			if r < ' ' || r > '~' {
				t.Errorf("%q in %q", r, l)
			}
		}
	}
}

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0 ms": 300 * time.Microsecond, "7 ms": 7 * time.Millisecond, "318 ms": 318400 * time.Microsecond, "2.31 s": 2310 * time.Millisecond,
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
}
