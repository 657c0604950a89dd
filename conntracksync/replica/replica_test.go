package replica

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/conntracksync"
)

// started is a pair in a session whose r1 is master.
func started(t *testing.T) (a, b *node, meet func() func(), part func()) {
	a, b, meet = pairOf(t)
	close(a.ready)
	close(b.ready)
	part = meet()
	must(t, a.Take(within(t, time.Second), 1))
	settle()
	return a, b, meet, part
}

// TestReplicates: what begins and ends on the master does so on the other.
func TestReplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		defer part()
		a.kernel.begin(flow(1), flow(2), flow(3))
		settle()
		wantFlows(t, b, 1, 2, 3)
		a.kernel.end(flow(2))
		settle()
		wantFlows(t, b, 1, 3)
		if diff := cmp.Diff("synced", b.states[len(b.states)-1]); diff != "" {
			t.Error(diff)
		}
		s, err := a.Status(t.Context())
		must(t, err)
		lag := time.Millisecond
		want := Status{Dropped: map[string]uint64{}, Peers: []Peer{{Node: "r2", State: conntracksync.Synced, Lag: &lag, Here: 2, There: 2}}}
		if diff := cmp.Diff(want, s); diff != "" {
			t.Error(diff)
		}
	})
}

// TestHeldBack: nothing is installed before NAT is set up, and nothing is lost
// by that.
func TestHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, meet := pairOf(t)
		close(a.ready)
		part := meet()
		defer part()
		must(t, a.Take(within(t, time.Second), 1))
		a.kernel.begin(flow(1))
		settle()
		wantFlows(t, b)
		if b.kernel.opens != 0 {
			t.Error("the table was opened too early")
		}
		close(b.ready)
		settle()
		wantFlows(t, b, 1)
	})
}

// TestTake: when Take returns, all that came is in the kernel, and the flows
// are this node's: their ends are told by it.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, meet, part := started(t)
		b.kernel.mu.Lock()
		b.kernel.delay = 10 * time.Millisecond
		b.kernel.mu.Unlock()
		var all []conntracksync.Flow
		for p := range uint16(20) {
			all = append(all, flow(p+1))
		}
		a.kernel.begin(all...)
		synctest.Wait()
		must(t, b.Take(within(t, time.Second), 2))
		if n := len(b.kernel.has()); n != 20 {
			t.Errorf("after Take %d of 20 flows are in the kernel", n)
		}
		part()
		b.kernel.end(flow(1))
		a.Yield(2)
		part = meet()
		defer part()
		settle()
		wantFlows(t, a, slices.Sorted(slices.Values(b.kernel.has()))...)
		if n := len(a.kernel.has()); n != 19 {
			t.Errorf("the former master has %d flows, want 19", n)
		}
	})
}

// TestOrder: what is said of the role counts in the order in which it was.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		defer part()
		b.Yield(1)
		must(t, b.Take(within(t, time.Second), 2))
		a.Yield(2)
		b.kernel.begin(flow(1))
		settle()
		wantFlows(t, a, 1)
		s, err := a.Status(t.Context())
		must(t, err)
		if s.Peers[0].There != 1 {
			t.Errorf("r2 is not known as the owner: %+v", s.Peers[0])
		}
	})
}

// TestFlush: it waits for what is young, and says so where there is nobody.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		time.Sleep(hurryFor) // since r1 became master
		young := flow(1)
		young.Status, young.TCP.State = conntracksync.Confirmed, conntracksync.SYNSent
		a.kernel.begin(young)
		synctest.Wait()
		wantFlows(t, b)
		must(t, a.Flush(within(t, time.Second), "r2"))
		synctest.Wait()
		wantFlows(t, b, 1)
		part()
		settle()
		if err := a.Flush(within(t, time.Second), "r2"); !errors.Is(err, errNoSession) {
			t.Errorf("without a session: %v", err)
		}
	})
}

