package main

import (
	"testing"
	"time"
)

func TestLifeSignEvery(t *testing.T) {
	for name, test := range map[string]struct {
		usec, pid string
		want      time.Duration
	}{
		"no systemd":         {"", "", 0},
		"asked":              {"30000000", "7", 10 * time.Second},
		"whoever it is":      {"3000000", "", time.Second},
		"another is asked":   {"3000000", "8", 0},
		"nonsense":           {"x", "7", 0},
		"negative":           {"-5", "7", 0},
		"more than one day":  {"99999999999999", "7", 0},
		"overflows the type": {"99999999999999999999", "7", 0},
	} {
		if got := lifeSignEvery(test.usec, test.pid, 7); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
