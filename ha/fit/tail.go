package fit

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tailSize = 1024 // bytes of output that are kept
	maxLine  = 160  // bytes of a line that is shown
)

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(b []byte) (int, error) {
	n := len(b)
	if n > tailSize {
		b = b[n-tailSize:]
	}
	if over := len(t.kept) + len(b) - tailSize; over > 0 {
		t.kept = t.kept[:copy(t.kept, t.kept[over:])]
	}
	t.kept = append(t.kept, b...)
	return n, nil
}

// line is the last one that says anything, fit to be shown: printable, and cut
// where it is too long. "": there is none.
func (t *tail) line() string {
	lines := bytes.FieldsFunc(t.kept, func(r rune) bool { return r == '\n' || r == '\r' })
	for i := len(lines) - 1; i >= 0; i-- {
		text := strings.Map(func(r rune) rune {
			if r == utf8.RuneError || !unicode.IsPrint(r) {
				return ' '
			}
			return r
		}, string(lines[i]))
		if text = strings.Join(strings.Fields(text), " "); text == "" {
			continue
		}
		if len(text) <= maxLine {
			return text
		}
		cut := maxLine - len("…")
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		return text[:cut] + "…"
	}
	return ""
}
