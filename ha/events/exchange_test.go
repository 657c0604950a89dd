package events

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// cluster is some nodes in one bubble; send loses and delays at will.
type cluster struct {
	t        *testing.T
	mu       sync.Mutex
	nodes    map[string]*node
	loss     float64 // part of the messages, set before they run
	random   *rand.Rand
	messages map[string]int // by sender
}

type node struct {
	log  *Log
	x    *Exchange
	stop func()
}

func newCluster(t *testing.T, loss float64, names ...string) *cluster {
	c := &cluster{t: t, loss: loss, nodes: map[string]*node{}, random: rand.New(rand.NewPCG(1, 2)), messages: map[string]int{}}
	for _, n := range names {
		c.start(n, t.TempDir())
	}
	return c
}

func (c *cluster) start(name, dir string) {
	l := Open(Config{Dir: dir, Node: name, Log: quiet})
	x := NewExchange(l, func(_ context.Context, to string, payload []byte) error {
		return c.send(name, to, payload)
	}, func() []string {
		c.mu.Lock()
		defer c.mu.Unlock()
		var up []string
		for n := range c.nodes {
			up = append(up, n)
		}
		return up
	})
	stopLog, stopX := run(c.t, l), func() {}
	n := &node{log: l, x: x}
	c.mu.Lock()
	c.nodes[name] = n
	c.mu.Unlock()
	stopX = run(c.t, x)
	n.stop = func() {
		c.mu.Lock()
		delete(c.nodes, name)
		c.mu.Unlock()
		stopX()
		stopLog()
	}
}

func (c *cluster) send(from, to string, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages[from]++
	if len(payload) > maxMessage {
		c.t.Errorf("a message has %d bytes", len(payload))
	}
	n := c.nodes[to]
	if n == nil || c.random.Float64() < c.loss {
		return nil
	}
	time.AfterFunc(time.Duration(c.random.IntN(5))*time.Millisecond, func() { n.x.Received(from, payload) })
	return nil
}

// sent counts messages by sender.
func (c *cluster) sent(from string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.messages[from]
}

func (c *cluster) alike(what string, events int) {
	c.t.Helper()
	var first []Event
	for i, name := range slices.Sorted(maps.Keys(c.nodes)) {
		got := c.nodes[name].log.Last(0)
		if i == 0 {
			first = got
		}
		if len(got) != events {
			c.t.Errorf("%s: %s has %d events, want %d", what, name, len(got), events)
		}
		if d := cmp.Diff(first, got); d != "" {
			c.t.Errorf("%s: %s differs from the first (-first +this):\n%.2000s", what, name, d)
		}
	}
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestExchangeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0, "r1", "r2")
		wait(10 * time.Second)
		before := c.sent("r1")
		for i := range 20 {
			c.nodes["r1"].log.Append(happened(fmt.Sprint(i)))
			wait(2 * time.Millisecond)
		}
		wait(20 * time.Millisecond)
		c.alike("at once", 20)
		if n := c.sent("r1") - before; n != 1 {
			t.Errorf("%d messages for events that came together", n)
		}
		before = c.sent("r1")
		wait(time.Minute)
		if n := c.sent("r1") - before; n > 13 {
			t.Errorf("%d messages in a minute in which nothing happened", n)
		}
	})
}

// TestExchangeAfterRestart: whoever is back before anybody missed him is heard
// at once.
func TestExchangeAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0, "r1", "r2")
		wait(10100 * time.Millisecond)
		c.nodes["r2"].stop()
		c.start("r2", t.TempDir())
		c.nodes["r2"].log.Append(happened("started"))
		wait(200 * time.Millisecond)
		c.alike("after a quick restart", 1)
	})
}

// TestExchangeWithLoss: a third of all messages is lost, all nodes record.
func TestExchangeWithLoss(t *testing.T) {
	for _, names := range [][]string{{"r1", "r2"}, {"r1", "r2", "r3"}} {
		t.Run(strings.Join(names, "+"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 0.3, names...)
				for i := range 100 {
					for _, n := range names {
						c.nodes[n].log.Append(happened(fmt.Sprint(n, " ", i)))
					}
					wait(300 * time.Millisecond)
				}
				wait(time.Minute)
				c.alike("with loss", 100*len(names))
			})
		})
	}
}

