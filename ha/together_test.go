package ha

import (
	"testing"
	"time"
)

func TestTogether(t *testing.T) {
	for name, c := range map[string]struct {
		now         time.Time
		every, want time.Duration
	}{
		"just now":      {time.Unix(1000, 0), time.Second, time.Second},
		"in a moment":   {time.Unix(1000, 999_000_000), time.Second, time.Second},
		"a part of it":  {time.Unix(1000, 500_000_000), 400 * time.Millisecond, 300 * time.Millisecond},
		"before 1970":   {time.Unix(-1, 0), 3 * time.Second, time.Second},
		"the same tick": {time.Unix(1200, 0), 1500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		if got := Together(c.now, c.every); got != c.want {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}
