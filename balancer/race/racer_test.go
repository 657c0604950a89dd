package race

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

// lab is a kernel and an internet for a racer.
type lab struct {
	sets   []balancer.RaceSet
	wanted []balancer.Wanted
	delays map[string]time.Duration // by uplink; 0: nobody answers
	asked  int
	places []balancer.Place
	backup bool
	mu     sync.Mutex
	ran    map[string]int
}

func (n *lab) racer() *Racer {
	n.ran = map[string]int{}
	r := New(Config{
		Marks:  map[string]uint32{"cable": 1, "dsl": 2, "lte": 3},
		Wanted: func() ([]balancer.RaceSet, []balancer.Wanted, error) { n.asked++; return n.sets, n.wanted, nil },
		Won:    func(p []balancer.Place) error { n.places = append(n.places, p...); n.wanted = nil; return nil },
		Races:  func() ([]balancer.RaceSet, bool) { return n.sets, !n.backup },
		Mask:   0xff,
		Log:    slog.New(slog.DiscardHandler),
	})
	r.run = func(ctx context.Context, l lane, _ netip.AddrPort) error {
		n.mu.Lock()
		n.ran[l.uplink]++
		n.mu.Unlock()
		d := n.delays[l.uplink]
		if d == 0 {
			<-ctx.Done()
			return ctx.Err()
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return errors.New("too late")
		}
	}
	return r
}

func TestRacer(t *testing.T) {
	to := balancer.Wanted{Policy: "default", To: netip.MustParseAddrPort("198.51.100.1:443")}
	for name, c := range map[string]struct {
		delays map[string]time.Duration
		winner string
		within time.Duration
	}{
		"the quicker one":     {map[string]time.Duration{"cable": 60 * time.Millisecond, "dsl": 5 * time.Millisecond}, "dsl", 600 * time.Millisecond},
		"the only one":        {map[string]time.Duration{"cable": 900 * time.Millisecond}, "cable", 1600 * time.Millisecond},
		"too slow, all":       {map[string]time.Duration{"cable": 1100 * time.Millisecond}, "", 5 * time.Second},
		"one without address": {map[string]time.Duration{"lte": time.Millisecond, "dsl": 20 * time.Millisecond}, "dsl", 600 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &lab{sets: []balancer.RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl", "lte"}, Lasts: time.Minute}}, wanted: []balancer.Wanted{to}, delays: c.delays}
				r := n.racer()
				r.Source("cable", netip.MustParseAddr("203.0.113.10"))
				r.Source("dsl", netip.MustParseAddr("203.0.113.140"))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.Run(ctx) }()
				time.Sleep(c.within)
				synctest.Wait()
				var want []balancer.Place
				if c.winner != "" {
					want = []balancer.Place{{Policy: "default", Uplink: c.winner, Destination: to.To.Addr(), Left: time.Minute}}
				}
				if d := cmp.Diff(want, n.places, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
					t.Errorf("places (-want +got):\n%s", d)
				}
				if d := cmp.Diff(map[string]int{"cable": 1, "dsl": 1}, n.ran); d != "" {
					t.Errorf("attempts (-want +got):\n%s", d)
				}
				asked := n.asked
				r.Configure(nil, 0)
				time.Sleep(time.Minute)
				synctest.Wait()
				if n.asked > asked+1 {
					t.Errorf("no policy wants it, and the kernel was asked %d times", n.asked-asked)
				}
				r.Configure(map[string]uint32{"cable": 1}, 0xff)
				time.Sleep(time.Second)
				synctest.Wait()
				if n.asked < asked+3 {
					t.Error("it does not go on")
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
