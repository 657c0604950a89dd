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
