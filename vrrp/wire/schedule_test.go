package wire

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

func TestSchedule(t *testing.T) {
	type step struct {
		seq      uint64
		interval time.Duration
		now      time.Duration
		renewed  time.Duration
		send     bool
		wait     time.Duration
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"nothing was ordered", []step{{0, 0, 5 * ms, 0, false, 0}}},
		{"at once, then each interval", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 10 * ms, 100 * ms, 100 * ms, false, 10 * ms},
			{1, 10 * ms, 109 * ms, 109 * ms, false, 1 * ms},
			{1, 10 * ms, 110 * ms, 109 * ms, true, 0},
		}},
		{"being late does not add up", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 10 * ms, 113 * ms, 110 * ms, true, 0},
			{1, 10 * ms, 113 * ms, 110 * ms, false, 7 * ms},
			{1, 10 * ms, 129 * ms, 120 * ms, true, 0},
			{1, 10 * ms, 129 * ms, 120 * ms, false, 1 * ms},
		}},
		{"late by an interval or more: no catching up", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 10 * ms, 120 * ms, 120 * ms, true, 0},
			{1, 10 * ms, 120 * ms, 120 * ms, false, 10 * ms},
			{1, 10 * ms, 147 * ms, 147 * ms, true, 0},
			{1, 10 * ms, 147 * ms, 147 * ms, false, 10 * ms},
		}},
		{"a new order is obeyed at once and begins a new count", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{2, 20 * ms, 103 * ms, 103 * ms, true, 0},
			{2, 20 * ms, 111 * ms, 103 * ms, false, 12 * ms},
		}},
		{"silence", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{2, 0, 105 * ms, 105 * ms, false, 0},
			{2, 0, 900 * ms, 900 * ms, false, 0},
		}},
		{"the lease holds to its last moment", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 10 * ms, 150 * ms, 100 * ms, true, 0},
		}},
		{"a lease that ran out is not taken up again", []step{
			{1, 10 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 10 * ms, 151 * ms, 100 * ms, false, 0},
			{1, 10 * ms, 160 * ms, 159 * ms, false, 0},
			{2, 10 * ms, 170 * ms, 170 * ms, true, 0},
		}},
		{"an order that is old before it was seen", []step{
			{1, 10 * ms, 100 * ms, 20 * ms, false, 0},
			{1, 10 * ms, 101 * ms, 100 * ms, false, 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := schedule{lease: 50 * ms}
			for i, st := range c.steps {
				send, wait := s.step(st.seq, st.interval, st.now, st.renewed)
				if diff := cmp.Diff([]any{st.send, st.wait}, []any{send, wait}); diff != "" {
					t.Fatalf("step %d: %s", i, diff)
				}
			}
		})
	}
}

// TestHurry: other settings are told at once, and the count begins there.
func TestHurry(t *testing.T) {
	type step struct {
		prompt       uint64
		interval     time.Duration
		now, renewed time.Duration
		send         bool
		wait         time.Duration
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"at once", []step{
			{0, 20 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 20 * ms, 107 * ms, 100 * ms, true, 0},
			{1, 20 * ms, 107 * ms, 100 * ms, false, 20 * ms},
		}},
		{"two at the same moment", []step{
			{0, 20 * ms, 100 * ms, 100 * ms, true, 0},
			{2, 20 * ms, 107 * ms, 100 * ms, true, 0},
			{2, 20 * ms, 108 * ms, 100 * ms, false, 19 * ms},
		}},
		{"silence stays silence", []step{{1, 0, 100 * ms, 100 * ms, false, 0}}},
		{"a lease that ran out stays so", []step{
			{0, 20 * ms, 100 * ms, 100 * ms, true, 0},
			{0, 20 * ms, 160 * ms, 100 * ms, false, 0},
			{1, 20 * ms, 161 * ms, 161 * ms, false, 0},
		}},
		{"a lease that runs out then", []step{
			{0, 20 * ms, 100 * ms, 100 * ms, true, 0},
			{1, 20 * ms, 160 * ms, 100 * ms, false, 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := schedule{lease: 50 * ms}
			for i, st := range c.steps {
				s.hurry(st.prompt, st.now)
				send, wait := s.step(1, st.interval, st.now, st.renewed)
				if diff := cmp.Diff([]any{st.send, st.wait}, []any{send, wait}); diff != "" {
					t.Fatalf("step %d: %s", i, diff)
				}
			}
		})
	}
}
