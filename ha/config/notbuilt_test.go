package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNotBuilt lists what this version refuses. Who builds a key deletes its
// line here and its call of later.
func TestNotBuilt(t *testing.T) {
	policy := func(text string) string { return "[{name: default, " + text + "}]" }
	for _, test := range []struct{ key, text, what, mend string }{
		{"policies", policy("race: hold"), "policies.default.race: hold", " or set it to learn"},
	} {
		_, ps := Parse("test.yaml", []byte(site(map[string]string{test.key: test.text})))
		want := []string{test.what + " is not built yet in this version; remove it" + test.mend}
		if diff := cmp.Diff(want, texts(ps)); diff != "" {
			t.Errorf("%s: %s\n%s", test.key, test.text, diff)
		}
	}
}
