package replica

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"harouter/conntracksync"
)

// table is a kernel's connection table for a test. It complains of what no
// kernel is asked to do.
type table struct {
	t    *testing.T
	hear Hear
	news chan func() // to be told by Listen

	mu       sync.Mutex
	flows    map[conntracksync.Key]conntracksync.Flow
	expected map[conntracksync.Tuple]conntracksync.Expectation
	done     []string // kinds of changes
	delay    time.Duration
	fails    error // of the next Open
	opens    int
	broke    chan error
}

func newTable(t *testing.T) *table {
	return &table{t: t, news: make(chan func(), 1000), flows: map[conntracksync.Key]conntracksync.Flow{}, expected: map[conntracksync.Tuple]conntracksync.Expectation{}, broke: make(chan error, 1)}
}

func (k *table) open(h Hear) (Kernel, int, conntracksync.Timeouts, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fails; err != nil {
		k.fails = nil
		return nil, 0, conntracksync.Timeouts{}, err
	}
	k.hear = h
	k.opens++
	return k, 1000, conntracksync.DefaultTimeouts(), nil
}

func (k *table) Do(_ context.Context, a conntracksync.Action) (int, []conntracksync.Flow, error) {
	k.mu.Lock()
	delay := k.delay
	k.mu.Unlock()
	time.Sleep(delay)
	k.mu.Lock()
	defer k.mu.Unlock()
	put := func(what string, flows []conntracksync.Flow) {
		for _, f := range flows {
			k.flows[conntracksync.KeyOf(f.Original, f.Zone)] = f
			k.done = append(k.done, what)
		}
	}
	switch a := a.(type) {
	case *conntracksync.Install:
		put("install", a.Flows)
	case *conntracksync.Update:
		put("update", a.Flows)
	case *conntracksync.SetTimeouts:
		put("time", a.Flows)
	case *conntracksync.Remove:
		for _, f := range a.Flows {
			delete(k.flows, conntracksync.KeyOf(f.Original, f.Zone))
			k.done = append(k.done, "remove")
		}
	case *conntracksync.Expect:
		for _, e := range a.Expectations {
			k.expected[e.Tuple] = e
		}
	case *conntracksync.Unexpect:
		for _, e := range a.Expectations {
			delete(k.expected, e.Tuple)
		}
	case *conntracksync.Read:
		for i := range a.Flows {
			f := &a.Flows[i]
			if there, ok := k.flows[conntracksync.KeyOf(f.Original, f.Zone)]; ok {
				*f = there
			}
		}
	default:
		k.t.Errorf("the kernel is asked for %T", a)
	}
	return 0, nil, nil
}

func (k *table) Dump(_ context.Context, _ func(), each func(*conntracksync.Flow), expected func(*conntracksync.Expectation)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.flows {
		each(&f)
	}
	for _, e := range k.expected {
		expected(&e)
	}
	return nil
}

