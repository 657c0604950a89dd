package importer

import (
	"fmt"
	"strings"
)

// shellWords splits a line as the shell would, if it is a plain command: quotes
// and backslashes are understood, whatever else the shell does is an error.
func shellWords(line string) (words []string, err error) {
	var b strings.Builder
	open := false // a word, perhaps an empty one in quotes
	end := func() {
		if open {
			words = append(words, b.String())
			b.Reset()
			open = false
		}
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\n':
			end()
		case '#':
			if !open {
				return words, nil
			}
			b.WriteByte(c)
		case '\'', '"':
			open = true
			close := strings.IndexByte(line[i+1:], c)
			if close < 0 {
				return nil, fmt.Errorf("a quote %c without its end", c)
			}
			inside := line[i+1 : i+1+close]
			if c == '"' && strings.ContainsAny(inside, "$`\\") {
				return nil, fmt.Errorf("the shell's %s", "$, ` or \\ in quotes")
			}
			b.WriteString(inside)
			i += close + 1
		case '\\':
			if i+1 == len(line) {
				return nil, fmt.Errorf("a line that goes on in the next one, which Net-ISP-Balance does not read so")
			}
			i++
			open = true
			b.WriteByte(line[i])
		case '|', '&', ';', '<', '>', '(', ')', '$', '`', '*', '?', '{', '}', '[', ']', '~':
			return nil, fmt.Errorf("the shell's %c", c)
		default:
			open = true
			b.WriteByte(c)
		}
	}
	end()
	return words, nil
}
