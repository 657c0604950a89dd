package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOutcome(t *testing.T) {
	a, b := failure{"harouter/a", "TestOne"}, failure{"harouter/b", "TestTwo"}
	for _, tt := range []struct {
		name, text string
		want       []failure
		ok         bool
	}{
		{"one", "ok  \tharouter/x\t1s\n--- FAIL: TestOne (1.00s)\n    a_test.go:1: late\nFAIL\nFAIL\tharouter/a\t1.2s\nFAIL\n", []failure{a}, true},
		{"two packages", "--- FAIL: TestTwo (0.1s)\nFAIL\nFAIL\tharouter/b\t1s\n--- FAIL: TestOne (0.1s)\n    --- FAIL: TestOne/sub (0.1s)\nFAIL\tharouter/a\t1s\n", []failure{a, b}, true},
		{"the same twice", "--- FAIL: TestOne (0.1s)\n--- FAIL: TestOne (0.1s)\nFAIL\tharouter/a\t1s\n", []failure{a}, true},
		{"a failed build", "FAIL\tharouter/a [build failed]\n", nil, false},
		{"no test is named", "FAIL\tharouter/a\t0.1s\n", nil, false},
		{"a panic", "--- FAIL: TestOne (0.1s)\npanic: runtime error [recovered]\nFAIL\tharouter/a\t1s\n", nil, false},
		{"a time-out", "panic: test timed out after 1s\nFAIL\tharouter/a\t1s\n", nil, false},
		{"an end that never came", "--- FAIL: TestOne (0.1s)\n", nil, false},
		{"nothing failed", "ok  \tharouter/a\t1s\n", nil, false},
		{"many", strings.Repeat("--- FAIL: TestOne (0.1s)\n", limit+1) + "FAIL\tharouter/a\t1s\n", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o outcome
			for l := range strings.Lines(tt.text) {
				o.line(l)
			}
			got, ok := o.again()
			if d := cmp.Diff(tt.want, got); d != "" || ok != tt.ok {
				t.Errorf("again %v, want %v\n%s", ok, tt.ok, d)
			}
		})
	}
}