// TestExchangeAfterAbsence: whoever was off, or alone, gets what it missed and
// tells what it recorded; also what a third one recorded that is off by then.
func TestExchangeAfterAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0, "r1", "r2", "r3")
		dir := t.TempDir()
		wait(2 * time.Second)
		c.nodes["r2"].stop()
		record := func(node string, n int) {
			for i := range n {
				c.nodes[node].log.Append(Event{Kind: "alarm", Subject: fmt.Sprint(node, " ", i), Reason: strings.Repeat("r", 300)})
				synctest.Wait()
			}
		}
		record("r1", 200)
		record("r3", 200)
		wait(time.Second)
		c.nodes["r3"].stop()
		alone := Open(Config{Dir: dir, Node: "r2", Log: quiet})
		stop := run(t, alone)
		for i := range 50 {
			alone.Append(happened(fmt.Sprint("alone ", i)))
		}
		synctest.Wait()
		stop()
		c.start("r2", dir)
		wait(4 * time.Second)
		c.alike("back again", 450)

		// One that has lost its disk has all again, its own too.
		c.nodes["r2"].stop()
		c.start("r2", t.TempDir())
		wait(4 * time.Second)
		c.alike("with a new disk", 450)
		c.nodes["r2"].log.Append(happened("after that"))
		wait(100 * time.Millisecond)
		c.alike("goes on", 451)
	})
}

// TestExchangeLastWord: what a node records while it leaves goes out.
func TestExchangeLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0, "r1", "r2")
		wait(10 * time.Second)
		c.nodes["r1"].log.Append(happened("leaving"))
		synctest.Wait()
		c.nodes["r1"].stop()
		wait(10 * time.Millisecond)
		c.alike("the last word", 1)
	})
}

// TestExchangeFlood: a node gone wild is not let through faster than an honest
// one needs, and garbage harms nobody.
func TestExchangeFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 0, "r1", "r2")
		wait(2 * time.Second)
		x := c.nodes["r1"].x
		b, n, err := encodeEvents([]Event{{Time: time.Now(), Node: "r9", Seq: 1, Kind: "role"}})
		if err != nil || n != 1 {
			t.Fatal(n, err)
		}
		admitted := 0
		for range 10_000 {
			if x.admit("r2", time.Now()) {
				admitted++
			}
			x.Received("r2", b)
			x.Received("r2", []byte("{"))
			x.Received("r2", make([]byte, maxMessage+1))
			x.Received("r1", b) // nobody is his own peer
		}
		if admitted > takePerPeer {
			t.Errorf("%d messages of one node in a second", admitted)
		}
		wait(time.Minute)
		c.nodes["r2"].log.Append(happened("still alive"))
		wait(time.Minute)
		c.alike("after a flood", 1+len(c.nodes["r1"].log.Since(nil, "r9", 9)))
	})
}

