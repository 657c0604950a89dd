package gossip

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"harouter/test/netlab"
)

func TestWrongKeyIsCountedOnBothSides(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	wrong := s.config(2, 2)
	wrong.Keys = [][]byte{keyB}
	a, b := s.start(s.config(1, 2)), s.start(wrong)
	await(t, "counted", func() bool { return a.Counters()[DropKey] > 0 && b.Counters()[DropKey] > 0 })
	await(t, "told", func() bool {
		return count(a, func(d Drop) bool { return d.Reason == DropKey && d.Source == s.addr(2) }) > 0
	})
	if a.Counters()[DropGarbage]+a.Counters()[DropSender] > 0 || len(a.Members()) != 1 || len(b.Members()) != 1 {
		t.Errorf("counters %v, members %v and %v", a.Counters(), a.Members(), b.Members())
	}
	// a message is refused too, and does not come through in another way
	before := b.Counters()[DropKey]
	if err := a.Send(context.Background(), "r2", "yield", nil); err != nil {
		t.Fatal(err)
	}
	await(t, "counted", func() bool { return b.Counters()[DropKey] >= before+2 }) // packet and stream
	if got := count(b, func(Message) bool { return true }); got != 0 {
		t.Errorf("%d messages with a wrong key", got)
	}
}

func TestOlderKeyOpens(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rotated, old := s.config(1, 2), s.config(2, 2)
	rotated.Keys, old.Keys = [][]byte{keyB, keyA}, [][]byte{keyA, keyB}
	a, b := s.start(rotated), s.start(old)
	a.Publish([]byte("a"))
	b.Publish([]byte("b"))
	await(t, "told", func() bool { return b.hasState("r1", []byte("a"))() && a.hasState("r2", []byte("b"))() })
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	target := netip.AddrPortFrom(s.addr(1), uint16(s.port)).String()
	label := append([]byte{labelByte, 4}, "home"...)
	random := func(n int) []byte {
		r := make([]byte, n)
		rand.Read(r)
		r[0] &= 0x7f // never a label by chance
		return r
	}
	header := func(kind byte, length uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(append(append([]byte{}, label...), kind), length), rest...)
	}
	cases := []struct {
		name, network, reason string
		bytes                 []byte
	}{
		{"one byte", "udp", DropGarbage, []byte{0}},
		{"empty packet", "udp", DropGarbage, nil},
		{"random", "udp", DropGarbage, random(300)},
		{"large random", "udp", DropGarbage, random(9000)},
		{"label only", "udp", DropGarbage, label},
		{"label cut", "udp", DropGarbage, label[:3]},
		{"other label", "udp", DropGarbage, append([]byte{labelByte, 4}, append([]byte("host"), random(100)...)...)},
		{"unsealed ping", "udp", DropGarbage, append(append([]byte{}, label...), 0, 0x82)},
		{"old seal version", "udp", DropGarbage, append(append([]byte{}, label...), make([]byte, 100)...)},
		{"short seal", "udp", DropGarbage, append(append([]byte{}, label...), 1, 2, 3)},
		{"not our key", "udp", DropKey, append(append(append([]byte{}, label...), 1), random(100)...)},
		{"one byte", "tcp", DropGarbage, []byte{0}},
		{"random", "tcp", DropGarbage, random(5000)},
		{"label only", "tcp", DropGarbage, label},
		{"unsealed push-pull", "tcp", DropGarbage, header(6, 100, random(100)...)},
		{"huge length", "tcp", DropGarbage, header(encryptByte, 1<<32-1, random(100)...)},
		{"20 MB length", "tcp", DropGarbage, header(encryptByte, 20<<20, random(100)...)},
		{"no length", "tcp", DropGarbage, header(encryptByte, 0, random(100)...)},
		{"less than its length", "tcp", DropGarbage, header(encryptByte, 1000, random(100)...)},
		{"not our key", "tcp", DropKey, header(encryptByte, 101, append([]byte{1}, random(100)...)...)},
	}
	for _, c := range cases {
		before := a.Counters()
		conn, err := net.Dial(c.network, target)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(c.bytes)
		await(t, c.network+" "+c.name+" counted as "+c.reason, func() bool { return a.Counters()[c.reason] == before[c.reason]+1 })
		conn.Close()
	}

	// Strangers that hold streams open do not keep nodes out: a state comes
	// through while they do.
	const tries = 5
	for try := 1; ; try++ {
		for range nodeSlots {
			conn, err := net.Dial("tcp", target)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.Write(label)
		}
		large := bytes.Repeat([]byte{byte(try)}, 5000)
		b.Publish(large)
		if took := await(t, "told", a.hasState("r2", large)); took < streamTimeout/2 {
			break
		} else if try == tries {
			t.Fatalf("the state of a node took %s", took)
		}
	}

	// a flood is counted in full, but told ten times a second
	told := func() int { return count(a, func(Drop) bool { return true }) }
	before, begin := told(), time.Now()
	conn, err := net.Dial("udp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for n := a.Counters()[DropGarbage]; a.Counters()[DropGarbage] < n+1000; {
		conn.Write([]byte("flood"))
	}
	if got, most := told()-before, 2+int(time.Since(begin)/dropEvery); got > most {
		t.Errorf("a flood was told %d times, at most %d expected", got, most)
	}
	if !a.hasMembers("r1", "r2")() || count(a, func(m Member) bool { return !m.Up }) > 0 {
		t.Errorf("membership suffered: %v", a.Members())
	}
}

func TestStrangersWithOurKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	b.Publish([]byte("true"))
	await(t, "told", a.hasState("r2", []byte("true")))

	double := s.config(2, 2) // the same name, elsewhere
	double.Addresses = []netip.Addr{s.addr(9)}
	c := s.start(double)
	c.Publish([]byte("false"))
	unknown := s.config(8, 2)
	unknown.Node = "r8"
	d := s.start(unknown)
	await(t, "running", func() bool { return len(c.Members()) == 1 && len(d.Members()) == 1 })
	for i := range 3 {
		before := a.Counters()[DropSender]
		await(t, "refused", func() bool { return a.Counters()[DropSender] > before })
		if err := c.Send(context.Background(), "r1", "yield", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if a.hasState("r2", []byte("false"))() || count(a, func(Message) bool { return true }) > 0 {
		t.Error("the double of r2 was believed")
	}
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	if len(c.Members()) != 1 || len(d.Members()) != 1 {
		t.Errorf("members: %v, %v, double %v, unknown %v", a.Members(), b.Members(), c.Members(), d.Members())
	}
}

// NotifyAlive is the second line: a node of ours may pass a stranger on.
func TestNotifyAliveRefuses(t *testing.T) {
	t.Parallel()
	g := New(Config{
		Node: "r1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 7946,
		Peers: map[string][]netip.Addr{"r2": {netip.MustParseAddr("192.0.2.2")}}, Handler: func(Event) {},
	})
	for _, c := range []struct {
		name string
		at   netip.Addr
		port uint16
		ok   bool
	}{
		{"r1", nominal("r1"), nominalPort, true},
		{"r2", nominal("r2"), nominalPort, true},
		{"r2", netip.MustParseAddr("192.0.2.2"), nominalPort, false},
		{"r2", nominal("r2"), 7946, false},
		{"r1", nominal("r2"), nominalPort, false},
		{"r3", nominal("r3"), nominalPort, false},
	} {
		before := g.Counters()[DropSender]
		err := (&delegate{g}).NotifyAlive(&memberlist.Node{Name: c.name, Addr: c.at.AsSlice(), Port: c.port})
		if (err == nil) != c.ok || (g.Counters()[DropSender] == before) != c.ok {
			t.Errorf("%s at %s port %d: error %v, counters %v", c.name, c.at, c.port, err, g.Counters())
		}
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	taken, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.addr(1), s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"port taken":    {func(*Config) {}, "another program has this port"},
		"no node":       {func(c *Config) { c.Node = "" }, "node name"},
		"no address":    {func(c *Config) { c.Addresses = nil }, "address of its own"},
		"address 0":     {func(c *Config) { c.Addresses[0] = netip.IPv4Unspecified() }, "address of its own"},
		"port 0":        {func(c *Config) { c.Port = 0 }, "port 0"},
		"no key":        {func(c *Config) { c.Keys = nil }, "a key is needed"},
		"short key":     {func(c *Config) { c.Keys = [][]byte{keyA, keyB[:16]} }, "key 2 has 16 bytes"},
		"no label":      {func(c *Config) { c.ClusterLabel = "" }, "cluster name"},
		"peer is self":  {func(c *Config) { c.Peers["r1"] = []netip.Addr{s.addr(3)} }, "cannot be a peer"},
		"peer has ours": {func(c *Config) { c.Peers["r2"] = c.Addresses }, "cannot be one of"},
		"peers share":   {func(c *Config) { c.Peers["r3"] = c.Peers["r2"] }, "cannot be one of"},
		"twice":         {func(c *Config) { c.Addresses = append(c.Addresses, c.Addresses[0]) }, "cannot be one of"},
		"no way":        {func(c *Config) { c.Peers["r2"] = []netip.Addr{netip.IPv6LinkLocalAllNodes()} }, "has no way to r2"},
		"peer nowhere":  {func(c *Config) { c.Peers["r2"] = nil }, "has no way to r2"},
	} {
		cfg := s.config(1, 2)
		cfg.Handler = func(Event) {}
		c.change(&cfg)
		if err := New(cfg).Run(context.Background()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestAddressThatComesLater(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up")
	s := &site{t: t, port: 7946}
	cfg := s.config(1, 1)
	cfg.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	n := s.start(cfg)
	select {
	case err := <-n.err:
		t.Fatalf("gave up: %v", err)
	case <-time.After(2 * bindEvery):
	}
	netlab.Sh(t, "ip address add 192.0.2.1/32 dev lo")
	await(t, "listening", func() bool {
		conn, err := net.Dial("tcp", "192.0.2.1:7946")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	if !n.hasMembers("r1")() {
		t.Errorf("members: %v", n.Members())
	}

	// stopping while it waits
	cfg.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.9")}
	w := s.start(cfg)
	if took := w.end(); took > time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestIPv6(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up; ip address add 2001:db8::1/128 dev lo nodad; ip address add 2001:db8::2/128 dev lo nodad")
	s := &site{t: t, port: 7946}
	one, two := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	first, second := s.config(1, 2), s.config(2, 2)
	first.Addresses, first.Peers = []netip.Addr{one}, map[string][]netip.Addr{"r2": {two}}
	second.Addresses, second.Peers = []netip.Addr{two}, map[string][]netip.Addr{"r1": {one}}
	a, b := s.start(first), s.start(second)
	for _, size := range []int{100, 5000} {
		payload := make([]byte, size)
		a.Publish(payload)
		await(t, "told", b.hasState("r1", payload))
	}
}

// unread fails the test when it is read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("read more than the header")
	return 0, io.EOF
}

func TestLengthIsJudgedBeforeReading(t *testing.T) {
	t.Parallel()
	s, err := newSeals("home", [][]byte{keyA})
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []uint32{0, sealedMin - 1, maxStream + 1, 1<<32 - 1} {
		header := binary.BigEndian.AppendUint32(append([]byte{labelByte, 4}, "home\x0a"...), length)
		if read, drop := s.stream(io.MultiReader(bytes.NewReader(header), unread{t})); read != nil || drop != DropGarbage {
			t.Errorf("length %d: dropped as %q", length, drop)
		}
	}
}

// TestSendTo: a node that is not in the file any more hears of it from one that it
// has in its own; one without the key, or that does not know the sender, does not.
func TestSendTo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config(1, 1))
	removed := s.start(s.config(2, 2))
	outsider := s.config(3, 3)
	outsider.Keys = [][]byte{keyB}
	b := s.start(outsider)
	await(t, "running", func() bool { return len(a.Members()) == 1 && len(removed.Members()) == 1 && len(b.Members()) == 1 })
	for i := 2; i <= 3; i++ {
		if err := a.SendTo(s.addr(i), "members", []byte("r1 alone")); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "told", func() bool {
		return count(removed, func(m Message) bool {
			return m.From == "r1" && m.Kind == "members" && string(m.Payload) == "r1 alone"
		}) == 1
	})
	await(t, "refused", func() bool { return b.Counters()[DropKey] > 0 })
	if n := count(b, func(Message) bool { return true }); n > 0 {
		t.Errorf("%d messages without the key", n)
	}
	for name, err := range map[string]error{
		"another family": a.SendTo(netip.MustParseAddr("2001:db8::1"), "members", nil),
		"too large":      a.SendTo(s.addr(2), "members", make([]byte, 4000)),
		"does not run":   New(s.config(1, 1)).SendTo(s.addr(2), "members", nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
