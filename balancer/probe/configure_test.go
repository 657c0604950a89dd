package probe

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestConfigure: one uplink goes on undisturbed while others come, change and go.
func TestConfigure(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	i := newISP(t)
	i.attach(t, "wan1")
	route(t)
	named := func(name string, addrs ...string) Uplink {
		u := wan1(1, addrs...)
		u.Name = name
		return u
	}
	kept := named("kept", "198.51.100.1")
	var mu sync.Mutex
	seen := map[string][]balancer.Round{}
	inside := map[string]int{}
	p := New(Config{Uplinks: []Uplink{kept, named("cable", "198.51.100.1"), named("gone", "198.51.100.1")}, Report: func(r balancer.Round) {
		mu.Lock()
		defer mu.Unlock()
		if inside[r.Uplink]++; inside[r.Uplink] > 1 {
			t.Errorf("%s: two reports at once", r.Uplink)
		}
		mu.Unlock()
		time.Sleep(time.Millisecond) // a receiver that takes its time
		mu.Lock()
		inside[r.Uplink]--
		seen[r.Uplink] = append(seen[r.Uplink], r)
	}})
	rounds := func(name string) []balancer.Round {
		mu.Lock()
		defer mu.Unlock()
		return append([]balancer.Round(nil), seen[name]...)
	}
	until := func(what, name string, ok func([]balancer.Round) bool) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); !ok(rounds(name)); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for %s: %+v", what, rounds(name))
			}
		}
	}
	more := func(what, name string, ok func(balancer.Round) bool) {
		t.Helper()
		from := len(rounds(name))
		until(what, name, func(b []balancer.Round) bool { return len(b) > from+3 && ok(b[len(b)-1]) })
	}
	good := func(r balancer.Round) bool { return r.Good && !r.OnlyARP && r.RTT > 0 }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for _, name := range []string{"kept", "cable", "gone"} {
		p.Source(name, netip.MustParseAddr(own))
		more("good rounds of "+name, name, good)
	}

	p.mu.Lock()
	same := p.uplinks["kept"]
	p.mu.Unlock()
	nobody := named("cable", "192.0.2.77") // its source is kept, so it pings
	nobody.Gateway = netip.Addr{}          // and so is its gateway
	p.Configure([]Uplink{kept, nobody, named("new", "198.51.100.2")})
	time.Sleep(20 * time.Millisecond) // for the report that may be under way
	gone := len(rounds("gone"))
	more("other targets", "cable", func(r balancer.Round) bool {
		return !r.Good && !r.OnlyARP && strings.Contains(r.Reason, "192.0.2.77")
	})
	more("a new one without source", "new", func(r balancer.Round) bool { return r.Good && r.OnlyARP })
	p.Source("new", netip.MustParseAddr(own))
	more("a new one", "new", good)
	arp := named("cable") // no targets: the gateway is asked
	arp.Gateway = netip.Addr{}
	p.Configure([]Uplink{arp, kept, named("new", "198.51.100.2")})
	more("the gateway it knew", "cable", func(r balancer.Round) bool { return r.Good })
	arp.Gateway = netip.MustParseAddr("203.0.113.2")
	p.Configure([]Uplink{arp, kept, named("new", "198.51.100.2")})
	more("another gateway", "cable", func(r balancer.Round) bool {
		return !r.Good && strings.Contains(r.Reason, "203.0.113.2")
	})
	p.mu.Lock()
	if p.uplinks["kept"] != same {
		t.Error("the uplink that was kept is another one")
	}
	p.mu.Unlock()
	if n := len(rounds("gone")); n != gone {
		t.Errorf("%d rounds of an uplink that is gone", n-gone)
	}
	for i, r := range rounds("kept")[1:] {
		if i > 3 && !good(r) {
			t.Errorf("kept, round %d: %+v", i, r)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	p.Configure([]Uplink{kept}) // after Run: nothing begins
	n := len(rounds("kept"))
	time.Sleep(100 * time.Millisecond)
	if len(rounds("kept")) != n {
		t.Error("rounds after Run")
	}
}

// TestConfigureBehindASlowReceiver: the new rounds wait until the last Report
// of the old ones has returned.
func TestConfigureBehindASlowReceiver(t *testing.T) {
	t.Parallel()
	called, release := make(chan string, 100), make(chan struct{})
	p := New(Config{
		Uplinks: []Uplink{missing("x", time.Second)},
		Report: func(r balancer.Round) {
			called <- r.Reason
			<-release
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-called
	for _, d := range []string{"second", "third"} {
		u := missing("x", time.Second)
		u.Device = d
		p.Configure([]Uplink{u})
	}
	select {
	case r := <-called:
		t.Errorf("reported at the same time: %s", r)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	if r := <-called; !strings.HasPrefix(r, "third ") {
		t.Errorf("the round after it: %s", r)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
