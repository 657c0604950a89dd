package vip

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

var (
	lanLines = []string{
		"reply: 192.168.77.1 at 02:00:00:00:00:01, for 192.168.77.1 at ff:ff:ff:ff:ff:ff",
		"request: 192.168.77.1 at 02:00:00:00:00:01, for 192.168.77.1 at 00:00:00:00:00:00",
	}
	wanLines = []string{
		"reply: 203.0.113.10 at 02:00:00:00:00:01, for 203.0.113.10 at ff:ff:ff:ff:ff:ff",
		"request: 203.0.113.10 at 02:00:00:00:00:01, for 203.0.113.1 at 00:00:00:00:00:00",
		"request: 203.0.113.10 at 02:00:00:00:00:01, for 203.0.113.10 at 00:00:00:00:00:00",
	}
)

// TestFirstBurst: all is on the wire when Add returns, without Run.
func TestFirstBurst(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	cable(t, "wan0")
	l, w := tap(t, "far-lan0"), tap(t, "far-wan0")
	k := newKeeper(t, Config{Addresses: []Address{lan, wan}, Timing: never})
	add(t, k)
	eventually(t, "all frames", func() bool { return l.count() >= 2 && w.count() >= 3 })
	if diff := cmp.Diff(lanLines, l.lines()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wanLines, w.lines()); diff != "" {
		t.Error(diff)
	}
	if l.count() != 2 || w.count() != 3 {
		t.Errorf("%d and %d frames, want 2 and 3", l.count(), w.count())
	}
}

func TestGoldenFrame(t *testing.T) {
	got, err := frames(net.HardwareAddr{2, 0, 0, 0, 0, 1}, lan)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
		0, 1, 0x08, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 168, 77, 1, 0, 0, 0, 0, 0, 0, 192, 168, 77, 1,
	}
	if diff := cmp.Diff(want, got[0][:len(want)]); diff != "" {
		t.Error(diff)
	}
}

func TestLaterBursts(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	w := tap(t, "far-lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: Timing{Bursts: []time.Duration{100 * ms, 200 * ms, 400 * ms}, Refresh: 300 * ms}})
	start(t, k)
	begin := time.Now()
	add(t, k)
	due := []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 700 * ms, 1000 * ms}
	eventually(t, "six bursts", func() bool { return w.count() >= 2*len(due) })
	w.mu.Lock()
	for i, d := range due {
		if got := w.at[2*i].Sub(begin); got < d || got > d+250*ms {
			t.Errorf("burst %d came after %v, want %v", i, got, d)
		}
	}
	w.mu.Unlock()

	k.Announce() // begins anew
	w.reset()
	begin = time.Now()
	eventually(t, "two bursts", func() bool { return w.count() >= 4 })
	if took := time.Since(begin); took > 290*ms {
		t.Errorf("the second burst came %v after Announce", took)
	}

	removeAll(t, k)
	k.Announce()
	w.reset()
	time.Sleep(350 * ms)
	if w.count() > 0 {
		t.Errorf("announced after Remove: %v", w.lines())
	}
}

// TestFencedIsNotAnnounced: the guard took an address away while we slept.
func TestFencedIsNotAnnounced(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	w := tap(t, "far-lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan, lan2}, Timing: Timing{Refresh: 20 * ms, Settle: time.Hour}})
	start(t, k)
	add(t, k)
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Remove([]Address{lan2}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * ms) // for what is on its way
	w.reset()
	eventually(t, "some refreshes", func() bool { return w.count() >= 10 })
	if diff := cmp.Diff(lanLines, w.lines()); diff != "" {
		t.Error(diff)
	}
}

// TestCarrierComesBack: whoever stood between has forgotten where we are.
func TestCarrierComesBack(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: never})
	start(t, k)
	add(t, k)
	seen := func(want bool) func() bool {
		return func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.state["lan0"].up == want
		}
	}
	netlab.Sh(t, "ip link set far-lan0 down")
	k.LinkChanged("lan0")
	eventually(t, "the keeper sees it down", seen(false))
	netlab.Sh(t, "ip link set far-lan0 up")
	w := tap(t, "far-lan0")
	k.LinkChanged("lan0")
	eventually(t, "it is announced again", func() bool { return w.count() >= 2 })
	if diff := cmp.Diff(lanLines, w.lines()); diff != "" {
		t.Error(diff)
	}
}

// TestNoARPDevice: nothing is sent, and nothing is wrong.
func TestNoARPDevice(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	netlab.Sh(t, "ip link set lan0 arp off; ip link set lo up")
	w := tap(t, "far-lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan, {Device: "lo", Prefix: pfx("10.9.9.9/32")}}, Timing: never})
	add(t, k)
	if diff := cmp.Diff([]bool{true, true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
	netlab.Sh(t, "ip link set lan0 arp on")
	add(t, k)
	eventually(t, "frames of the second time", func() bool { return w.count() >= 2 })
	if w.count() != 2 {
		t.Errorf("%d frames, want 2", w.count())
	}
}
