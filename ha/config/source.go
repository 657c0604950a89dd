package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a file. A real one has a few KiB; these keep a hostile one (bytes
// come from other nodes too) from costing memory or seconds in the YAML library.
const (
	maxSize  = 1 << 20 // bytes
	maxLine  = 16 << 10
	maxWidth = 100 // characters of a line that an excerpt shows
)

// source is the text of a file, as positions count in it.
type source struct {
	name  string
	lines [][]rune
}

// newSource splits the text and refuses what is no text, or cannot be meant:
// then there is no use in parsing it.
func newSource(name string, data []byte) (*source, Problems) {
	s := &source{name: name}
	if len(data) > maxSize {
		s.lines = [][]rune{{}}
		return s, Problems{s.problem(Error, 1, 1, fmt.Sprintf("the file has %d bytes; allowed: at most %d (1 MiB)", len(data), maxSize))}
	}
	var problems Problems
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		s.lines = append(s.lines, []rune(string(line)))
		if col, text := badLine(line); text != "" {
			problems = append(problems, s.problem(Error, i+1, col, text))
		}
	}
	// The newline at the end of the last line begins no further line.
	if n := len(s.lines); n > 1 && len(s.lines[n-1]) == 0 {
		s.lines = s.lines[:n-1]
	}
	return s, problems
}

// badLine finds what makes a line unreadable, with its column.
func badLine(line []byte) (col int, text string) {
	if len(line) > maxLine {
		return 1, fmt.Sprintf("the line has %d bytes; allowed: at most %d", len(line), maxLine)
	}
	indent, col := true, 0
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		i += n
		col++
		switch {
		case r == utf8.RuneError && n == 1:
			return col, fmt.Sprintf("byte 0x%02x is no UTF-8; allowed: text in UTF-8", line[i-1])
		case r == '\t':
			if rest := bytes.TrimLeft(line[i:], " \t"); indent && len(rest) > 0 && rest[0] != '#' {
				return col, "a tab in the indentation; allowed: spaces only"
			}
		case unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\ufeff':
			return col, fmt.Sprintf("character %U cannot be meant here; allowed: printable text", r)
		case r != ' ':
			indent = false
		}
	}
	return 0, ""
}

// text is the whole of it with plain newlines, for the parser: its line count
// goes wrong with others.
func (s *source) text() string {
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(string(l))
		b.WriteByte('\n')
	}
	return b.String()
}

// inside moves a position into the file.
func (s *source) inside(line, col int) (int, int) {
	line = min(max(line, 1), len(s.lines))
	return line, min(max(col, 1), len(s.lines[line-1])+1)
}

func (s *source) problem(sev Severity, line, col int, text string) Problem {
	line, col = s.inside(line, col)
	return Problem{Severity: sev, File: s.name, Line: line, Col: col, Text: text, Excerpt: s.excerpt(line, col)}
}

func (s *source) excerpt(line, col int) string { return excerpt(s.lines[line-1], line, col) }

// Excerpt is a line of a text with a caret below the column, as problems have it;
// number and col count from 1, col in characters.
func Excerpt(line string, number, col int) string { return excerpt([]rune(line), number, col) }

// excerpt cuts a long line around the column.
func excerpt(text []rune, number, col int) string {
	at := col - 1
	if len(text) > maxWidth {
		from := min(max(at-maxWidth/2, 0), len(text)-maxWidth)
		cut := slices.Clone(text[from : from+maxWidth])
		if from > 0 {
			cut[0] = '…'
		}
		if from+maxWidth < len(text) {
			cut[maxWidth-1] = '…'
		}
		text, at = cut, at-from
	}
	shown := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, string(text))
	return fmt.Sprintf("%6d | %s\n       | %s^", number, strings.TrimRight(shown, " "), strings.Repeat(" ", at))
}
