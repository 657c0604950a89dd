package probe

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

func missing(name string, timeout time.Duration) Uplink {
	return Uplink{Name: name, Device: "nosuchdevice", Interval: 10 * time.Millisecond, Timeout: timeout}
}

func TestSlowReceiver(t *testing.T) {
	t.Parallel()
	var slow, quick atomic.Int64
	release := make(chan struct{})
	p := New(Config{
		Uplinks: []Uplink{missing("slow", 80*time.Millisecond), missing("quick", 80*time.Millisecond)},
		Report: func(r balancer.Round) {
			if r.Uplink == "quick" {
				quick.Add(1)
				return
			}
			<-release
			slow.Add(1)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	until("the other uplink", func() bool { return quick.Load() >= 60 })
	began := time.Now()
	close(release)
	// One in the receiver, 12 and those that may overlap (8) in the queue.
	until("the queue", func() bool { return slow.Load() >= 21 })
	if took := time.Since(began); took > 60*time.Millisecond {
		t.Errorf("the queued rounds took %v", took)
	}
	until("the rhythm after it", func() bool { return slow.Load() >= 40 })
	if n := slow.Load(); n > quick.Load()-30 {
		t.Errorf("%d rounds taken, %d of the other: the queue is too long", n, quick.Load())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReceiverThatNeverReturns(t *testing.T) {
	t.Parallel()
	called, release := make(chan struct{}, 1), make(chan struct{})
	defer close(release)
	p := New(Config{
		Uplinks: []Uplink{missing("stuck", time.Second)},
		Report: func(balancer.Round) {
			called <- struct{}{}
			<-release
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-called
	cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "stop probing stuck") {
			t.Errorf("error %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not return")
	}
}

func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what is forgotten
	// 127.0.0.2 answers, 127.0.0.3 never does.
	netlab.Sh(t, `ip link set lo up
		nft add table inet t; nft "add chain inet t in { type filter hook input priority 0; }"
		nft add rule inet t in ip daddr 127.0.0.3 drop`)
	descriptors := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	// One that takes connections, and says nothing.
	silent, err := net.Listen("tcp4", "127.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ts := targets("127.0.0.2", "127.0.0.3")
	for m := TCP; m <= HTTP; m++ {
		ts = append(ts, Target{Address: ts[1].Address, Method: m})
	}
	for _, url := range []string{"", "https://a:80/"} {
		ts = append(ts, Target{Address: ts[0].Address, Method: HTTP, URL: url})
	}
	ts = append(ts, Target{Address: ts[0].Address, Method: TCP, Port: 80})
	var n atomic.Int64
	p := New(Config{
		Uplinks: []Uplink{{
			Name: "lo", Device: "lo", Targets: ts, Quorum: len(ts),
			Interval: 5 * time.Millisecond, Timeout: 20 * time.Millisecond,
		}},
		Report: func(r balancer.Round) {
			if r.Good {
				t.Errorf("a dead target answered: %+v", r)
			}
			n.Add(1)
		},
	})
	p.Source("lo", netip.MustParseAddr("127.0.0.1"))
	round := func(upTo int64) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		for end := time.Now().Add(5 * time.Second); n.Load() < upTo && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
			// 2 pings of 5 goroutines for at most 120 ms each, 6 others of 3 for 20 ms.
			if g := runtime.NumGoroutine(); g > 400 {
				t.Fatalf("%d goroutines", g)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	round(10) // the runtime opens some of its own
	goroutines, fds := runtime.NumGoroutine(), descriptors()
	round(150)
	if n.Load() < 150 {
		t.Errorf("%d rounds", n.Load())
	}
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > goroutines || descriptors() > fds; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("goroutines %d, were %d; descriptors %d, were %d", runtime.NumGoroutine(), goroutines, descriptors(), fds)
		}
	}
}
