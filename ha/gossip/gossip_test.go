package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestNodesMeetAndTellTheirStates(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var nodes []*node
	for i := 1; i <= 3; i++ {
		n := s.start(s.config(i, 3))
		n.Publish(fmt.Appendf(nil, "first of r%d", i))
		nodes = append(nodes, n)
	}
	all := []string{"r1", "r2", "r3"}
	for i, n := range nodes {
		await(t, "met", n.hasMembers(all...))
		for j := range nodes {
			if i != j {
				await(t, "told", n.hasState(all[j], fmt.Appendf(nil, "first of r%d", j+1)))
			}
		}
	}

	for _, size := range []int{200, 4 << 10, 200 << 10} {
		var took []time.Duration
		for round := range 3 {
			for i, n := range nodes {
				payload := bytes.Repeat([]byte{byte('a' + i), byte(round)}, size/2)
				n.Publish(payload)
				for j, other := range nodes {
					if i != j {
						took = append(took, await(t, "told", other.hasState(all[i], payload)))
					}
				}
			}
		}
		median(t, fmt.Sprint(size, " bytes"), 50*time.Millisecond, took)
	}

	// unchanged, it repeats: a sign of life
	seen := func() int { return count(nodes[0], func(e State) bool { return e.Node == "r2" }) }
	before := seen()
	await(t, "repeated", func() bool { return seen() >= before+2 })
}

func TestDirectMessages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })

	const rounds = 50
	var took []time.Duration
	for i := range rounds {
		kind, payload := fmt.Sprint("kind", i), bytes.Repeat([]byte{byte(i)}, 100)
		begin := time.Now()
		if err := a.Send(context.Background(), "r2", kind, payload); err != nil {
			t.Fatal(err)
		}
		await(t, "arrived", func() bool {
			return count(b, func(m Message) bool {
				return m.From == "r1" && m.Kind == kind && bytes.Equal(m.Payload, payload)
			}) > 0
		})
		took = append(took, time.Since(begin))
	}
	median(t, "a message", 2*time.Millisecond, took)

	// The second copies are through when a message larger than a packet is,
	// which waits behind them.
	large := bytes.Repeat([]byte{1}, 2*packetLimit)
	if err := a.Send(context.Background(), "r2", "last", large); err != nil {
		t.Fatal(err)
	}
	await(t, "arrived", func() bool {
		return count(b, func(m Message) bool { return m.Kind == "last" && bytes.Equal(m.Payload, large) }) > 0
	})
	if got := count(b, func(Message) bool { return true }); got != rounds+1 {
		t.Errorf("%d messages delivered, %d sent", got, rounds+1)
	}

	for name, c := range map[string]struct {
		node, kind string
		size       int
	}{
		"unknown node": {"r9", "k", 1},
		"to itself":    {"r1", "k", 1},
		"long kind":    {"r2", string(bytes.Repeat([]byte("k"), 256)), 1},
		"too large":    {"r2", "k", maxPayload + 1},
	} {
		if err := a.Send(context.Background(), c.node, c.kind, make([]byte, c.size)); err == nil {
			t.Errorf("%s: sent", name)
		}
	}
	a.end()
	if err := a.Send(context.Background(), "r2", "k", nil); err == nil {
		t.Error("sent after the end")
	}
}

func TestMessageReachesNodeThatIsNoMember(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config(1, 2))
	await(t, "running", a.hasMembers("r1"))
	b := s.prepare(s.config(2, 2))
	b.run()
	await(t, "running", func() bool { return b.list.Load() != nil })
	a.roster.Load().peers["r2"].up.Store(false) // whatever memberlist thinks by now
	if err := a.Send(context.Background(), "r2", "yield", []byte("x")); err != nil {
		t.Fatal(err)
	}
	await(t, "arrived", func() bool { return count(b, func(m Message) bool { return m.Kind == "yield" }) > 0 })
}

func TestLeave(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	await(t, "met", func() bool { return a.hasMembers("r1", "r2")() && b.hasMembers("r1", "r2")() })
	if took := b.end(); took > time.Second {
		t.Errorf("leaving took %s", took)
	}
	took := await(t, "gone", a.hasMembers("r1"))
	t.Logf("seen %s after the end", took)
	if b.Members() != nil {
		t.Errorf("members after the end: %v", b.Members())
	}

	again := s.start(s.config(2, 2))
	again.Publish([]byte("second life"))
	await(t, "back", func() bool { return a.hasMembers("r1", "r2")() && again.hasMembers("r1", "r2")() })
	await(t, "told", a.hasState("r2", []byte("second life")))
	var ups []bool
	a.mu.Lock()
	for _, e := range a.events {
		if m, ok := e.(Member); ok {
			ups = append(ups, m.Up)
		}
	}
	a.mu.Unlock()
	if want := []bool{true, false, true}; !slices.Equal(ups, want) {
		t.Errorf("r2 up: %v, want %v", ups, want)
	}
}

func TestKilledNodeIsSeenAndReturns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config(1, 2))
	a.Publish([]byte("a"))
	var took []time.Duration
	for range 3 {
		before := count(a, func(State) bool { return true })
		child := s.child(s.config(2, 2))
		await(t, "met", a.hasMembers("r1", "r2"))
		await(t, "told", func() bool { return count(a, func(State) bool { return true }) > before })
		child.Process.Kill()
		child.Wait()
		took = append(took, await(t, "down", a.hasMembers("r1")))
	}
	median(t, "seeing a killed node", 2*time.Second, took)
}

// TestAhead: what one process sealed another one sends, whenever that is, and
// it counts in the present lives of both only.
func TestAhead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r1, r2 := s.start(s.config(1, 2)), s.start(s.config(2, 2))
	await(t, "both are members", func() bool { return len(r1.Members()) == 2 && len(r2.Members()) == 2 })
	if _, err := r1.Ahead("r9", "fenced", nil); err == nil {
		t.Error("sealed for a node that the file does not have")
	}
	await(t, "r1 knows the life of r2", func() bool { _, other := r1.Lives("r2"); return other != 0 })
	sealed, err := r1.Ahead("r2", "fenced", []byte("now"))
	if err != nil || len(sealed) != 1 {
		t.Fatalf("%v, %v", sealed, err)
	}
	said := func(n *node) int {
		return count(n, func(m Message) bool { return m.From == "r1" && m.Kind == "fenced" && string(m.Payload) == "now" })
	}
	send := func() {
		conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(sealed[0].Source, 0)), net.UDPAddrFromAddrPort(sealed[0].To))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(sealed[0].Bytes); err != nil {
			t.Fatal(err)
		}
	}
	for range 2*windowSize + 3 { // many other messages go between the two meanwhile
		if err := r1.Send(t.Context(), "r2", "other", nil); err != nil {
			break // so many at once
		}
	}
	r1.end() // dead, but r2 has heard of no later life
	send()
	await(t, "r2 has it", func() bool { return said(r2) == 1 })

	before, _ := r2.Lives("r1")
	r2.end()
	r2 = s.start(s.config(2, 2))
	if after, _ := r2.Lives("r1"); after == before {
		t.Error("r2 has the same life as before")
	}
	await(t, "r2 runs", func() bool { return len(r2.Members()) == 1 })
	send()
	time.Sleep(100 * time.Millisecond)
	if said(r2) != 0 {
		t.Error("r2 took a word that was for its former life")
	}
}
