package config

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// layout is the text of a file with the places of its nodes, for editing it
// without touching anything else. The tree knows where values begin; where they
// end is found here.
type layout struct {
	text  string
	lines []int // byte offset of each line
	nodes *value
	at    []int // byte offset of each node's key

	// Of nodes: {…} in flow style.
	flow  bool
	items []item
	close int // offset of the closing brace
}

// item is one entry of {…}: end is behind its last byte, comma where one
// follows, else -1.
type item struct{ end, comma int }

// errLayout is what a way of writing meets that is legal but not understood here.
var errLayout = errors.New("the nodes are written in a way that only a person can edit")

// newLayout finds the nodes of a file that Parse accepts.
func newLayout(data []byte) (*layout, error) {
	src, problems := newSource("", data)
	if len(problems) > 0 {
		return nil, problems
	}
	root, problems := parseTree(src)
	if len(problems) > 0 {
		return nil, problems
	}
	l := &layout{text: string(data)}
	if root == nil {
		return nil, errLayout
	}
	for _, e := range root.entries {
		if e.key.text == "nodes" {
			l.nodes = e.value
		}
	}
	if l.nodes == nil || l.nodes.kind != mapping || len(l.nodes.entries) == 0 {
		return nil, errLayout
	}
	l.lines = []int{len(l.text) - len(strings.TrimPrefix(l.text, "\ufeff"))}
	for i, c := range []byte(l.text) {
		if c == '\n' {
			l.lines = append(l.lines, i+1)
		}
	}
	for _, e := range l.nodes.entries {
		at := l.offset(e.key)
		if word := strings.TrimLeft(l.text[at:], `"'`); !strings.HasPrefix(word, e.key.text) {
			return nil, errLayout
		}
		l.at = append(l.at, at)
	}
	if open := l.offset(l.nodes); open != l.at[0] {
		var ok bool
		if l.items, l.close, ok = flowItems(l.text, open); !ok || len(l.items) != len(l.at) {
			return nil, errLayout
		}
		l.flow = true
		return l, nil
	}
	for _, at := range l.at {
		if !l.first(at) {
			return nil, errLayout
		}
	}
	return l, nil
}

// offset is where a value begins.
func (l *layout) offset(v *value) int {
	at := l.lines[v.line-1]
	for range v.col - 1 {
		_, n := utf8.DecodeRuneInString(l.text[at:])
		at += n
	}
	return at
}

// lineStart is where the line of an offset begins.
func (l *layout) lineStart(at int) int {
	start := max(strings.LastIndexByte(l.text[:at], '\n')+1, l.lines[0])
	return min(start, at)
}

// lineEnd is behind the newline of an offset's line, or the end of the text.
func (l *layout) lineEnd(at int) int {
	if i := strings.IndexByte(l.text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(l.text)
}

// first tells that only blanks stand before an offset in its line.
func (l *layout) first(at int) bool { return strings.Trim(l.indent(at), " ") == "" }

// indent is what stands before an offset in its line.
func (l *layout) indent(at int) string { return l.text[l.lineStart(at):at] }

// rest is what stands behind an offset in its line, without blanks around it.
func (l *layout) rest(at int) string { return strings.TrimSpace(l.text[at:l.lineEnd(at)]) }

// newline is how the line of an offset ends.
func (l *layout) newline(at int) string {
	end := l.lineEnd(at)
	if line := l.text[:end]; strings.HasSuffix(line, "\r\n") || !strings.HasSuffix(line, "\n") && strings.Contains(line, "\r\n") {
		return "\r\n"
	}
	return "\n"
}

// inFlow tells that a value is written as {…}.
func (l *layout) inFlow(v *value) bool { return l.text[l.offset(v)] == '{' }

// blockEnd is where the lines of a node in block style end: behind its last
// value and the comments that stand directly below it, further in than its key.
func (l *layout) blockEnd(i int) int {
	key := l.at[i]
	deep := len(l.indent(key))
	end := l.lineEnd(key)
	if v := l.nodes.entries[i].value; v.kind == mapping && l.inFlow(v) {
		if _, last, ok := flowItems(l.text, l.offset(v)); ok {
			end = l.lineEnd(last)
		}
	}
	direct := true // no blank line since the last value
	for at := end; at < len(l.text); at = l.lineEnd(at) {
		line := l.text[at:l.lineEnd(at)]
		word := strings.TrimLeft(line, " ")
		switch in := len(line)-len(word) > deep; {
		case strings.TrimSpace(line) == "":
			direct = false
		case strings.HasPrefix(word, "#"):
			if !in {
				direct = false
			} else if direct {
				end = l.lineEnd(at)
			}
		case !in:
			return end
		default:
			end, direct = l.lineEnd(at), true
		}
	}
	return end
}

// flowItems takes {…} apart at its own commas. Quotes and comments hide theirs;
// nothing that a node can say without quotes has a quote in it.
func flowItems(text string, open int) (items []item, closing int, ok bool) {
	depth, from, last := 0, open+1, open+1
	for i := open; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\'':
			if i = quoteEnd(text, i); i < 0 {
				return nil, 0, false
			}
			last = i + 1
		case c == '#' && strings.IndexByte(" \t\r\n", text[i-1]) >= 0:
			n := strings.IndexByte(text[i:], '\n')
			if n < 0 {
				return nil, 0, false
			}
			i += n
		case c == '{' || c == '[':
			if depth++; depth > 1 {
				last = i + 1
			}
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				if last > from {
					items = append(items, item{last, -1})
				}
				return items, i, true
			}
			last = i + 1
		case c == ',':
			if depth == 1 {
				items = append(items, item{last, i})
				from = i + 1
			}
			last = i + 1
		case strings.IndexByte(" \t\r\n", c) >= 0:
		default:
			last = i + 1
		}
	}
	return nil, 0, false
}

// quoteEnd is where the quoted text that begins at an offset ends, or -1.
func quoteEnd(text string, at int) int {
	q := text[at]
	for i := at + 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && q == '"':
			i++
		case text[i] != q:
		case q == '\'' && strings.HasPrefix(text[i+1:], "'"):
			i++
		default:
			return i
		}
	}
	return -1
}