func FuzzDecode(f *testing.F) {
	for _, d := range []Digest{{}, {"r1": {{0, 7}, {9, 9}}, "r2": nil}} {
		b, err := encodeDigest(d, true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, _, err := encodeEvents([]Event{{Time: time.Unix(1, 5000).UTC(), Node: "r1", Seq: 5, Kind: "role", Reason: "<é>"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"have":{"r1":[[9,3]]}}`))
	f.Add([]byte(`{"have":{"r1":[[1,18446744073709551615]]}}`))
	f.Add([]byte(`{"events":[{"time":"9999-01-01T00:00:00+14:00","node":"a","seq":1,"kind":"\u0000"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		l := Open(Config{Dir: t.TempDir(), Node: "r1", Log: quiet})
		l.Merge(m.Events)
		l.Since(m.Have, "", 10)
		for _, e := range m.Events {
			if m.Have == nil {
				m.Have = Digest{}
			}
			m.Have.add(e)
			if !m.Have[e.Node].has(e.Seq) {
				t.Errorf("%d is not in %v", e.Seq, m.Have[e.Node])
			}
		}
		if len(m.Events) > 0 {
			again, n, err := encodeEvents(m.Events)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			back, err := decode(again)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m.Events[:n], back.Events); d != "" {
				t.Errorf("there and back (-want +got):\n%s", d)
			}
		}
	})
}

// TestDecodeRefuses what no node of ours writes.
func TestDecodeRefuses(t *testing.T) {
	many := Runs{}
	for i := range uint64(maxRuns + 1) {
		many = append(many, [2]uint64{4*i + 1, 4*i + 1})
	}
	crowd := Digest{}
	for i := range maxNodes + 1 {
		crowd[fmt.Sprint(i)] = nil
	}
	for _, c := range []struct {
		name string
		m    any
	}{
		{"a run that ends before it begins", message{Have: Digest{"r1": {{9, 3}}}}},
		{"runs out of order", message{Have: Digest{"r1": {{5, 6}, {1, 2}}}}},
		{"runs that overlap", message{Have: Digest{"r1": {{1, 6}, {6, 8}}}}},
		{"a number that leaves no room", message{Have: Digest{"r1": {{1, maxSeq}}}}},
		{"too many runs", message{Have: Digest{"r1": many}}},
		{"too many nodes", message{Have: crowd}},
		{"a digest of a long name", message{Have: Digest{strings.Repeat("n", maxNode+1): {{1, 1}}}}},
		{"runs of nobody", message{Have: Digest{"": {{1, 1}}}}},
		{"an event of nobody", message{Events: []Event{{Seq: 1}}}},
		{"an event without a number", message{Events: []Event{{Node: "r1"}}}},
		{"a list", []int{1}},
	} {
		b, err := json.Marshal(c.m)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := decode(b); err == nil {
			t.Errorf("%s: taken as %+v", c.name, m)
		}
	}
	if _, err := decode([]byte(`{"have":{"r1":[[1,2],[9,12]]},"ask":true,"unknown":1}`)); err != nil {
		t.Errorf("a good one of a later version: %v", err)
	}
}

// FuzzParse: whatever stands in the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-21T12:00:00Z","node":"r1","seq":1,"kind":"role"}` + "\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, _, err := parse(strings.NewReader(string(b)), false)
		if err != nil {
			t.Fatal(err)
		}
		out, err := lines(events)
		if err != nil {
			t.Fatal(err)
		}
		again, damage, err := parse(strings.NewReader(string(out)), false)
		if err != nil || damage.lines > 0 || damage.torn {
			t.Fatal(damage, err)
		}
		if d := cmp.Diff(events, again); d != "" {
			t.Errorf("written and read (-want +got):\n%s", d)
		}
	})
}

// TestRuns against a plain set.
func TestRuns(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var r Runs
		set := map[uint64]bool{}
		for range 60 {
			s := random.Uint64N(80) + 1
			r, set[s] = r.with(s), true
		}
		begin := 0
		for s := uint64(0); s < 90; s++ {
			if r.has(s) != set[s] {
				t.Fatalf("%d in %v", s, r)
			}
			if s > 0 && set[s] && !set[s-1] {
				begin++
			}
		}
		if len(r) != begin {
			t.Fatalf("%d runs would do for %v", begin, r)
		}
		if err := (Digest{"r1": r[max(0, len(r)-maxRuns):]}).check(); err != nil {
			t.Fatal(err, r)
		}
	}
}

// TestDigestFits: the digest of the largest cluster fits into a message, and of
// many restarts the newest are told.
func TestDigestFits(t *testing.T) {
	s := store{}
	for i := range maxNodes {
		for j := range uint64(60) {
			s.add(Event{Node: fmt.Sprintf("%0*d", maxNode, i), Seq: maxSeq - 1000 + 2*j})
		}
	}
	b, err := encodeDigest(s.digest(), true)
	if err != nil {
		t.Fatal(err)
	}
	m, err := decode(b)
	if err != nil || len(m.Have) != maxNodes {
		t.Fatal(len(m.Have), err)
	}
	one := store{}
	for j := range uint64(60) {
		one.add(Event{Node: "r1", Seq: 10 + 2*j})
	}
	if r := one.digest()["r1"]; len(r) != maxRuns || r[0][0] != 0 || r[maxRuns-1] != [2]uint64{128, 128} {
		t.Errorf("%v", r)
	}
}