// TestHurry: while the role moves nothing waits for a window, on either side: a
// packet of the same connection may come to the other node next.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		defer part()
		young := func(n uint16) conntracksync.Flow {
			f := flow(n)
			f.Status, f.TCP.State = conntracksync.Confirmed, conntracksync.SYNSent
			return f
		}
		soon := func(n *node, want ...uint16) {
			t.Helper()
			time.Sleep(5 * time.Millisecond) // for the way
			synctest.Wait()
			wantFlows(t, n, want...)
		}
		must(t, a.Flush(within(t, time.Second), "r2"))
		a.kernel.begin(young(1))
		soon(b, 1)
		must(t, b.Take(within(t, time.Second), 2))
		a.kernel.begin(young(2)) // before it knows
		soon(b, 1, 2)
		b.kernel.begin(young(3))
		soon(a, 1, 2, 3)
		a.Yield(2)
		a.kernel.begin(young(4)) // it still forwards what comes
		soon(b, 1, 2, 3, 4)
		b.kernel.begin(young(5))
		soon(a, 1, 2, 3, 4, 5)
		time.Sleep(hurryFor)
		a.kernel.begin(young(6))
		b.kernel.begin(young(7))
		soon(a, 1, 2, 3, 4, 5, 6)
		settle()
		wantFlows(t, a, 1, 2, 3, 4, 5, 6, 7)
		wantFlows(t, b, 1, 2, 3, 4, 5, 6, 7)
	})
}

// TestSessionLineDies: the flows of a master that is heard otherwise stay for as
// long as it is, and 10 minutes more (DESIGN.md §5 row 13).
func TestSessionLineDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, meet, part := started(t)
		a.kernel.begin(flow(1), flow(2))
		settle()
		part()
		time.Sleep(47 * time.Minute)
		synctest.Wait()
		wantFlows(t, b, 1, 2)
		a.kernel.end(flow(1)) // while nobody hears it
		part = meet()
		settle()
		wantFlows(t, b, 2)
		part()
		time.Sleep(25 * time.Minute)
		b.mu.Lock()
		b.heard = time.Now()
		b.mu.Unlock()
		time.Sleep(9*time.Minute + 59*time.Second)
		synctest.Wait()
		wantFlows(t, b, 2)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantFlows(t, b)
	})
}

// TestResize: flows for which there was no room come when there is.
func TestResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, meet, part := started(t)
		a.mu.Lock()
		if a.limit != 1000 {
			t.Errorf("r2 can hold %d flows as far as r1 knows", a.limit)
		}
		a.mu.Unlock()
		b.Resize(3)
		var ports []uint16
		for p := range uint16(5) {
			a.kernel.begin(flow(p + 1))
			ports = append(ports, p+1)
			settle()
		}
		if n := len(b.kernel.has()); n != 3 {
			t.Errorf("r2 has %d flows, it can hold 3", n)
		}
		b.Resize(2) // nobody is thrown out
		settle()
		if n := len(b.kernel.has()); n != 3 {
			t.Errorf("r2 has %d flows, 3 were there", n)
		}
		b.Resize(100)
		b.Resize(200) // not once more
		settle()
		b.mu.Lock()
		if b.starts != 1 {
			t.Errorf("the session began anew %d times", b.starts)
		}
		b.mu.Unlock()
		part()
		part = meet()
		defer part()
		settle()
		wantFlows(t, b, ports...)
		a.mu.Lock()
		if a.limit != 200 {
			t.Errorf("r2 can hold %d flows as far as r1 knows", a.limit)
		}
		a.mu.Unlock()
	})
}

// TestNewFlowsDoNotWait: a former master writes what the new one claims, which
// takes a while, and what begins on it meanwhile is told at once.
func TestNewFlowsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		defer part()
		var all []conntracksync.Flow
		for p := range uint16(7 * conntracksync.Batch) {
			all = append(all, flow(p+1))
		}
		a.kernel.begin(all...)
		settle()
		must(t, a.Flush(within(t, time.Second), "r2"))
		a.kernel.mu.Lock()
		a.kernel.delay = 10 * time.Millisecond // for each batch
		a.kernel.mu.Unlock()
		must(t, b.Take(within(t, time.Second), 2))
		time.Sleep(15 * time.Millisecond) // r1 is at it
		late := flow(60000)
		late.Status, late.TCP.State = conntracksync.Confirmed, conntracksync.SYNSent
		a.kernel.begin(late)
		time.Sleep(25 * time.Millisecond)
		if got := b.kernel.has(); !slices.Contains(got, 60000) {
			t.Error("r2 does not have it yet")
		}
		a.kernel.mu.Lock()
		if n := len(a.kernel.done); n == 0 || n >= len(all) {
			t.Errorf("r1 has written %d flows of %d: the test shows nothing", n, len(all))
		}
		a.kernel.mu.Unlock()
	})
}

