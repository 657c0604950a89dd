package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// configure fails the test if cfg is refused.
func (n *node) configure(cfg Config) {
	n.t.Helper()
	if err := n.Configure(cfg); err != nil {
		n.t.Fatal(err)
	}
}

// tells returns what a node told of another's membership so far.
func (n *node) tells(of string) []bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []bool
	for _, e := range n.events {
		if m, ok := e.(Member); ok && m.Node == of {
			out = append(out, m.Up)
		}
	}
	return out
}

func TestConfigureThirdNode(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, c := s.start(s.config(1, 2)), s.start(s.config(2, 2)), s.start(s.config(3, 3))
	c.Publish([]byte("c"))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	await(t, "refused", func() bool { return a.Counters()[DropSender] > 0 })
	if err := a.Send(context.Background(), "r3", "k", nil); err == nil {
		t.Error("sent to a node that the file does not have")
	}

	for round := range 2 {
		a.configure(s.config(1, 3))
		b.configure(s.config(2, 3))
		await(t, "three", func() bool {
			return a.hasMembers("r1", "r2", "r3")() && b.hasMembers("r1", "r2", "r3")() && c.hasMembers("r1", "r2", "r3")()
		})
		await(t, "told", a.hasState("r3", []byte("c")))
		exchange(t, a, c, 100, 2)
		exchange(t, b, c, 5000, 2)

		told := count(a, func(e State) bool { return e.Node == "r3" })
		a.configure(s.config(1, 2))
		b.configure(s.config(2, 2))
		await(t, "two", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
		before := a.Counters()[DropSender]
		await(t, "refused", func() bool { return a.Counters()[DropSender] >= before+3 })
		if now := count(a, func(e State) bool { return e.Node == "r3" }); now > told+1 {
			t.Errorf("%d states of a node that was removed", now-told)
		}
		want := [][]bool{{true, false}, {true, false, true, false}}[round]
		if d := cmp.Diff(want, a.tells("r3")); d != "" {
			t.Errorf("round %d, r3 up (-want +got):\n%s", round, d)
		}
	}
	if got := slices.Concat(a.tells("r2"), b.tells("r1")); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("those that stay: %v", got)
	}
}

// A peer that is removed and named again before memberlist finds it gone is
// told of as down and up.
func TestConfigureThereAndBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	a.configure(s.config(1, 1))
	await(t, "down", a.hasMembers("r1"))
	a.configure(s.config(1, 2))
	await(t, "up", a.hasMembers("r1", "r2"))
	for range 20 { // whatever the goroutines see of it
		a.configure(s.config(1, 1))
		a.configure(s.config(1, 2))
	}
	await(t, "up", a.hasMembers("r1", "r2"))
	exchange(t, a, b, 100, 4)
	exchange(t, a, b, 5000, 4)
	if told := a.tells("r2"); !told[len(told)-1] {
		t.Errorf("told last that r2 is gone: %v", told)
	}
}

func TestConfigureAddresses(t *testing.T) {
	c := newCables(t)
	if c == nil {
		return
	}
	one, two := c.config(1, 2), c.config(2, 1)
	a, b := c.start(one), c.start(two)
	met := func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() }
	await(t, "met", met)
	paths := func(n *node) (local, remote []netip.Addr) {
		for _, p := range n.Paths() {
			if time.Since(p.Heard) > 500*time.Millisecond {
				continue
			}
			local, remote = append(local, p.Local), append(remote, p.Remote)
		}
		return local, remote
	}
	for _, step := range []struct {
		name     string
		one, two []netip.Addr
	}{
		{"second moves", []netip.Addr{end(1, 1), end(3, 1)}, []netip.Addr{end(1, 2), end(3, 2)}},
		{"first moves", []netip.Addr{end(4, 1), end(3, 1)}, []netip.Addr{end(4, 2), end(3, 2)}},
		{"other order", []netip.Addr{end(3, 1), end(4, 1)}, []netip.Addr{end(3, 2), end(4, 2)}},
		{"one goes", []netip.Addr{end(4, 1)}, []netip.Addr{end(4, 2)}},
		{"two come", []netip.Addr{end(1, 1), end(4, 1), end(2, 1)}, []netip.Addr{end(1, 2), end(4, 2), end(2, 2)}},
	} {
		one.Addresses, two.Addresses = step.one, step.two
		one.Peers, two.Peers = map[string][]netip.Addr{"r2": step.two}, map[string][]netip.Addr{"r1": step.one}
		a.configure(one)
		exchange(t, a, b, 100, 2) // while they differ
		b.configure(two)
		exchange(t, a, b, 100, 2)
		await(t, step.name+": all paths are heard", func() bool {
			al, ar := paths(a)
			bl, br := paths(b)
			return slices.Equal(al, step.one) && slices.Equal(ar, step.two) && slices.Equal(bl, step.two) && slices.Equal(br, step.one)
		})
		exchange(t, a, b, 5000, 2)
	}
	if a.downs()+b.downs() > 0 {
		t.Errorf("members were lost: %d, %d", a.downs(), b.downs())
	}

	// port, label and keys: both change, and they meet again
	one.Port, two.Port = 7950, 7950
	a.configure(one)
	b.configure(two)
	await(t, "met on another port", func() bool {
		al, _ := paths(a)
		bl, _ := paths(b)
		return met() && len(al) == 3 && len(bl) == 3
	})
	exchange(t, a, b, 5000, 2)
	one.ClusterLabel, two.ClusterLabel = "away", "away"
	one.Keys, two.Keys = [][]byte{keyB}, [][]byte{keyB}
	a.configure(one)
	await(t, "apart", func() bool { return a.hasMembers("r1")() && b.hasMembers("r2")() })
	b.configure(two)
	await(t, "met with another label", met)
	a.Publish([]byte("new label"))
	await(t, "told", b.hasState("r1", []byte("new label")))
	exchange(t, a, b, 5000, 2)
}

func TestConfigureRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	await(t, "met", a.hasMembers("r1", "r2"))
	bad := s.config(1, 2)
	bad.Addresses = nil
	if err := a.Configure(bad); err == nil {
		t.Error("no error")
	}
	exchange(t, a, b, 100, 2)

	// before Run
	n := s.prepare(s.config(3, 1))
	if err := n.Configure(bad); err == nil {
		t.Error("no error")
	}
	n.configure(s.config(3, 3))
	n.run()
	for _, other := range []*node{a, b} {
		other.configure(s.config(map[*node]int{a: 1, b: 2}[other], 3))
	}
	await(t, "three", n.hasMembers("r1", "r2", "r3"))
}

func TestBindKeepsWhatStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	cfg := s.config(1, 1)
	cfg.Addresses = []netip.Addr{s.addr(1), s.addr(2)}
	g := New(cfg)
	tr, err := newTransport(g, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Shutdown()
	bind := func(addresses ...netip.Addr) map[netip.AddrPort]*socket {
		t.Helper()
		cfg.Addresses = addresses
		missing, err := tr.bind(context.Background(), newRoster(cfg, nil))
		if missing || err != nil {
			t.Fatal(missing, err)
		}
		sockets := *tr.sockets.Load()
		if len(sockets) != len(addresses) {
			t.Fatalf("%d sockets for %v", len(sockets), addresses)
		}
		return sockets
	}
	first := bind(s.addr(1), s.addr(2))
	second := bind(s.addr(3), s.addr(2))
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(s.addr(i), uint16(s.port)) }
	if first[at(2)] != second[at(2)] {
		t.Error("the socket of an address that stays was opened anew")
	}
	bind(s.addr(1), s.addr(2), s.addr(3)) // the closed one's port is free

	// one port is taken: the others are open all the same, and it is tried again
	taken, err := net.Listen("tcp", at(4).String())
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	cfg.Addresses = []netip.Addr{s.addr(4), s.addr(5)}
	missing, err := tr.bind(context.Background(), newRoster(cfg, nil))
	if !missing || !errors.Is(err, syscall.EADDRINUSE) || (*tr.sockets.Load())[at(5)] == nil {
		t.Errorf("missing %v, error %v, sockets %v", missing, err, *tr.sockets.Load())
	}
	taken.Close()
	bind(s.addr(4), s.addr(5))
}

func TestRosterTakesOver(t *testing.T) {
	t.Parallel()
	list := func(as ...string) []netip.Addr {
		var out []netip.Addr
		for _, a := range as {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	cfg := Config{Node: "r1", Addresses: list("192.0.2.1", "10.0.0.1"), Port: 7946, Peers: map[string][]netip.Addr{
		"r2": list("192.0.2.2", "10.0.0.2"), "r3": list("192.0.2.3"),
	}}
	before := newRoster(cfg, nil)
	cfg.Peers = map[string][]netip.Addr{"r2": list("192.0.2.9", "10.0.0.2"), "r4": list("192.0.2.4")}
	after := newRoster(cfg, before)
	if before.peers["r2"] != after.peers["r2"] || after.peers["r3"] != nil || after.peers["r4"] == nil {
		t.Errorf("peers: %v, then %v", before.peers, after.peers)
	}
	if before.paths["r2"][1] != after.paths["r2"][1] || before.paths["r2"][0] == after.paths["r2"][0] {
		t.Error("a path must live on if its ends stay, and only then")
	}
	at := time.Now()
	after.heard(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), at)
	after.heard(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.9"), at) // no pair
	g := &Gossip{}
	g.roster.Store(after)
	want := []Path{
		{"r2", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9"), time.Time{}},
		{"r2", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), at},
		{"r4", netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.4"), time.Time{}},
		{"r4", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("192.0.2.4"), time.Time{}},
	}
	if d := cmp.Diff(want, g.Paths(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("paths (-want +got):\n%s", d)
	}
}
