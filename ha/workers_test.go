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
func work(t *testing.T, e *edges, flows Flows, d time.Duration, actions ...Action) (did []string, events []Event) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	l := NewLoop(Config{}, Ports{Addresses: e, Flows: flows}, slog.New(slog.DiscardHandler))
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
		without bool
		actions []Action
		within  time.Duration
		want    []string
	}{
		{"flows, then addresses", 900 * time.Millisecond, false, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}}, time.Second, []string{"take 7: <nil>", "add"}},
		{"not yet", 900 * time.Millisecond, false, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}}, 800 * time.Millisecond, nil},
		{"they take too long", time.Hour, false, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}}, takeLimit, []string{"take 7: context deadline exceeded", "add"}},
		{
			"another is master meanwhile", time.Hour, false,
			[]Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}, RemoveAddresses{Seq: 2}, YieldFlows{Term: 8}}, 0,
			[]string{"take 7: context canceled", "remove", "yield 8"},
		},
		{
			"and not for long", 10 * time.Millisecond, false,
			[]Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}, RemoveAddresses{Seq: 2}, YieldFlows{Term: 8}, TakeFlows{Term: 9}, AddAddresses{Seq: 3}}, time.Second,
			[]string{"take 7: context canceled", "remove", "yield 8", "take 9: <nil>", "add"},
		},
		{"no replication", 0, true, []Action{TakeFlows{Term: 7}, AddAddresses{Seq: 1}, RemoveAddresses{Seq: 2}, YieldFlows{Term: 8}}, 0, []string{"add", "remove"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &edges{take: c.take}
				var flows Flows = e
				if c.without {
					flows = nil
				}
				did, events := work(t, e, flows, c.within, c.actions...)
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
		name    string
		hang    time.Duration
		without bool
		within  time.Duration
		want    []Event
	}{
		{"done", time.Millisecond, false, time.Millisecond, []Event{Flushed{ID: 5}}},
		{"hangs", time.Hour, false, flushLimit, []Event{Flushed{ID: 5, Err: context.DeadlineExceeded}}},
		{"no replication", 0, true, 0, []Event{Flushed{ID: 5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &edges{hang: c.hang}
				var flows Flows = e
				if c.without {
					flows = nil
				}
				_, got := work(t, e, flows, c.within, FlushFlows{ID: 5, To: "r2"})
				if diff := cmp.Diff(c.want, got, cmp.Comparer(errors.Is)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
