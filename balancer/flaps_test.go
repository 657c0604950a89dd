package balancer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var damped = ProbeConfig{Fall: 3, Rise: 5, FlapHold: 10 * time.Second, FlapMax: 5 * time.Minute}

// line is an uplink that a test switches on and off; it counts the changes of
// the verdict.
type line struct {
	*Health
	now      time.Time
	interval time.Duration
	carrier  bool // switch by the carrier, not by silence
	changes  int
}

func newLine(cfg ProbeConfig, interval time.Duration) *line {
	l := &line{Health: NewHealth(cfg), now: time.Unix(1000, 0), interval: interval}
	l.run(time.Minute, true)
	l.changes = 0
	return l
}

// run lets the line be up or down for a while.
func (l *line) run(d time.Duration, up bool) {
	count := func(changed bool) {
		if changed {
			l.changes++
		}
	}
	if l.carrier {
		count(l.Link(up, l.now))
	}
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(l.interval)
		count(l.Round(Round{At: l.now, Good: up, RTT: ms(10), Reason: "no answer"}))
	}
}

// back lets the line be up until the verdict says so, and tells how long that
// took.
func (l *line) back() time.Duration {
	began := l.now
	for l.Verdict() != Up {
		l.run(l.interval, true)
	}
	return l.now.Sub(began)
}

// TestFlappingChangesLittle: 2 s up and 2 s down for a minute are at most three
// changes, whatever the rhythm of the probes; and the hold that follows is the
// shortest.
func TestFlappingChangesLittle(t *testing.T) {
	for _, c := range []struct {
		period   time.Duration
		interval time.Duration
		carrier  bool
		want     int
	}{
		{2 * time.Second, 200 * time.Millisecond, false, 3},
		{2 * time.Second, 100 * time.Millisecond, false, 3},
		{2 * time.Second, 10 * time.Millisecond, false, 3},
		{2 * time.Second, 333 * time.Millisecond, false, 3},
		{2 * time.Second, 500 * time.Millisecond, false, 1}, // never 5 good rounds
		{2 * time.Second, time.Second, false, 0},            // never 3 bad ones
		{2 * time.Second, 200 * time.Millisecond, true, 3},
		{2 * time.Second, time.Second, true, 1},
		{5 * time.Second, 200 * time.Millisecond, false, 3},
		{300 * time.Millisecond, 50 * time.Millisecond, true, 3},
	} {
		t.Run(fmt.Sprintf("%v with rounds of %v, carrier %v", c.period, c.interval, c.carrier), func(t *testing.T) {
			l := newLine(damped, c.interval)
			l.carrier = c.carrier
			for end := l.now.Add(time.Minute); l.now.Before(end); {
				l.run(c.period, false)
				l.run(c.period, true)
			}
			if l.changes != c.want {
				t.Errorf("%d changes, want %d", l.changes, c.want)
			}
			if l.run(2*c.period, false); l.Verdict() == Up {
				return
			}
			rise := 5 * c.interval
			if took := l.back(); took > rise+10*time.Second+c.interval { // the hold is seen to end by a round
				t.Errorf("back after %v", took)
			}
		})
	}
}

// TestHoldDoubles: each outage soon after the return doubles the hold; the first
// has none, and a calm time forgets all.
func TestHoldDoubles(t *testing.T) {
	l := newLine(damped, 200*time.Millisecond)
	outage := func(after time.Duration) string {
		l.run(after, true)
		l.run(3*time.Second, false)
		if l.Verdict() != Down || l.RTT() != 0 {
			t.Fatalf("not down: %v", l.Verdict())
		}
		return l.back().String()
	}
	var got []string
	for _, after := range []time.Duration{
		time.Minute, time.Minute, time.Second, time.Second, 4 * time.Minute, time.Second, 299 * time.Second, time.Second,
		5 * time.Minute, time.Second,
	} {
		got = append(got, outage(after))
	}
	want := []string{"1s", "11s", "21s", "41s", "1m21s", "2m41s", "5m1s", "5m1s", "1s", "11s"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("times until back (-want +got):\n%s", d)
	}
}

