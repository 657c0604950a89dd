package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"

	"harouter/test/netlab"
)

func TestPairs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ own, peer, want string }{
		"one and one":        {"10.0.0.1", "10.0.0.2", "10.0.0.1-10.0.0.2"},
		"two and two":        {"192.0.2.1 10.0.0.1", "192.0.2.2 10.0.0.2", "192.0.2.1-192.0.2.2 10.0.0.1-10.0.0.2"},
		"other subnets":      {"192.0.2.1 10.0.0.1", "10.0.0.2 192.0.2.2", "192.0.2.1-10.0.0.2 10.0.0.1-192.0.2.2"},
		"one and two":        {"10.0.0.1", "10.0.0.2 192.0.2.2", "10.0.0.1-10.0.0.2 10.0.0.1-192.0.2.2"},
		"three and two":      {"192.0.2.1 10.0.0.1 10.0.0.3", "192.0.2.2 10.0.0.2", "192.0.2.1-192.0.2.2 10.0.0.1-10.0.0.2 10.0.0.3-10.0.0.2"},
		"equally near":       {"10.0.0.1", "192.0.2.2 192.0.2.3 192.0.2.4", "10.0.0.1-192.0.2.2 10.0.0.1-192.0.2.3 10.0.0.1-192.0.2.4"},
		"families":           {"2001:db8::1 10.0.0.1", "10.0.0.2 2001:db8::2", "10.0.0.1-10.0.0.2 2001:db8::1-2001:db8::2"},
		"one more of one":    {"10.0.0.1", "10.0.0.2 2001:db8::2", "10.0.0.1-10.0.0.2"},
		"none":               {"10.0.0.1", "2001:db8::2", ""},
		"mapped into v6":     {"::ffff:10.0.0.1", "10.0.0.2", "10.0.0.1-10.0.0.2"},
		"longest of several": {"2001:db8:1::1 2001:db8:2::1", "2001:db8:2::2 2001:db8:1::2 2001:db8:2::3", "2001:db8:1::1-2001:db8:2::2 2001:db8:2::1-2001:db8:1::2 2001:db8:2::1-2001:db8:2::3"},
	} {
		list := func(s string) []netip.Addr {
			var out []netip.Addr
			for _, f := range bytes.Fields([]byte(s)) {
				out = append(out, netip.MustParseAddr(string(f)))
			}
			return out
		}
		text := func(own, peer []netip.Addr, turned bool) []string {
			out := []string{}
			for _, e := range pairs(own, peer) {
				if turned {
					e = ends{e.remote, e.local}
				}
				out = append(out, fmt.Sprintf("%s-%s", e.local, e.remote))
			}
			return out
		}
		want := []string{}
		for _, f := range bytes.Fields([]byte(c.want)) {
			want = append(want, string(f))
		}
		own, peer := list(c.own), list(c.peer)
		if d := cmp.Diff(want, text(own, peer, false)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if d := cmp.Diff(want, text(peer, own, true)); d != "" {
			t.Errorf("%s, from the other side (-want +got):\n%s", name, d)
		}
	}
}

func TestPreferred(t *testing.T) {
	t.Parallel()
	now := time.Now()
	long := now.Add(-quietAfter)
	first, second := new(path), new(path)
	for name, c := range map[string]struct {
		heard1, heard2 *time.Time
		answered       *path
		want           *path
	}{
		"nothing known":            {nil, nil, nil, first},
		"both heard":               {&now, &now, nil, first},
		"the second answered":      {&now, &now, second, second},
		"the first is quiet":       {&long, &now, first, second},
		"the second is quiet":      {&now, &long, second, first},
		"both quiet, one answered": {&long, nil, second, second},
	} {
		first.last.Store(c.heard1)
		second.last.Store(c.heard2)
		if got := preferred([]*path{first, second}, c.answered, now); len(got) != 2 || got[0] != c.want {
			t.Errorf("%s: wrong one first", name)
		}
	}
}

