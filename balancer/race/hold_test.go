package race

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

// lobby is a queue of a kernel that a test fills.
type lobby struct {
	t      *testing.T
	came   chan []balancer.Held
	broken chan struct{}
	began  time.Time

	mu     sync.Mutex
	went   []gone
	closed bool
}

// gone is how a packet went, and when.
type gone struct {
	ID      uint32
	Mark    uint32
	Verdict uint32
	After   time.Duration
}

func (l *lobby) receive() ([]balancer.Held, error) {
	select {
	case p := <-l.came:
		return p, nil
	case <-l.broken:
		return nil, errors.New("closed")
	}
}

func (l *lobby) decide(p balancer.Held, verdict uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.t.Errorf("%+v goes when all is closed", p)
	}
	l.went = append(l.went, gone{p.ID, p.Mark, verdict, time.Since(l.began)})
	return nil
}

func (l *lobby) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.broken)
	}
	return nil
}

func TestFirstPacketsWait(t *testing.T) {
	const ms = time.Millisecond
	const mark, cable, dsl = 0xab01, 0xab01, 0xab02 // what it comes with, by the weights
	at := func(id uint32, from, to string) balancer.Held {
		return balancer.Held{Queue: 7000, ID: id, Mark: mark, From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to)}
	}
	const web, mail, host, other = "198.51.100.1:443", "198.51.100.1:25", "192.168.77.10:1000", "192.168.77.10:1001"
	type arrival struct {
		after time.Duration
		held  balancer.Held
	}
	for name, c := range map[string]struct {
		delays   map[string]time.Duration
		arrivals []arrival
		backup   bool
		stop     time.Duration // the policy goes, or the node
		want     []gone
		attempts map[string]int
	}{
		"the quicker one gets it": {
			map[string]time.Duration{"cable": 60 * ms, "dsl": 5 * ms},
			[]arrival{{0, at(1, host, web)}}, false, 0,
			[]gone{{1, dsl, verdictAccept, 5 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
		"all that wait for it": {
			map[string]time.Duration{"cable": 10 * ms, "dsl": 50 * ms},
			[]arrival{{0, at(1, host, web)}, {8 * ms, at(2, other, web)}}, false, 0,
			[]gone{{1, cable, verdictAccept, 10 * ms}, {2, cable, verdictAccept, 10 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
		"who comes later waits no more": {
			map[string]time.Duration{"cable": 50 * ms, "dsl": 10 * ms},
			[]arrival{{0, at(1, host, web)}, {20 * ms, at(2, other, web)}, {30 * ms, at(3, host, mail)}}, false, 0,
			[]gone{{1, dsl, verdictAccept, 10 * ms}, {2, dsl, verdictAccept, 20 * ms}, {3, dsl, verdictAccept, 30 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
		"the same packet again": {
			map[string]time.Duration{"cable": 50 * ms, "dsl": 100 * ms},
			[]arrival{{0, at(1, host, web)}, {20 * ms, at(2, host, web)}}, false, 0,
			[]gone{{2, mark, verdictDrop, 20 * ms}, {1, cable, verdictAccept, 50 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
		"nobody answers": {
			nil, []arrival{{0, at(1, host, web)}, {200 * ms, at(2, other, web)}, {1500 * ms, at(3, other, web)}}, false, 0,
			[]gone{{1, mark, verdictAccept, 300 * ms}, {2, mark, verdictAccept, 300 * ms}, {3, mark, verdictAccept, 1500 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
		"too late, but it is remembered": {
			map[string]time.Duration{"dsl": 600 * ms}, []arrival{{0, at(1, host, web)}, {700 * ms, at(2, other, web)}}, false, 0,
			[]gone{{1, mark, verdictAccept, 300 * ms}, {2, dsl, verdictAccept, 700 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
		"at home": {
			nil, []arrival{{0, at(1, host, "10.1.2.3:80")}}, false, 0, []gone{{1, mark, verdictAccept, 0}}, map[string]int{},
		},
		"on a backup": {
			nil, []arrival{{0, at(1, host, web)}}, true, 0, []gone{{1, mark, verdictAccept, 0}}, map[string]int{},
		},
		"the node stops": {
			nil, []arrival{{0, at(1, host, web)}}, false, 100 * ms, []gone{{1, mark, verdictAccept, 100 * ms}}, map[string]int{"cable": 1, "dsl": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &lab{sets: []balancer.RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: time.Minute, Queue: 7000}}, delays: c.delays, backup: c.backup}
				l := &lobby{t: t, came: make(chan []balancer.Held), broken: make(chan struct{})}
				r := n.racer()
				r.open = func(num uint16) (room, error) { return l, nil }
				r.Source("cable", netip.MustParseAddr("203.0.113.10"))
				r.Source("dsl", netip.MustParseAddr("203.0.113.140"))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.Run(ctx) }()
				time.Sleep(every) // the queue is open
				synctest.Wait()
				l.began = time.Now()
				for _, a := range c.arrivals {
					time.Sleep(a.after - time.Since(l.began))
					l.came <- []balancer.Held{a.held}
				}
				if c.stop == 0 {
					time.Sleep(5 * time.Second)
				} else {
					time.Sleep(c.stop)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				slices.SortStableFunc(l.went, func(a, b gone) int {
					if a.After != b.After {
						return int(a.After - b.After)
					}
					return int(a.ID) - int(b.ID)
				})
				if d := cmp.Diff(c.want, l.went); d != "" {
					t.Errorf("went (-want +got):\n%s", d)
				}
				if d := cmp.Diff(c.attempts, n.ran); d != "" {
					t.Errorf("attempts (-want +got):\n%s", d)
				}
				if !l.closed {
					t.Error("the queue is left open")
				}
			})
		})
	}
}

// TestHeldWinnerIsToldAtOnce: the kernel knows before the next tick.
func TestHeldWinnerIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &lab{sets: []balancer.RaceSet{{Policy: "default", Uplinks: []string{"cable", "dsl"}, Lasts: time.Minute, Queue: 7000}}, delays: map[string]time.Duration{"dsl": 5 * time.Millisecond}}
		l := &lobby{t: t, came: make(chan []balancer.Held), broken: make(chan struct{}), began: time.Now()}
		r := n.racer()
		var opened atomic.Int32
		r.open = func(uint16) (room, error) {
			if opened.Add(1) == 1 {
				return nil, errors.New("another program has it")
			}
			return l, nil
		}
		r.Source("cable", netip.MustParseAddr("203.0.113.10"))
		r.Source("dsl", netip.MustParseAddr("203.0.113.140"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(every)
		synctest.Wait()
		if opened.Load() != 1 {
			t.Errorf("opened %d times", opened.Load())
		}
		time.Sleep(openAgain + every)
		synctest.Wait()
		if opened.Load() != 2 {
			t.Errorf("opened %d times after a while", opened.Load())
		}
		to := netip.MustParseAddrPort("198.51.100.1:443")
		l.came <- []balancer.Held{{Queue: 7000, ID: 1, From: netip.MustParseAddrPort("192.168.77.10:1000"), To: to}}
		time.Sleep(6 * time.Millisecond)
		synctest.Wait()
		want := []balancer.Place{{Policy: "default", Uplink: "dsl", Destination: to.Addr(), Left: time.Minute}}
		if d := cmp.Diff(want, n.places, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("places (-want +got):\n%s", d)
		}
		r.Configure(nil, 0)
		synctest.Wait()
		if !l.closed {
			t.Error("no policy races any more, and the queue is left open")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
