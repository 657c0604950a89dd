package ha

import (
	"slices"
	"testing"
	"time"
)

func TestHoldAfter(t *testing.T) {
	for crashes, want := range map[int]time.Duration{0: 0, 1: 0, 2: 0, 3: 10 * time.Second, 4: 20 * time.Second, 7: 160 * time.Second, 8: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := holdAfter(crashes); got != want {
			t.Errorf("%d crashes: %v, want %v", crashes, got, want)
		}
	}
}

// TestCrashLoop: a better node that crashes again and again takes nothing from
// the one that works, and all the same serves when it is alone.
func TestCrashLoop(t *testing.T) {
	alarmed := func(s *sim) bool {
		return slices.ContainsFunc(s.nodes["r1"].m.Status(s.now).Alarms, func(a Alarm) bool { return a.Code == AlarmServiceFailed && a.Subject == "harouter" })
	}
	s := booted(t, "r1", "r2")
	s.fenced("r1")
	s.run(2 * time.Second)
	s.master("r2")
	s.crashes = map[string]int{"r1": 4}
	s.boot("r1")
	s.run(19 * time.Second)
	s.master("r2")
	if !alarmed(s) {
		t.Error("no alarm")
	}
	s.power("r2")
	at := s.now
	s.run(time.Second)
	s.master("r1")
	none, _ := s.coverage(at)
	within(t, "nobody holds the addresses", none, 410*time.Millisecond) // 3A + Skew of priority 1
	s.boot("r2")
	s.run(20 * time.Second)
	s.master("r1")
	if alarmed(s) {
		t.Error("the alarm stays")
	}

	s.fenced("r1")
	s.run(2 * time.Second)
	s.master("r2")
	s.boot("r1")
	s.run(21*time.Second + 5*time.Second) // the hold is over, and preempt_delay
	s.master("r1")
}