// cables are two paths between nodes, 127.<path>.0.<node>, in a namespace of
// their own. What one node sends to another over one of them can be cut.
type cables struct {
	site
	t *testing.T
}

// newCables returns nil in the parent of the isolated test, which is done.
func newCables(t *testing.T) *cables {
	if !netlab.Isolated(t) {
		return nil
	}
	netlab.Sh(t, "ip link set lo up; nft 'add table ip cut; add chain ip cut input { type filter hook input priority 0; }'")
	return &cables{site{t: t, port: 7946}, t}
}

func end(path, node int) netip.Addr { return netip.AddrFrom4([4]byte{127, byte(path), 0, byte(node)}) }

func both(node int) []netip.Addr { return []netip.Addr{end(1, node), end(2, node)} }

// config is that of node r<i> among these.
func (c *cables) config(i int, nodes ...int) Config {
	cfg := c.site.config(i, 0)
	cfg.Addresses = both(i)
	for _, j := range nodes {
		if i != j {
			cfg.Peers[fmt.Sprintf("r%d", j)] = both(j)
		}
	}
	return cfg
}

func (c *cables) cut(path, from, to int) {
	netlab.Sh(c.t, fmt.Sprintf("nft add rule ip cut input ip saddr %s ip daddr %s drop", end(path, from), end(path, to)))
}

func (c *cables) heal() { netlab.Sh(c.t, "nft flush chain ip cut input") }

// downs counts how often a node told of another that it is gone.
func (n *node) downs() int { return count(n, func(m Member) bool { return !m.Up }) }

func (n *node) drops() uint64 {
	var sum uint64
	for _, c := range n.Counters() {
		sum += c
	}
	return sum
}

// exchange sends messages both ways and returns how long each took.
func exchange(t *testing.T, a, b *node, size, times int) []time.Duration {
	t.Helper()
	var took []time.Duration
	for i := range times {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		kind := fmt.Sprint(time.Now().UnixNano())
		if err := from.Send(context.Background(), to.node, kind, bytes.Repeat([]byte("x"), size)); err != nil {
			t.Fatal(err)
		}
		arrived := func(m Message) bool { return m.Kind == kind && len(m.Payload) == size }
		took = append(took, await(t, "arrived", func() bool { return count(to, arrived) > 0 }))
		if got := count(to, arrived); got != 1 {
			t.Errorf("delivered %d times", got)
		}
	}
	return took
}

