package dataplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPace: damage is done at each of the given seconds, and put back as soon
// as it may be; fights end when they may.
func TestPace(t *testing.T) {
	every := func(step, n int) (out []int) {
		for i := range n {
			out = append(out, i*step)
		}
		return out
	}
	steep := usualPace
	steep.longest = time.Minute // where the doubling shows
	for _, c := range []struct {
		name   string
		damage []int // when; what is still to be put back cannot be damaged
		want   string
	}{
		{"now and then", every(15, 8), "0 15 30 45 60 75 90 105"},
		{"five in a minute", every(12, 6), "0 12 24 36 48 60"},
		{"each second", every(1, 200), "0 1 2 3 4 fight 5 7 11 19 35 67 127 187 247 254:over"},
		{"slower than the back-off at first", every(3, 20), "0 3 6 9 12 fight 15 18 22 30 46 78 85:over"},
		{"again within a minute", []int{0, 1, 2, 3, 4, 5, 20}, "0 1 2 3 4 fight 5 12:over fight 20 27:over"},
		{"again after a minute", []int{0, 1, 2, 3, 4, 5, 70}, "0 1 2 3 4 fight 5 12:over 70"},
	} {
		f := fight{pace: steep}
		start := time.Now()
		var got []string
		damaged := map[int]bool{}
		for _, s := range c.damage {
			damaged[s] = true
		}
		pending := false
		for s := range 260 {
			now := start.Add(time.Duration(s) * time.Second)
			if pending = pending || damaged[s]; pending {
				due, began := f.damaged(now)
				if began {
					got = append(got, "fight")
				}
				if !now.Before(due) {
					f.repaired(now)
					got = append(got, fmt.Sprint(s))
					pending = false
				}
			}
			if f.on() && !pending && !now.Before(f.overAt()) {
				f.end()
				got = append(got, fmt.Sprintf("%d:over", s))
			}
		}
		if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}