func (k *table) Listen(ctx context.Context) error {
	for {
		select {
		case tell := <-k.news:
			tell()
			if len(k.news) == 0 {
				k.hear.Idle()
			}
		case err := <-k.broke:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *table) Close() error { return nil }

// begin lets flows come into being by packets.
func (k *table) begin(flows ...conntracksync.Flow) {
	for _, f := range flows {
		k.mu.Lock()
		k.flows[conntracksync.KeyOf(f.Original, f.Zone)] = f
		k.mu.Unlock()
		k.news <- func() { k.hear.Event(&conntracksync.Event{Kind: conntracksync.Began, Flow: f}) }
	}
}

// end lets them time out.
func (k *table) end(flows ...conntracksync.Flow) {
	for _, f := range flows {
		k.mu.Lock()
		delete(k.flows, conntracksync.KeyOf(f.Original, f.Zone))
		k.mu.Unlock()
		k.news <- func() { k.hear.Event(&conntracksync.Event{Kind: conntracksync.Ended, Flow: f}) }
	}
}

func (k *table) has() []uint16 {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := []uint16{}
	for _, f := range k.flows {
		out = append(out, f.Original.SourcePort)
	}
	slices.Sort(out)
	return out
}

// flow is an established connection from that port, through NAT.
func flow(port uint16) conntracksync.Flow {
	o := conntracksync.Tuple{
		Source: netip.MustParseAddr("192.168.77.100"), Destination: netip.MustParseAddr("198.51.100.1"),
		Protocol: conntracksync.TCP, SourcePort: port, DestinationPort: 443,
	}
	r := o.Inverse()
	r.Destination = netip.MustParseAddr("203.0.113.10")
	return conntracksync.Flow{
		Original: o, Reply: r, Mark: 0x100, Timeout: 432000, ID: uint32(port),
		Status: conntracksync.SeenReply | conntracksync.Assured | conntracksync.Confirmed | conntracksync.SourceNAT,
		TCP:    conntracksync.TCPInfo{State: conntracksync.Established},
	}
}

// node is one replica of a test, with its kernel.
type node struct {
	*Replica
	name   string
	kernel *table
	other  *node
	ready  chan struct{}
	wire   chan []byte // to this node
	up     bool

	mu     sync.Mutex
	states []string
	starts int       // sessions that it restarted
	heard  time.Time // when the other node was heard last, by gossip
	limit  int       // of the other node, as it was told
}

// Sessions of a node.
func (n *node) Send(_ string, frame []byte) bool {
	n.other.wire <- slices.Clone(frame)
	return true
}

func (n *node) Restart(_ string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.starts++
}

func (n *node) Barrier(ctx context.Context, _ string) error {
	done := make(chan struct{})
	go func() {
		for len(n.other.wire) > 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Millisecond) // the last one is being handled
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *node) Behind(string) (time.Duration, bool) { return time.Millisecond, n.up }

// deliver brings the frames while there is a session.
func (n *node) deliver(ctx context.Context) {
	n.Up(n.other.name)
	for {
		select {
		case f := <-n.wire:
			n.Frame(n.other.name, f, len(n.wire) > 0)
		case <-ctx.Done():
			n.Down(n.other.name)
			for len(n.wire) > 0 {
				<-n.wire
			}
			return
		}
	}
}

// pairOf are two running replicas; meet begins a session and returns its end.
func pairOf(t *testing.T) (a, b *node, meet func() (part func())) {
	make1 := func(name string) *node {
		n := &node{name: name, kernel: newTable(t), ready: make(chan struct{}), wire: make(chan []byte, 10000)}
		n.Replica = New(Config{
			Node: name, Boot: 1, Ready: n.ready, Open: n.kernel.open, Sessions: n, Settings: Settings{Enabled: true},
			Report: func(node string, s conntracksync.PeerState) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.states = append(n.states, s.String())
			},
			Heard: func(context.Context, string) time.Time {
				n.mu.Lock()
				defer n.mu.Unlock()
				if n.heard.IsZero() {
					return time.Now()
				}
				return n.heard
			},
			Limit: func(_ string, flows int) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.limit = flows
			},
		})
		return n
	}
	a, b = make1("r1"), make1("r2")
	a.other, b.other = b, a
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, n := range []*node{a, b} {
		wg.Go(func() {
			if err := n.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return a, b, func() func() {
		ctx, cancel := context.WithCancel(ctx)
		var met sync.WaitGroup
		for _, n := range []*node{a, b} {
			n.up = true
			met.Go(func() { n.deliver(ctx) })
		}
		return func() { cancel(); met.Wait(); a.up, b.up = false, false }
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func settle() { time.Sleep(500 * time.Millisecond); synctest.Wait() }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

var errTest = errors.New("broken by the test")

func wantFlows(t *testing.T, n *node, ports ...uint16) {
	t.Helper()
	if got := n.kernel.has(); fmt.Sprint(got) != fmt.Sprint(ports) {
		t.Errorf("%s has the flows %v, want %v", n.name, got, ports)
	}
}
