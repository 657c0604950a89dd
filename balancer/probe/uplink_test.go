package probe

import (
	"log/slog"
	"slices"
	"testing"
	"time"
)

// After a stop of the whole process all deadlines have passed, while the
// answers may lie in the sockets: they are read first.
func TestSleepIsNotSilence(t *testing.T) {
	u := newUplink(Uplink{Name: "cable"}, slog.Default())
	now := time.Now()
	for i := range 3 {
		r := &round{
			timeout: time.Second, deadline: now.Add(time.Duration(i-4) * time.Second), quorum: 1,
			cancel: func() {},
		}
		r.ask("target")
		u.open = append(u.open, r)
	}
	rounds := slices.Clone(u.open)
	u.expire()
	for i, r := range rounds {
		if r.decided {
			t.Errorf("round %d was given up without a look into the sockets: %q", i, r.result.Reason)
		}
	}
	u.take(answer{round: rounds[1], rtt: 4 * time.Second})
	for end := time.Now().Add(5 * time.Second); len(u.open) > 0; u.expire() {
		if time.Now().After(end) {
			t.Fatal("the rounds do not end")
		}
	}
	if took := time.Since(now); took < drain {
		t.Errorf("given up after %v", took)
	}
	for i, r := range rounds {
		if !r.decided || r.result.Good != (i == 1) {
			t.Errorf("round %d: decided %v, %+v", i, r.decided, r.result)
		}
	}
}
