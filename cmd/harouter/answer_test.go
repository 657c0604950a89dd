package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestFlowCounter: who asks once gets what was counted within a second; who
// watches makes no more work than a five-hundredth of a processor.
func TestFlowCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts, takes := 0, 10*time.Millisecond
		var failed error
		f := flowCounter{count: func(context.Context) (map[uint32]int, error) {
			time.Sleep(takes)
			counts++
			return map[uint32]int{1: counts}, failed
		}}
		during := func(d time.Duration, watch bool) int {
			before := counts
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(1100 * time.Millisecond) {
				if n, known := f.get(t.Context(), watch); !known || n[1] != counts {
					t.Errorf("%v, %v after %d counts", n, known, counts)
				}
			}
			return counts - before
		}
		for name, c := range map[string]struct {
			watch     bool
			takes     time.Duration
			min, most int
		}{
			"asked":                {false, 10 * time.Millisecond, 50, 56},
			"watched":              {true, 10 * time.Millisecond, 10, 12},
			"watched, small table": {true, time.Microsecond, 50, 56},
			"watched, large table": {true, 900 * time.Millisecond, 1, 3},
		} {
			takes = c.takes
			if f.get(t.Context(), false); f.took != takes { // counted with this one
				time.Sleep(2 * time.Second)
				f.get(t.Context(), false)
			}
			if n := during(time.Minute, c.watch); n < c.min || n > c.most {
				t.Errorf("%s: counted %d times a minute", name, n)
			}
		}
		failed = errors.New("no")
		time.Sleep(time.Minute)
		if n, known := f.get(t.Context(), true); known {
			t.Errorf("%v of a count that failed", n)
		}
	})
}
