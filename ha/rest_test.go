package ha

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"harouter/vrrp"
)

// TestRestingIsNoSleep: a loop with nothing to do wakes up long before it would
// say that it overslept, or lose its lease.
func TestRestingIsNoSleep(t *testing.T) {
	for _, a := range []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, time.Second, 40950 * time.Millisecond} {
		if rest := restLimit(a); rest*3/2 > sleepLimit(a) || rest*3 > Lease(a) {
			t.Errorf("advertise %v: rests %v, oversleeps after %v, lease %v", a, rest, sleepLimit(a), Lease(a))
		}
	}
}

// inbox are adverts in a socket.
type inbox struct {
	Adverts
	until time.Time // unread
}

func (i inbox) Unread() bool { return time.Now().Before(i.until) }

// TestUnreadAdvertsComeFirst: the timer of a lost master has run out, but an
// advert was received that the busy machine did not hand over yet.
func TestUnreadAdvertsComeFirst(t *testing.T) {
	for _, c := range []struct {
		name                 string
		unread, posted, want time.Duration // after the timer; 0: never
		taken                bool
	}{
		{"nothing waits", 0, 0, 0, false},
		{"handed over 20 ms late", 20 * time.Millisecond, 19500 * time.Microsecond, 19500 * time.Microsecond, true},
		{"a flood of something else", time.Second, 0, 51 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, err := simFile("r2", "nodes=r1,r2")
				if err != nil {
					t.Fatal(err)
				}
				due := time.Now()
				l := NewLoop(cfg, Ports{Adverts: inbox{until: due.Add(c.unread)}, Record: func(Record) {}, Guard: func(Guard) {}, Probe: func(Source) {}}, slog.New(slog.DiscardHandler))
				l.machine = NewMachine(cfg, due)
				l.workers.plans = make(chan ApplyPlan, 1)
				if c.posted > 0 {
					time.AfterFunc(c.posted, func() {
						l.Post(Advert{Source: addr("192.0.2.1"), Advert: vrrp.Advert{VRID: 51, Priority: 200, Interval: 10 * time.Millisecond}})
					})
				}
				l.tick(due)
				if took := time.Since(due); took != c.want {
					t.Errorf("decided after %v, want %v", took, c.want)
				}
				if taken := l.machine.peers["r1"].heard.After(due); taken != c.taken {
					t.Errorf("advert heard: %v", taken)
				}
			})
		})
	}
}
