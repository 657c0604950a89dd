package shrink

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	var lines []string
	for range 20 {
		lines = append(lines, "12ms noise", "cut a b", "1.2345s crash r1 7", "mend a b")
	}
	lines = append(lines, "9.87654s lose r1>r2 9 ever")
	for name, c := range map[string]struct {
		fails func([]string) bool
		want  []string
	}{
		"one line": {func(l []string) bool {
			return slices.ContainsFunc(l, func(s string) bool { return strings.Contains(s, "crash r1") })
		},
			[]string{"1s crash r1"}},
		"a number that is needed": {func(l []string) bool {
			return slices.ContainsFunc(l, func(s string) bool { return strings.Contains(s, " 9") })
		}, []string{"10s lose r1>r2 9"}},
		"as many cuts as mends": {func(l []string) bool {
			cuts, mends := 0, 0
			for _, s := range l {
				cuts += strings.Count(s, "cut a b")
				mends += strings.Count(s, "mend a b")
			}
			return cuts == mends && slices.Contains(l, "12ms noise")
		}, []string{"12ms noise"}},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, Lines(lines, c.fails)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
