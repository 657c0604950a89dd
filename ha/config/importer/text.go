package importer

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"harouter/ha/config"
)

// MaxSize bounds each file, in bytes; a real one has a few KiB.
const MaxSize = 1 << 20

const (
	maxShown = 160 // characters of a foreign line in a comment

	maxLine     = 16 << 10 // bytes
	maxProblems = 1000     // further ones are left out
	maxRemarks  = 1000     // of a list at the end of the file
)

// sheet is a file by lines. short is its name in comments.
type sheet struct {
	path, short string
	lines       []string
}

// newSheet splits a text. ok is false where it is no text, which is reported.
func (im *importer) newSheet(f File, short string) (s *sheet, ok bool) {
	s = &sheet{path: f.Path, short: short, lines: []string{""}}
	if len(f.Data) > MaxSize {
		im.fail(place{s, 1, 1}, "the file has %d bytes; allowed: at most %d (1 MiB)", len(f.Data), MaxSize)
		return s, false
	}
	data := bytes.TrimPrefix(f.Data, []byte("\ufeff"))
	s.lines = strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n")
	ok = true
	for i, line := range s.lines {
		if len(line) > maxLine {
			im.fail(place{s, i + 1, 1}, "the line has %d bytes; allowed: at most %d", len(line), maxLine)
			return s, false
		}
		if col := binary(line); col > 0 {
			im.fail(place{s, i + 1, col}, "this is no text; allowed: printable text in UTF-8")
			return s, false
		}
	}
	return s, true
}

// binary is the column of the first thing in a line that is no text, 0 for none.
func binary(line string) int {
	col := 0
	for i, r := range line {
		col++
		_, n := utf8.DecodeRuneInString(line[i:])
		if r == utf8.RuneError && n == 1 || unicode.IsControl(r) && r != '\t' && r != '\r' {
			return col
		}
	}
	return 0
}

// place is where something stands; line and col count from 1, col in characters.
type place struct {
	sheet *sheet
	line  int
	col   int
}

func (p place) String() string {
	if p.sheet == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.sheet.short, p.line)
}

// at is the place of byte i of a line of the sheet.
func (s *sheet) at(line, i int) place {
	text := s.lines[line-1]
	return place{s, line, utf8.RuneCountInString(text[:min(i, len(text))]) + 1}
}

func (im *importer) say(sev config.Severity, at place, format string, args []any) {
	if len(im.problems) >= maxProblems && (im.failed || sev != config.Error) {
		return
	}
	p := config.Problem{Severity: sev, File: im.in.Conf.Path, Text: printable(fmt.Sprintf(format, args...))}
	if s := at.sheet; s != nil {
		line := min(max(at.line, 1), len(s.lines))
		text := s.lines[line-1]
		p.File, p.Line, p.Col = s.path, line, min(max(at.col, 1), utf8.RuneCountInString(text)+1)
		p.Excerpt = config.Excerpt(text, p.Line, p.Col)
	}
	if im.said[p] {
		return // a loop of a Perl file says it for each turn
	}
	im.said[p], im.failed = true, im.failed || sev == config.Error
	im.problems = append(im.problems, p)
}

// printable is a text that can stand in a comment of one line.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	return s
}

// shown is a foreign line, cut where it is long.
func shown(s string) string {
	s = strings.Join(strings.Fields(printable(s)), " ")
	if r := []rune(s); len(r) > maxShown {
		s = string(r[:maxShown]) + "…"
	}
	return s
}

// quoted is a word of the old files in a message.
func quoted(s string) string { return fmt.Sprintf("%q", shown(s)) }
