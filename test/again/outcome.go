package main

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// limit is the number of failed tests above which none is run again.
const limit = 8

// failure is a test function that failed, and its package.
type failure struct {
	Package, Test string
}

func (f failure) String() string { return f.Test + " (" + f.Package + ")" }

var (
	failedTest    = regexp.MustCompile(`^--- FAIL: (Test\w*) \(`)
	failedPackage = regexp.MustCompile(`^FAIL\t(\S+)(.*)`)
)

// outcome reads go test's lines of text, of one or more packages.
type outcome struct {
	tests  []failure
	hard   []string // lines that tell of more than a failed test
	unread []string // failed tests of the package whose end has not come yet
}

func (o *outcome) line(s string) {
	if m := failedTest.FindStringSubmatch(s); m != nil {
		o.unread = append(o.unread, m[1])
		return
	}
	if strings.HasPrefix(s, "panic: ") || strings.HasPrefix(s, "fatal error: ") {
		o.hard = append(o.hard, s)
		return
	}
	m := failedPackage.FindStringSubmatch(s)
	if m == nil {
		return
	}
	if strings.Contains(m[2], "failed]") || len(o.unread) == 0 {
		o.hard = append(o.hard, s)
	}
	for _, t := range o.unread {
		o.tests = append(o.tests, failure{Package: m[1], Test: t})
	}
	o.unread = nil
}

// again is what is worth a second run; nil and false if the failure is certain.
func (o *outcome) again() ([]failure, bool) {
	if len(o.hard) > 0 || len(o.unread) > 0 || len(o.tests) == 0 || len(o.tests) > limit {
		return nil, false
	}
	out := slices.Clone(o.tests)
	slices.SortFunc(out, func(a, b failure) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Test, b.Test))
	})
	return slices.Compact(out), true
}
