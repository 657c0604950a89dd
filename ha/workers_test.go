package ha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// edges write down what the workers ask of them, in order.
type edges struct {
	mu   sync.Mutex
	did  []string
	take time.Duration // how long Take lasts; flush the same for Flush
	hang time.Duration

	forwarded func() (uint64, error)
}

func (e *edges) note(format string, a ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.did = append(e.did, fmt.Sprintf(format, a...))
}

func (e *edges) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (e *edges) Take(ctx context.Context, term uint64) error {
	err := e.wait(ctx, e.take)
	e.note("take %d: %v", term, err)
	return err
}

func (e *edges) Yield(term uint64) { e.note("yield %d", term) }

func (e *edges) Flush(ctx context.Context, node string) error { return e.wait(ctx, e.hang) }

func (e *edges) Add(context.Context) error    { e.note("add"); return nil }
func (e *edges) Remove(context.Context) error { e.note("remove"); return nil }
func (e *edges) Announce()                    { e.note("announce") }

// work performs actions, then lets d pass, and returns what they did and told by then.
func work(t *testing.T, e *edges, d time.Duration, actions ...Action) (did []string, events []Event) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	l := NewLoop(Config{}, Ports{Addresses: e, Flows: e, Forwarded: e.forwarded}, slog.New(slog.DiscardHandler))
	l.workers.start(ctx, &wg, l)
	for _, a := range actions {
		l.perform(a)
		synctest.Wait() // so that what can begin has begun
	}
	time.Sleep(d)
	synctest.Wait()
	for len(l.own) > 0 {
		events = append(events, <-l.own)
	}
	did = slices.Clone(e.did)
	cancel()
	wg.Wait()
	return did, events
}

func TestWorkersTakeFlowsFirst(t *testing.T) {
	for _, c := range []struct {
		name    string
		take    time.Duration
		actions []Action
		within  time.Duration
		want    []string
	}{
		{"flows, then addresses", 900 * time.Millisecond, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}}, time.Second, []string{"take 7: <nil>", "add"}},
		{"not yet", 900 * time.Millisecond, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}}, 800 * time.Millisecond, nil},
		{"they take too long", time.Hour, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}}, takeLimit, []string{"take 7: context deadline exceeded", "add"}},
		{
			"another is master meanwhile", time.Hour,
			[]Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}, RemoveAddresses{Seq: 2}, YieldFlows{Term: 8}}, 0,
			[]string{"take 7: context canceled", "remove", "yield 8"},
		},
		{
			"and not for long", 10 * time.Millisecond,
			[]Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}, RemoveAddresses{Seq: 2}, YieldFlows{Term: 8}, TakeFlows{Term: 9}, AddAddresses{Seq: 3}}, time.Second,
			[]string{"take 7: context canceled", "remove", "yield 8", "take 9: <nil>", "add"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &edges{take: c.take}
				did, events := work(t, e, c.within, c.actions...)
				if diff := cmp.Diff(c.want, did); diff != "" {
					t.Error(diff)
				}
				steps := 0
				for _, a := range c.actions {
					switch a.(type) {
					case AddAddresses, RemoveAddresses:
						steps++
					}
				}
				if c.want != nil && len(events) != steps {
					t.Errorf("%d steps, answered: %v", steps, events)
				}
			})
		})
	}
}

func TestWorkersFlush(t *testing.T) {
	for _, c := range []struct {
		name   string
		hang   time.Duration
		within time.Duration
		want   []Event
	}{
		{"done", time.Millisecond, time.Millisecond, []Event{Flushed{ID: 5}}},
		{"hangs", time.Hour, flushLimit, []Event{Flushed{ID: 5, Err: context.DeadlineExceeded}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &edges{hang: c.hang}
				_, got := work(t, e, c.within, FlushFlows{ID: 5, To: "r2"})
				if diff := cmp.Diff(c.want, got, cmp.Comparer(errors.Is)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestWorkersWatch: each look at which packets had gone through is told, for as
// long as it was asked for.
func TestWorkersWatch(t *testing.T) {
	for _, c := range []struct {
		name    string
		passes  int // looks at which there were more
		failsAt int
		want    int
	}{
		{"nothing comes", 0, 0, 0},
		{"for a while", 3, 0, 3},
		{"for ever", 1000, 0, 10},
		{"cannot be told any more", 1000, 4, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, looks := &edges{}, 0
				e.forwarded = func() (uint64, error) {
					if looks++; looks == c.failsAt {
						return 0, errors.New("no counter")
					}
					return uint64(min(looks, c.passes+1)), nil
				}
				_, got := work(t, e, 5*time.Second, WatchForwarding{For: 1050 * time.Millisecond})
				if len(got) != c.want {
					t.Errorf("told %d times, want %d", len(got), c.want)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // it cannot be told at all
		if _, got := work(t, &edges{}, 5*time.Second, WatchForwarding{For: time.Second}); len(got) > 0 {
			t.Errorf("told %v", got)
		}
	})
}

// TestNoReplication: without a port for flows nothing waits for them.
func TestNoReplication(t *testing.T) {
	for _, c := range []struct {
		name  string
		ports Ports
		want  bool
	}{{"with a port", Ports{Flows: &edges{}}, true}, {"without", Ports{}, false}} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLoop(Config{Sync: true}, c.ports, slog.New(slog.DiscardHandler))
			if got := l.replicates(l.cfg).Sync; got != c.want {
				t.Errorf("replicates flows: %v", got)
			}
		})
	}
}
