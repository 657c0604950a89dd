package config

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Severity tells whether a file with this problem can be used.
type Severity uint8

// Error refuses the file; Warning only tells.
const (
	Error Severity = iota
	Warning
)

func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Problem is one thing to say about a file.
type Problem struct {
	Severity Severity
	File     string
	Line     int // counts from 1; 0: about the file as a whole (it cannot be opened)
	Col      int // in characters, counts from 1
	Text     string
	Excerpt  string // the line and a caret below the place, no newline at the end
}

// Error is FILE:LINE:COL: text and the excerpt below it.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // what stands beside a file may be called anything
			return '?'
		}
		return r
	}, p.File))
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	b.WriteString(": ")
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Text)
	if p.Excerpt != "" {
		b.WriteString("\n" + p.Excerpt)
	}
	return b.String()
}

// Problems are all that is to say about a file, in its order.
type Problems []Problem

// Errors are those that refuse the file.
func (ps Problems) Errors() Problems { return ps.of(Error) }

// Warnings are those that do not.
func (ps Problems) Warnings() Problems { return ps.of(Warning) }

func (ps Problems) of(s Severity) Problems {
	return slices.DeleteFunc(slices.Clone(ps), func(p Problem) bool { return p.Severity != s })
}

// Err is the errors among them as one error, nil when there is none.
func (ps Problems) Err() error {
	if errs := ps.Errors(); len(errs) > 0 {
		return errs
	}
	return nil
}

// Error is all problems below each other.
func (ps Problems) Error() string {
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "\n")
}

// maxProblems keeps a hopeless file from filling the screen.
const maxProblems = 100

// sorted puts problems in the order of the file and cuts a long list, warnings
// first.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
	if len(ps) <= maxProblems {
		return ps
	}
	errs, rest := ps.Errors(), len(ps)-maxProblems
	if len(errs) <= maxProblems {
		return errs
	}
	errs = errs[:maxProblems]
	last := &errs[maxProblems-1]
	last.Text += fmt.Sprintf(" (%d more problems are not shown)", rest)
	return errs
}