func TestOnePathIsCut(t *testing.T) {
	c := newCables(t)
	if c == nil {
		return
	}
	a, b := c.start(c.config(1, 1, 2)), c.start(c.config(2, 1, 2))
	a.Publish([]byte("a"))
	b.Publish([]byte("b"))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	var firsts []time.Duration
	for _, cut := range []struct {
		name string
		ways [][3]int
	}{
		{"first path", [][3]int{{1, 1, 2}, {1, 2, 1}}},
		{"second path", [][3]int{{2, 1, 2}, {2, 2, 1}}},
		{"first path, one way", [][3]int{{1, 1, 2}}},
		{"first path, the other way", [][3]int{{1, 2, 1}}},
		{"second path, one way", [][3]int{{2, 1, 2}}},
	} {
		before := exchange(t, a, b, 100, 4)
		for _, w := range cut.ways {
			c.cut(w[0], w[1], w[2])
		}
		at := time.Now()
		// the very next ones, and those over TCP, which must find the other path
		took := append(exchange(t, a, b, 100, 20), before...)
		median(t, cut.name+", a packet", 20*time.Millisecond, took)
		large := exchange(t, a, b, 20<<10, 6)
		firsts = append(firsts, large[0])
		median(t, cut.name+", over TCP", 50*time.Millisecond, large[1:])
		state := bytes.Repeat([]byte(cut.name), 1000)
		a.Publish(state)
		await(t, "told", b.hasState("r1", state))
		a.Publish([]byte(cut.name))
		await(t, "told", b.hasState("r1", []byte(cut.name)))
		// longer than a member that does not answer would last
		quiet := func(n *node, local netip.Addr) bool {
			i := slices.IndexFunc(n.Paths(), func(p Path) bool { return p.Local == local })
			return n.Paths()[i].Heard.Before(at.Add(100 * time.Millisecond))
		}
		for time.Since(at) < 1500*time.Millisecond {
			exchange(t, a, b, 100, 2)
		}
		for _, w := range cut.ways {
			receiver := map[int]*node{1: a, 2: b}[w[2]]
			if !quiet(receiver, end(w[0], w[2])) {
				t.Errorf("%s: %s still hears it: %v", cut.name, receiver.node, receiver.Paths())
			}
		}
		c.heal()
		for _, n := range []*node{a, b} {
			await(t, "heard on both paths", func() bool {
				return !slices.ContainsFunc(n.Paths(), func(p Path) bool { return time.Since(p.Heard) > 500*time.Millisecond })
			})
		}
	}
	median(t, "the first over TCP after a cut", 2*headStart, firsts)
	if a.downs()+b.downs() > 0 {
		t.Errorf("members were lost: %d, %d", a.downs(), b.downs())
	}
	if a.drops()+b.drops() > 0 {
		t.Errorf("dropped: %v, %v", a.Counters(), b.Counters())
	}
}

func TestBothPathsAreCut(t *testing.T) {
	c := newCables(t)
	if c == nil {
		return
	}
	a, b := c.start(c.config(1, 1, 2)), c.start(c.config(2, 1, 2))
	met := func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() }
	await(t, "met", met)
	for path := range 2 {
		c.cut(path+1, 1, 2)
		c.cut(path+1, 2, 1)
	}
	took := await(t, "down", func() bool { return a.hasMembers("r1")() && b.hasMembers("r2")() })
	t.Logf("down after %s", took)
	c.heal()
	took = await(t, "up", met)
	t.Logf("up after %s", took)
	if a.downs() != 1 || b.downs() != 1 {
		t.Errorf("down %d and %d times", a.downs(), b.downs())
	}
}

func TestLostPortAndLateAddress(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up; ip address add 192.0.2.1/32 dev lo; ip address add 192.0.2.2/32 dev lo; ip address add 198.51.100.2/32 dev lo")
	s := &site{t: t, port: 7946}
	one, two := s.config(1, 0), s.config(2, 0)
	one.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")}
	two.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.2")}
	one.Peers["r2"], two.Peers["r1"] = two.Addresses, one.Addresses
	a, b := s.start(one), s.start(two)
	met := func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() }
	await(t, "met", met)
	if p := a.Paths()[1]; p.Local != one.Addresses[1] || !p.Heard.IsZero() {
		t.Errorf("a path without an address: %v", p)
	}
	netlab.Sh(t, "ip address add 198.51.100.1/32 dev lo")
	heard := func(n *node, path int) func() bool {
		return func() bool { return time.Since(n.Paths()[path].Heard) < 500*time.Millisecond }
	}
	await(t, "heard on the second path", func() bool { return heard(a, 1)() && heard(b, 1)() })

	// the first address goes, with its port
	netlab.Sh(t, "ip address del 192.0.2.1/32 dev lo")
	median(t, "a packet", 20*time.Millisecond, exchange(t, a, b, 100, 20))
	median(t, "a large message", 2*headStart, exchange(t, a, b, 20<<10, 6))
	for at := time.Now(); time.Since(at) < 1500*time.Millisecond; {
		exchange(t, a, b, 100, 2)
	}
	netlab.Sh(t, "ip address add 192.0.2.1/32 dev lo")
	await(t, "heard on the first path again", func() bool { return heard(a, 0)() && heard(b, 0)() })
	if a.downs()+b.downs() > 0 {
		t.Errorf("members were lost: %d, %d", a.downs(), b.downs())
	}

	// without any address left, the other is out of reach, and back later
	netlab.Sh(t, "ip address del 192.0.2.1/32 dev lo; ip address del 198.51.100.1/32 dev lo")
	await(t, "down", func() bool { return a.hasMembers("r1")() && b.hasMembers("r2")() })
	netlab.Sh(t, "ip address add 198.51.100.1/32 dev lo")
	await(t, "up", met)
}

