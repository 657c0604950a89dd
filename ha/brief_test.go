package ha

import "testing"

// TestBrief: an event says in one line what a person reads in many.
func TestBrief(t *testing.T) {
	t.Parallel()
	const first = "nothing changed anywhere: r1: /etc/h.yaml:3:1: lan is no key"
	const excerpt = "\n     3 | lan: 1\n       | ^"
	for _, c := range []struct{ name, text, want string }{
		{"one line", "r2 did not answer; nothing changed", "r2 did not answer; nothing changed"},
		{"a mistake", first + excerpt, first},
		{"two", first + excerpt + "\n/etc/h.yaml:9:1: x" + excerpt, first + " (and 1 more; harouter check tells all)"},
		{"nothing but an excerpt", excerpt, ""},
	} {
		if got := brief(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
