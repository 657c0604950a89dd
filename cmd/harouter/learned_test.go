package main

import (
	"testing"
	"time"
)

func TestNextRead(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0: time.Second, 5 * time.Millisecond: time.Second, 39 * time.Millisecond: time.Second,
		100 * time.Millisecond: 5 * time.Second, time.Second: 10 * time.Second,
	} {
		if got := nextRead(took); got != want {
			t.Errorf("%v took: again after %v, want %v", took, got, want)
		}
	}
}

// TestTellAnew: a full set is not told every minute for who missed nothing.
func TestTellAnew(t *testing.T) {
	for known, want := range map[int]time.Duration{
		0: time.Minute, 12000: time.Minute, 60000: 5 * time.Minute,
	} {
		if got := tellAnew(known); got != want {
			t.Errorf("%d places: all again after %v, want %v", known, got, want)
		}
	}
}