func TestUnequalLists(t *testing.T) {
	c := newCables(t)
	if c == nil {
		return
	}
	one, two := c.config(1, 2), c.config(2, 1)
	two.Addresses = []netip.Addr{end(1, 2)}
	one.Peers["r2"] = two.Addresses
	a, b := c.start(one), c.start(two)
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	await(t, "both heard", func() bool {
		return !slices.ContainsFunc(slices.Concat(a.Paths(), b.Paths()), func(p Path) bool { return p.Heard.IsZero() })
	})
	netlab.Sh(t, fmt.Sprintf("nft add rule ip cut input ip saddr %s drop; nft add rule ip cut input ip daddr %[1]s drop", end(1, 1)))
	for at := time.Now(); time.Since(at) < 1500*time.Millisecond; {
		exchange(t, a, b, 100, 2)
	}
	median(t, "a large message", 2*headStart, exchange(t, a, b, 20<<10, 6))
	if a.downs()+b.downs() > 0 {
		t.Errorf("members were lost: %d, %d", a.downs(), b.downs())
	}
}

func TestLargeMessages(t *testing.T) {
	c := newCables(t)
	if c == nil {
		return
	}
	a, b := c.start(c.config(1, 1, 2)), c.start(c.config(2, 1, 2))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	median(t, "512 KiB", 400*time.Millisecond, exchange(t, a, b, maxPayload, 4))

	// The path dies with a message on its way: the socket takes it, nobody
	// confirms it, and it goes over the other path.
	netlab.Sh(t, fmt.Sprintf("nft add rule ip cut input tcp dport 7946 ip daddr %s meta length '>' 1000 drop", end(1, 2)))
	median(t, "512 KiB, the first path is dead", 800*time.Millisecond, exchange(t, a, b, maxPayload, 4))
	if a.drops()+b.drops() > 0 {
		t.Errorf("dropped: %v, %v", a.Counters(), b.Counters())
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent()
	for i := range 3 {
		one, other := fmt.Appendf(nil, "packet %d", i), fmt.Appendf(nil, "Packet %d", i)
		if r.has(r.sum(one)) || r.add(r.sum(one)) {
			t.Errorf("%s is no duplicate", one)
		}
		if !r.has(r.sum(one)) || !r.add(r.sum(one)) {
			t.Errorf("%s is a duplicate", one)
		}
		if r.has(r.sum(other)) {
			t.Errorf("%s is no duplicate", other)
		}
	}
	first := r.sum([]byte("packet 0"))
	for i := range recentSize {
		r.add(r.sum(fmt.Append(nil, i)))
	}
	if held := 0; r.has(first) || !r.has(r.sum([]byte("0"))) {
		t.Error("it does not forget the oldest")
	} else if r.sums.Range(func(any, any) bool { held++; return true }); held != recentSize {
		t.Errorf("it holds %d", held)
	}
}

// Each packet goes over both paths and reaches memberlist once; what somebody
// repeats does not reach it again.
func TestPacketsComeOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	open := func(cfg Config) (*Gossip, *transport) {
		g := New(cfg)
		tr, err := newTransport(g, &cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.bind(context.Background(), g.roster.Load()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.Shutdown() })
		return g, tr
	}
	one, two := s.config(1, 1), s.config(2, 2)
	one.Addresses, two.Addresses = []netip.Addr{s.addr(1), s.addr(11)}, []netip.Addr{s.addr(2), s.addr(12)}
	one.Peers, two.Peers = map[string][]netip.Addr{"r2": two.Addresses}, map[string][]netip.Addr{"r1": one.Addresses}
	_, a := open(one)
	g, b := open(two)

	header := append([]byte{labelByte, 4}, "home"...)
	var packets [][]byte
	for i := range 20 {
		nonce := bytes.Repeat([]byte{byte(i)}, nonceSize)
		sealed := append([]byte{sealVersion}, nonce...)
		sealed = a.seals.keys[0].Seal(sealed, nonce, fmt.Appendf(nil, "packet %d", i), []byte("home"))
		packets = append(packets, append(slices.Clone(header), sealed...))
	}
	for range 2 {
		for _, p := range packets {
			if _, err := a.WriteToAddress(p, memberlist.Address{Name: "r2"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	marker := append(slices.Clone(header), a.seals.keys[0].Seal(append([]byte{sealVersion}, make([]byte, nonceSize)...), make([]byte, nonceSize), []byte("last"), []byte("home"))...)
	begin := time.Now()
	if _, err := a.WriteToAddress(marker, memberlist.Address{Name: "r2"}); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	await(t, "all came, over both paths", func() bool {
		select {
		case p := <-b.packets:
			got[string(p.Buf)]++
		default:
		}
		return len(got) == len(packets)+1 && !slices.ContainsFunc(g.Paths(), func(p Path) bool { return !p.Heard.After(begin) })
	})
	var wrong []string
	for _, p := range packets {
		if got[string(p)] != 1 {
			wrong = append(wrong, fmt.Sprintf("%x came %d times", p, got[string(p)]))
		}
	}
	if len(wrong) > 0 {
		t.Error(wrong)
	}

	// a copy that comes later, over the slower path, is a sign of that path
	begin = time.Now()
	port := uint16(s.port)
	for i, from := range one.Addresses {
		if err := (*a.sockets.Load())[netip.AddrPortFrom(from, port)].write(packets[0], netip.AddrPortFrom(two.Addresses[i], port)); err != nil {
			t.Fatal(err)
		}
		await(t, "heard", func() bool { return g.Paths()[i].Heard.After(begin) })
	}
	select {
	case p := <-b.packets:
		t.Errorf("%x came again", p.Buf)
	default:
	}
	if c := g.Counters(); c[DropKey]+c[DropGarbage]+c[DropSender] > 0 {
		t.Errorf("counters: %v", c)
	}
	if _, err := a.WriteToAddress(marker, memberlist.Address{Name: "r9"}); err == nil {
		t.Error("sent to a node that the file does not have")
	}
}

// A hung port takes nothing more: what goes over the others must not wait.
func TestWriteDoesNotWait(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link add v0 type veth peer name v1; ip address add 192.0.2.1/24 dev v0; ip link set v0 up; ip link set v1 up")
	netlab.Sh(t, "ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev v0; tc qdisc add dev v0 root tbf rate 8kbit burst 2000 limit 10000000")
	cfg := Config{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 7946, ClusterLabel: "home", Keys: [][]byte{keyA}}
	g := New(cfg)
	tr, err := newTransport(g, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.bind(context.Background(), g.roster.Load()); err != nil {
		t.Fatal(err)
	}
	defer tr.Shutdown()
	s := (*tr.sockets.Load())[netip.MustParseAddrPort("192.0.2.1:7946")]
	full := make(chan bool)
	go func() {
		for range 1000 {
			if err := s.write(make([]byte, 1400), netip.MustParseAddrPort("192.0.2.2:7946")); err != nil {
				full <- errors.Is(err, syscall.EAGAIN)
				return
			}
		}
		full <- false
	}()
	select {
	case ok := <-full:
		if !ok {
			t.Error("the socket was never full")
		}
	case <-time.After(patience):
		t.Error("writing waits for a port that hangs")
	}
}