func TestHold(t *testing.T) {
	// flapped is a line that is fine again, and held since one second.
	flapped := func(t *testing.T, cfg ProbeConfig) *line {
		l := newLine(cfg, 200*time.Millisecond)
		for range 2 {
			l.run(time.Second, false)
			l.run(time.Second, true)
		}
		l.run(time.Second, true)
		return l
	}
	t.Run("tells until when and why", func(t *testing.T) {
		l := flapped(t, damped)
		if want := l.now.Add(9 * time.Second); l.Verdict() != Down || !l.HeldUntil().Equal(want) {
			t.Fatalf("%v, held until %v, want %v", l.Verdict(), l.HeldUntil(), want)
		}
		if want := "held down 9s more: went down 2 times in 2s"; l.Reason() != want {
			t.Errorf("reason %q, want %q", l.Reason(), want)
		}
		l.run(500*time.Millisecond, true)
		if want := "held down 9s more: went down 2 times in 2s"; l.Reason() != want {
			t.Errorf("reason %q, want %q", l.Reason(), want)
		}
	})
	t.Run("ends by a tick", func(t *testing.T) {
		l := flapped(t, damped)
		until := l.HeldUntil()
		if l.Tick(until.Add(-1)) || l.Verdict() != Down {
			t.Errorf("too early: %v", l.Verdict())
		}
		if !l.Tick(until) || l.Verdict() != Up || l.Reason() != "" || !l.Since().Equal(until) || !l.HeldUntil().IsZero() {
			t.Errorf("%v since %v: %q, held until %v", l.Verdict(), l.Since(), l.Reason(), l.HeldUntil())
		}
		if l.Tick(until.Add(time.Hour)) {
			t.Error("changed twice")
		}
	})
	t.Run("begins anew", func(t *testing.T) {
		l := flapped(t, damped)
		l.run(8*time.Second, true)
		l.run(time.Second, false)
		if !l.HeldUntil().IsZero() || l.Reason() != "no answer" {
			t.Errorf("held until %v: %q", l.HeldUntil(), l.Reason())
		}
		if took := l.back(); took != 11*time.Second {
			t.Errorf("back after %v", took)
		}
	})
	t.Run("outlasts single bad rounds", func(t *testing.T) {
		l := flapped(t, damped)
		l.run(400*time.Millisecond, false)
		if took := l.back(); took != 8600*time.Millisecond {
			t.Errorf("back after %v", took)
		}
	})
	t.Run("ends in degraded", func(t *testing.T) {
		cfg := damped
		cfg.Latency = Limit[time.Duration]{Degraded: ms(5), Clear: ms(2)}
		l := flapped(t, cfg)
		l.run(10*time.Second, true)
		if l.Verdict() != Degraded {
			t.Errorf("%v: %s", l.Verdict(), l.Reason())
		}
	})
	t.Run("ends in unknown where only ARP is left", func(t *testing.T) {
		l := flapped(t, damped)
		l.Round(Round{At: l.now, Good: true, OnlyARP: true})
		if l.Verdict() != Down {
			t.Errorf("%v in the hold", l.Verdict())
		}
		if l.Tick(l.HeldUntil()); l.Verdict() != Unknown {
			t.Errorf("%v after it", l.Verdict())
		}
	})
	t.Run("ends when it is released", func(t *testing.T) {
		l := flapped(t, damped)
		if !l.Release(l.now) || l.Verdict() != Up {
			t.Errorf("%v: %s", l.Verdict(), l.Reason())
		}
		if l.Release(l.now) {
			t.Error("released twice")
		}
		l.run(time.Second, false)
		if l.Release(l.now) || l.Verdict() != Down {
			t.Error("released although it does not answer")
		}
		if took := l.back(); took != 21*time.Second {
			t.Errorf("the next hold: back after %v", took)
		}
	})
	t.Run("by the numbers of a reload", func(t *testing.T) {
		for name, c := range map[string]struct {
			hold, longest time.Duration
			want          time.Duration // from the beginning of the hold
		}{
			"longer":             {time.Minute, time.Hour, time.Minute},
			"shorter":            {3 * time.Second, time.Hour, 3 * time.Second},
			"off":                {0, time.Hour, time.Second},
			"longest below hold": {4 * time.Second, time.Second, 4 * time.Second},
		} {
			l := flapped(t, damped)
			began := l.now.Add(-time.Second)
			cfg := damped
			cfg.FlapHold, cfg.FlapMax = c.hold, c.longest
			l.Reconfigure(cfg)
			if l.Tick(l.now); l.Verdict() == Down {
				l.back()
			}
			if took := l.now.Sub(began); took != c.want {
				t.Errorf("%s: back after %v, want %v", name, took, c.want)
			}
		}
	})
	t.Run("not at the start", func(t *testing.T) {
		l := &line{Health: NewHealth(damped), now: time.Unix(1000, 0), interval: 200 * time.Millisecond, carrier: true}
		l.run(time.Second, false) // a device that comes up after the daemon
		if took := l.back(); took != time.Second {
			t.Errorf("back after %v", took)
		}
		l.run(time.Second, false)
		if took := l.back(); took != time.Second {
			t.Errorf("back from the first outage after %v", took)
		}
	})
	t.Run("off", func(t *testing.T) {
		l := flapped(t, ProbeConfig{Fall: 3, Rise: 5})
		if l.Verdict() != Up || l.changes != 4 {
			t.Errorf("%v after %d changes", l.Verdict(), l.changes)
		}
	})
}

// TestFlapsAreBounded: whatever the rhythm, the verdict is Down while the line
// is, and each change back costs twice the time: 9 in 20 minutes would need more.
func TestFlapsAreBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	most := 0
	for n := range 200 {
		l := newLine(damped, 200*time.Millisecond)
		l.carrier = n%2 == 0
		longest := time.Duration(1+r.IntN(100)) * time.Second
		for end := l.now.Add(20 * time.Minute); l.now.Before(end); {
			l.run(time.Duration(r.Int64N(int64(longest))), false)
			l.run(time.Second, false)
			if l.Verdict() != Down || !l.HeldUntil().IsZero() {
				t.Fatalf("%v, held until %v, while it is down", l.Verdict(), l.HeldUntil())
			}
			l.run(time.Duration(r.Int64N(int64(longest))), true)
			if until := l.HeldUntil(); !until.IsZero() && (l.Verdict() != Down || !l.now.Before(until) || until.Sub(l.now) > damped.FlapMax) {
				t.Fatalf("%v, held until %v, at %v", l.Verdict(), until, l.now)
			}
		}
		most = max(most, l.changes)
	}
	if most > 2*8+1 {
		t.Errorf("%d changes in 20 minutes", most)
	}
	t.Logf("%d changes at most", most)
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 400 * time.Millisecond: "400ms", 20 * time.Second: "20s", 59600 * time.Millisecond: "1m",
		90 * time.Second: "1m30s", 5 * time.Minute: "5m", 10 * time.Second: "10s", time.Hour: "1h0m",
	} {
		if got := words(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}