// TestStartsOver: after an overflow or garbage the session begins anew, and all
// is there.
func TestStartsOver(t *testing.T) {
	for name, spoil := range map[string]func(a, b *node){
		"overflow": func(a, b *node) { a.Overflow("r2") },
		"garbage":  func(a, b *node) { a.Frame("r2", []byte{255, 1, 2}, false) },
		"version":  func(a, b *node) { a.Frame("r2", []byte{1, conntracksync.Version + 1, 1, 2}, false) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, meet, part := started(t)
				spoil(a, b)
				a.kernel.begin(flow(1))
				settle()
				wantFlows(t, b)
				if a.starts != 1 {
					t.Errorf("%d sessions were restarted", a.starts)
				}
				part()
				part = meet()
				defer part()
				settle()
				wantFlows(t, b, 1)
				s, err := a.Status(t.Context())
				must(t, err)
				if diff := cmp.Diff(map[string]uint64{name: 1}, s.Peers[0].Dropped); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestOverrun: lost events are made up for by a reading of the table.
func TestOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		defer part()
		a.kernel.begin(flow(1), flow(2))
		settle()
		a.kernel.mu.Lock()
		delete(a.kernel.flows, conntracksync.KeyOf(flow(1).Original, 0))
		a.kernel.flows[conntracksync.KeyOf(flow(3).Original, 0)] = flow(3)
		a.kernel.mu.Unlock()
		a.kernel.news <- func() { a.kernel.hear.Overrun() }
		settle()
		wantFlows(t, b, 2, 3)
	})
}

// TestKernelFails: a table that cannot be opened or heard is tried again.
func TestKernelFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, meet := pairOf(t)
		a.kernel.fails = errTest
		close(a.ready)
		close(b.ready)
		part := meet()
		defer part()
		must(t, a.Take(within(t, time.Second), 1))
		time.Sleep(2 * openAgain)
		a.kernel.begin(flow(1))
		settle()
		wantFlows(t, b, 1)
		a.kernel.broke <- errTest
		synctest.Wait()
		a.kernel.mu.Lock()
		a.kernel.flows[conntracksync.KeyOf(flow(2).Original, 0)] = flow(2)
		a.kernel.mu.Unlock()
		time.Sleep(2 * openAgain)
		settle()
		wantFlows(t, b, 1, 2)
		if a.kernel.opens != 2 {
			t.Errorf("opened %d times", a.kernel.opens)
		}
	})
}

// TestConfigure: what is ignored is not told; off is off.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, _, part := started(t)
		defer part()
		a.Configure(Settings{Enabled: true, Protocols: []conntracksync.Protocol{conntracksync.UDP}})
		synctest.Wait()
		a.kernel.begin(flow(1))
		settle()
		wantFlows(t, b)
		a.Configure(Settings{})
		s, err := a.Status(t.Context())
		must(t, err)
		if len(s.Peers) > 0 {
			t.Errorf("it is off and shows %v", s.Peers)
		}
		a.Configure(Settings{Enabled: true})
		settle()
		wantFlows(t, b, 1)
	})
}

// TestAdds: flows in which nothing happens are told as soon as they are to be.
func TestAdds(t *testing.T) {
	all := Settings{Enabled: true}
	for name, less := range map[string]Settings{
		"a protocol": {Enabled: true, Protocols: []conntracksync.Protocol{conntracksync.UDP}},
		"a network":  {Enabled: true, Ignore: []netip.Prefix{netip.MustParsePrefix("192.168.77.0/24")}},
		"an address": {Enabled: true, Local: []netip.Addr{flow(1).Original.Source}},
		"off":        {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b, meet, part := started(t)
				for _, n := range []*node{a, b} {
					n.Configure(less)
				}
				synctest.Wait()
				if !less.Enabled {
					go part()
				}
				settle()
				a.kernel.begin(flow(1))
				b.kernel.mu.Lock() // of a former time: the master knows better
				b.kernel.flows[conntracksync.KeyOf(flow(2).Original, 0)] = flow(2)
				b.kernel.mu.Unlock()
				settle()
				wantFlows(t, b, 2)
				for _, n := range []*node{a, b} {
					n.Configure(all)
				}
				settle()
				if !less.Enabled {
					for len(b.wire) > 0 { // sent without a session
						<-b.wire
					}
					part = meet()
				}
				defer func() { part() }()
				settle()
				wantFlows(t, b, 1, 2)
				wantFlows(t, a, 1)
			})
		})
	}
}

// TestEnded: after Run nobody waits.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{kernel: newTable(t)}
		r := New(Config{Node: "r1", Open: n.kernel.open, Sessions: n})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		must(t, r.Run(ctx))
		r.Up("r2")
		r.Frame("r2", nil, false)
		r.Yield(1)
		if err := r.Take(t.Context(), 1); !errors.Is(err, errEnded) {
			t.Error(err)
		}
		if err := r.Flush(t.Context(), "r2"); !errors.Is(err, errEnded) {
			t.Error(err)
		}
	})
}
