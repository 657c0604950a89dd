package conntracksync

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// node is a Table with a pretended kernel.
type node struct {
	name     string
	table    *Table
	kernel   map[Tuple]Flow
	expected map[Tuple]Expectation
	did      []string // the kernel's changes, of one batch each
	bytes    int
	frames   int
}

// site is some nodes that are connected to each other, and the time.
type site struct {
	t     *testing.T
	now   time.Time
	nodes []*node
	up    map[[2]string]bool
	lost  func(from, to string, frame []byte) bool
}

func newSite(t *testing.T, names ...string) *site {
	s := &site{t: t, now: time.Unix(1e9, 0), up: map[[2]string]bool{}}
	for _, n := range names {
		s.nodes = append(s.nodes, &node{name: n})
		s.boot(n)
	}
	return s
}

func (s *site) boot(name string) *node {
	n := s.node(name)
	n.table = NewTable(Config{Node: name, Boot: rand.Uint64(), Limit: 4096, Timeouts: DefaultTimeouts(),
		Ignore: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	n.kernel, n.expected = map[Tuple]Flow{}, map[Tuple]Expectation{}
	return n
}

func (s *site) node(name string) *node {
	for _, n := range s.nodes {
		if n.name == name {
			return n
		}
	}
	s.t.Fatalf("no node %s", name)
	return nil
}

func (s *site) connect(a, b string) {
	s.up[[2]string{a, b}], s.up[[2]string{b, a}] = true, true
	s.node(a).table.Connected(s.now, b)
	s.node(b).table.Connected(s.now, a)
	s.work()
}

func (s *site) disconnect(a, b string) {
	delete(s.up, [2]string{a, b})
	delete(s.up, [2]string{b, a})
	s.node(a).table.Disconnected(s.now, b)
	s.node(b).table.Disconnected(s.now, a)
	s.work()
}

func (s *site) master(name string, term uint64) {
	for _, n := range s.nodes {
		n.table.SetRole(s.now, Role{n.name == name, term})
	}
	s.work()
}

// work does what all want until nobody wants anything.
func (s *site) work() {
	s.t.Helper()
	for range 10000 {
		quiet := true
		for _, n := range s.nodes {
			for _, a := range n.table.Work(s.now) {
				quiet = false
				s.do(n, a)
			}
		}
		if quiet {
			return
		}
	}
	s.t.Fatal("it never ends")
}

func (s *site) do(n *node, a Action) {
	s.t.Helper()
	switch a := a.(type) {
	case *Install:
		n.did = append(n.did, fmt.Sprintf("install %d", len(a.Flows)))
		for _, f := range a.Flows {
			n.kernel[f.Original] = f
		}
	case *Update:
		n.did = append(n.did, fmt.Sprintf("update %d", len(a.Flows)))
		for _, f := range a.Flows {
			if old, ok := n.kernel[f.Original]; !ok || old.Reply != f.Reply {
				s.t.Errorf("%s: update of %v, which is not there", n.name, f.Original)
			}
			n.kernel[f.Original] = f
		}
	case *Remove:
		n.did = append(n.did, fmt.Sprintf("remove %d", len(a.Flows)))
		for _, f := range a.Flows {
			delete(n.kernel, f.Original)
		}
	case *SetTimeouts:
		for _, f := range a.Flows {
			old, ok := n.kernel[f.Original]
			if ok {
				old.Timeout = f.Timeout
				n.kernel[f.Original] = old
			}
		}
	case *Expect:
		for _, e := range a.Expectations {
			if _, ok := n.kernel[e.Master]; !ok {
				s.t.Errorf("%s: %v before its master", n.name, e)
			}
			n.expected[e.Tuple] = e
		}
	case *Unexpect:
		for _, e := range a.Expectations {
			delete(n.expected, e.Tuple)
		}
	case *Read:
		for i, f := range a.Flows {
			if there, ok := n.kernel[f.Original]; ok {
				there.ID = 1
				a.Flows[i] = there
			}
		}
		n.table.WasRead(s.now, a)
	case *Send:
		n.bytes += len(a.Frame)
		n.frames++
		if len(a.Frame) > MaxFrame {
			s.t.Errorf("%s: a frame of %d bytes", n.name, len(a.Frame))
		}
		if !s.up[[2]string{n.name, a.Node}] || s.lost != nil && s.lost(n.name, a.Node, a.Frame) {
			return
		}
		if err := s.node(a.Node).table.Received(s.now, n.name, a.Frame); err != nil {
			s.t.Errorf("%s: %v", a.Node, err)
		}
	}
}

// pass lets time pass, in the steps at which somebody has something to do.
func (s *site) pass(d time.Duration) {
	s.t.Helper()
	until := s.now.Add(d)
	for {
		next := until
		for _, n := range s.nodes {
			if at, ok := n.table.Deadline(); ok && at.Before(next) {
				next = at
			}
		}
		if next.After(s.now) {
			s.now = next
		}
		s.work()
		if !s.now.Before(until) {
			return
		}
	}
}

// packet makes or changes a flow on a node, as a packet does, or ends it.
func (s *site) packet(name string, kind EventKind, f Flow) {
	s.t.Helper()
	n := s.node(name)
	e := &Event{Kind: kind, Flow: f, Told: ToldState | ToldTimeout}
	if kind == Ended {
		delete(n.kernel, f.Original)
		e.Flow.Timeout = 0
		e.Flow.Status |= Dying // the kernel sets it before it tells the end
	} else {
		n.kernel[f.Original] = f
	}
	n.table.Heard(s.now, e)
}

// same checks that two nodes' kernels hold the same.
func (s *site) same(a, b string) {
	s.t.Helper()
	told := func(n *node) map[Tuple]Flow {
		m := map[Tuple]Flow{}
		for k, f := range n.kernel {
			p, r := pack(&f)
			f = unpack(&p, &r)
			f.Timeout = 0
			m[k] = f
		}
		return m
	}
	if maps.Equal(told(s.node(a)), told(s.node(b))) {
		return
	}
	if diff := cmp.Diff(told(s.node(a)), told(s.node(b)), equalAddr); diff != "" {
		s.t.Errorf("kernels (-%s +%s):\n%s", a, b, diff)
	}
}

func (s *site) holds(name string, want int) {
	s.t.Helper()
	if got := len(s.node(name).kernel); got != want {
		s.t.Errorf("%s holds %d flows, want %d", name, got, want)
	}
}

func (s *site) synced(want PeerState) {
	s.t.Helper()
	for _, n := range s.nodes {
		for _, p := range n.table.Peers() {
			if p.State != want || p.Resyncs != 0 {
				s.t.Errorf("%s says of %+v, want %v", n.name, p, want)
			}
		}
	}
}

func in(f Flow, state TCPState, status Status) Flow {
	f.TCP.State, f.Status = state, status|Confirmed|f.Status&(SourceNAT|DestNAT)
	return f
}

func pair(t *testing.T) *site {
	s := newSite(t, "r1", "r2")
	s.connect("r1", "r2")
	s.master("r1", 1)
	s.synced(Synced)
	return s
}

func TestWhatIsTold(t *testing.T) {
	f := natted(4000)
	udp := plain(Tuple{Source: nat4[0], Destination: server4, Protocol: UDP, SourcePort: 9000, DestinationPort: 53})
	type step struct {
		after time.Duration
		kind  EventKind
		flow  Flow
	}
	for _, c := range []struct {
		name  string
		steps []step
		want  []string // what the other node's kernel is to do
	}{
		{"established is told at once", []step{{0, Began, f}}, []string{"install 1"}},
		{"half open is not", []step{{0, Began, in(f, SYNSent, 0)}}, nil},
		{"half open is after 100 ms", []step{{0, Began, in(f, SYNSent, 0)}, {100 * time.Millisecond, 0, f}}, []string{"install 1"}},
		{"died in the window", []step{{0, Began, in(f, SYNSent, 0)}, {50 * time.Millisecond, Ended, f}, {time.Second, 0, f}}, nil},
		{"established within the window, once", []step{{0, Began, in(f, SYNSent, 0)}, {time.Millisecond, Changed, in(f, SYNReceived, SeenReply)},
			{time.Millisecond, Changed, f}, {time.Second, 0, f}}, []string{"install 1"}},
		{"a UDP question waits", []step{{0, Began, udp}, {99 * time.Millisecond, 0, f}}, nil},
		{"a UDP stream does not", []step{{0, Began, udp}, {0, Changed, in(udp, 0, SeenReply|Assured)}}, []string{"install 1"}},
		{"closing is told once", []step{{0, Began, f}, {0, 0, f}, {10 * time.Millisecond, Changed, in(f, FINWait, SeenReply|Assured)},
			{10 * time.Millisecond, Changed, in(f, TimeWait, SeenReply|Assured)}, {time.Second, 0, f}}, []string{"install 1", "update 1"}},
		{"an end", []step{{0, Began, f}, {0, 0, f}, {0, Ended, f}}, []string{"install 1", "remove 1"}},
		{"the same again is not told", []step{{0, Began, f}, {0, 0, f}, {0, Changed, f}, {time.Second, 0, f}}, []string{"install 1"}},
		{"what was over before it was told", []step{{0, Began, in(f, SYNSent, 0)}, {0, Changed, in(f, TimeWait, SeenReply)}, {time.Second, 0, f}}, nil},
		{"the name is used again", []step{{0, Began, f}, {0, 0, f}, {0, Ended, f}, {0, Began, f}}, []string{"install 1", "remove 1", "install 1"}},
		{"the router's own", []step{{0, Began, plain(Tuple{Source: netip.MustParseAddr("192.0.2.1"), Destination: server4, Protocol: TCP})}, {time.Second, 0, f}}, nil},
		{"the loopback's", []step{{0, Began, plain(Tuple{Source: netip.MustParseAddr("127.0.0.1"), Destination: netip.MustParseAddr("127.0.0.1"), Protocol: UDP})}, {time.Second, 0, f}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := pair(t)
			for _, step := range c.steps {
				s.pass(step.after)
				if step.kind != 0 {
					s.packet("r1", step.kind, step.flow)
				}
			}
			s.work()
			if diff := cmp.Diff(c.want, s.node("r2").did); diff != "" {
				t.Errorf("r2 (-want +got):\n%s", diff)
			}
			for _, f := range s.node("r2").kernel {
				if f.Timeout != 3600 {
					t.Errorf("it has %d s", f.Timeout)
				}
			}
		})
	}
}

// fill makes n established flows on a node.
func (s *site) fill(name string, from, n int) {
	for i := range n {
		s.packet(name, Began, natted(from+i))
	}
	s.work()
}

func TestTakeover(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 1000)
	s.same("r1", "r2")
	s.disconnect("r1", "r2")
	if got := s.node("r2").table.Peers()[0].State; got != Stale {
		t.Errorf("r1 is %v", got)
	}
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.work()
	s.holds("r2", 1000)
	for _, f := range s.node("r2").kernel {
		if f.Timeout != 432000 {
			t.Fatalf("%d s, not those of the protocol", f.Timeout)
		}
	}
	// Some end, others begin; then r1 is back, empty.
	for i := range 300 {
		s.packet("r2", Ended, natted(2000+i))
	}
	s.fill("r2", 8000, 50)
	s.boot("r1")
	s.connect("r1", "r2")
	s.pass(10 * time.Second)
	s.synced(Synced)
	s.holds("r2", 750)
	s.same("r1", "r2")
	if own, all := s.node("r2").table.Len(); own != 750 || all != 750 {
		t.Errorf("r2 owns %d of %d", own, all)
	}
	if own, all := s.node("r1").table.Len(); own != 0 || all != 750 {
		t.Errorf("r1 owns %d of %d", own, all)
	}
}

// TestHandOver: both nodes live; packets of some flows still pass the old
// master, and what it saw of them is not lost.
func TestHandOver(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 500)
	half := natted(9000)
	s.packet("r1", Began, in(half, SYNSent, 0))
	s.pass(time.Second)
	s.master("r2", 2)
	s.packet("r1", Changed, half) // the answer came by the old way
	s.packet("r1", Began, natted(9500))
	s.pass(time.Second)
	s.same("r1", "r2")
	s.holds("r2", 502)
	if got := s.node("r2").kernel[half.Original]; got.TCP.State != Established || got.Status&Assured == 0 {
		t.Errorf("%+v", got)
	}
	if own, _ := s.node("r2").table.Len(); own != 502 {
		t.Errorf("r2 owns %d", own)
	}
	if own, _ := s.node("r1").table.Len(); own != 0 {
		t.Errorf("r1 owns %d", own)
	}
	// They end at the new master; the old one's copies go with them.
	for i := range 500 {
		s.packet("r2", Ended, natted(2000+i))
	}
	s.pass(10 * time.Second)
	s.holds("r1", 2)
	s.synced(Synced)
}

// TestPartition: both are master and make flows, some by the same name. The one
// that stays keeps its own, and gets those of the other that it lacks.
func TestPartition(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 100)
	s.disconnect("r1", "r2")
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.fill("r1", 3000, 100)
	s.fill("r2", 4000, 100)
	here, there := natted(5000), natted(5000)
	there.Reply.DestinationPort = 7777
	s.packet("r1", Began, here)
	s.packet("r2", Began, there)
	// One side ended what the other still has.
	s.packet("r1", Ended, natted(2000))
	s.master("r1", 3)
	s.connect("r1", "r2")
	s.pass(10 * time.Second)
	s.same("r1", "r2")
	s.holds("r1", 301)
	if got := s.node("r1").kernel[here.Original].Reply; got != here.Reply {
		t.Errorf("the one that stays has %v", got)
	}
	if own, _ := s.node("r2").table.Len(); own != 0 {
		t.Errorf("r2 owns %d", own)
	}
}

// TestTwoMasters: while both say that they are it, they do not take flows from
// each other for ever.
func TestTwoMasters(t *testing.T) {
	s := newSite(t, "r1", "r2")
	for _, n := range s.nodes {
		n.table.SetRole(s.now, Role{true, 1})
	}
	s.fill("r1", 2000, 10)
	s.fill("r2", 2005, 10)
	s.connect("r1", "r2")
	s.pass(20 * time.Second)
	if n := s.node("r1").frames + s.node("r2").frames; n > 60 {
		t.Errorf("%d frames", n)
	}
	s.same("r1", "r2")
	s.master("r1", 2)
	s.pass(time.Second)
	if own, _ := s.node("r1").table.Len(); own != 15 {
		t.Errorf("r1 owns %d", own)
	}
}

func TestThreeNodes(t *testing.T) {
	s := newSite(t, "r1", "r2", "r3")
	s.connect("r1", "r2")
	s.connect("r2", "r3")
	s.connect("r1", "r3")
	s.master("r1", 1)
	s.fill("r1", 2000, 300)
	s.same("r1", "r2")
	s.same("r1", "r3")
	// r1 dies, r2 goes on; what r1 told goes over to r2 on r3 too.
	s.disconnect("r1", "r2")
	s.disconnect("r1", "r3")
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.work()
	s.packet("r2", Ended, natted(2000))
	s.fill("r2", 5000, 1)
	s.pass(15 * time.Minute) // longer than a dead peer's flows are kept
	s.same("r2", "r3")
	s.holds("r3", 300)
}

// TestLostFrames: a fault in what a peer holds is found by the digests and mended.
func TestLostFrames(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 200)
	s.lost = func(_, to string, frame []byte) bool { return to == "r2" && kind(frame[0]) == endsFrame }
	for i := range 50 {
		s.packet("r1", Ended, natted(2000+i))
	}
	s.work()
	s.lost = nil
	s.holds("r2", 200)
	s.fill("r1", 6000, 20)
	s.pass(2 * digestEvery)
	s.holds("r2", 170)
	s.same("r1", "r2")
	if p := s.node("r2").table.Peers()[0]; p.Resyncs != 1 || p.State != Synced {
		t.Errorf("%+v", p)
	}
}

// TestGoneHere: what another program deletes on the backup comes back, unless
// the owner says that it ended.
func TestGoneHere(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 10)
	s.packet("r2", Ended, natted(2000))
	s.packet("r2", Ended, natted(2001))
	s.packet("r1", Ended, natted(2001))
	s.pass(missingFor / 2)
	s.holds("r2", 8)
	s.pass(missingFor)
	s.holds("r2", 9)
	s.same("r1", "r2")
}

// TestOverrun: after events were lost the table is read anew.
func TestOverrun(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 100)
	r1 := s.node("r1")
	delete(r1.kernel, natted(2000).Original)
	r1.kernel[natted(7000).Original] = natted(7000)
	s.dump("r1", false)
	s.pass(time.Second)
	s.same("r1", "r2")
	s.holds("r2", 100)
	r2 := s.node("r2")
	delete(r2.kernel, natted(2001).Original)
	s.dump("r2", false)
	s.pass(2 * time.Second)
	s.same("r1", "r2")
	if own, _ := r2.table.Len(); own != 0 {
		t.Errorf("r2 owns %d", own)
	}
}

func (s *site) dump(name string, first bool) {
	n := s.node(name)
	n.table.Dump()
	for _, f := range n.kernel {
		n.table.Dumped(s.now, &f, first)
	}
	for _, e := range n.expected {
		n.table.ExpectationDumped(s.now, &e, first)
	}
	n.table.DumpDone(s.now)
	s.work()
}

// TestDaemonRestarts: a backup's new daemon does not take the flows that it
// finds for its own; a master's does.
func TestDaemonRestarts(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 100)
	for _, name := range []string{"r2", "r1"} {
		kernel := s.node(name).kernel
		s.disconnect("r1", "r2")
		s.boot(name).kernel = kernel
		s.packet("r1", Ended, natted(2000))
		s.dump(name, true)
		s.node("r1").table.SetRole(s.now, Role{true, 1})
		s.connect("r1", "r2")
		s.pass(time.Second)
		s.synced(Synced)
		if own, _ := s.node("r1").table.Len(); own != 99 {
			t.Errorf("%s restarted: r1 owns %d", name, own)
		}
		if own, _ := s.node("r2").table.Len(); own != 0 {
			t.Errorf("%s restarted: r2 owns %d", name, own)
		}
	}
	// The one that ended meanwhile goes with its own time, not the long one.
	if f := s.node("r2").kernel[natted(2000).Original]; f.Timeout != 432000 {
		t.Errorf("%d s", f.Timeout)
	}
}

// TestMasterBeforeTheTableIsRead: what is found then is this node's too, with the
// time of its protocol, not that of another's flow.
func TestMasterBeforeTheTableIsRead(t *testing.T) {
	s := newSite(t, "r1")
	held := natted(2000)
	held.Timeout = uint32(defaultHold / time.Second)
	s.node("r1").kernel[held.Original] = held
	s.node("r1").table.SetRole(s.now, Role{true, 1})
	s.work()
	s.dump("r1", true)
	if f := s.node("r1").kernel[held.Original]; f.Timeout != 432000 {
		t.Errorf("%d s", f.Timeout)
	}
}

// TestSyncIsPaced: a sync of a large table goes in steps that the peer
// acknowledges, and changes meanwhile are not lost.
func TestSyncIsPaced(t *testing.T) {
	s := newSite(t, "r1", "r2")
	s.node("r1").table.SetRole(s.now, Role{true, 1})
	for _, n := range s.nodes {
		n.table.config.Limit = 60000
	}
	s.fill("r1", 0, 50000)
	deaf := true
	s.lost = func(_, to string, frame []byte) bool { return deaf && to == "r1" && kind(frame[0]) == ackFrame }
	s.connect("r1", "r2")
	if n := s.node("r1").frames; n > window+5 {
		t.Errorf("%d frames without an acknowledgement", n)
	}
	if got := s.node("r1").table.Peers()[0]; got.State != Syncing || got.Progress != 0 {
		t.Errorf("it is %v, %v are done", got.State, got.Progress)
	}
	if got := s.node("r2").table.Peers()[0].Progress; got < 0.2 || got > 0.9 {
		t.Errorf("%v are done", got)
	}
	for i := range 1000 {
		s.packet("r1", Ended, natted(50*i))
		s.packet("r1", Changed, in(natted(50*i+1), FINWait, SeenReply|Assured))
	}
	s.pass(time.Second)
	// A session that lost frames begins anew.
	deaf = false
	s.disconnect("r1", "r2")
	s.connect("r1", "r2")
	s.pass(2 * digestEvery)
	s.synced(Synced)
	s.same("r1", "r2")
	if n := s.node("r1").bytes; n > 2*50000*24 {
		t.Errorf("%d bytes", n)
	}
}

// TestSlowSync: whose sync is acknowledged slowly is waited for at rest.
func TestSlowSync(t *testing.T) {
	s := newSite(t, "r1", "r2")
	s.lost = func(_, to string, frame []byte) bool { return to == "r1" && kind(frame[0]) == ackFrame }
	s.master("r1", 1)
	s.fill("r1", 0, 10)
	s.connect("r1", "r2")
	s.now = s.now.Add(2 * digestEvery)
	s.work()
	if at, ok := s.node("r1").table.Deadline(); ok && !at.After(s.now) {
		t.Error("there is something to do at once, and it is done")
	}
}

// TestLeftOut: settings that leave out flows which are known let these go on
// until they end; others are not told any more.
func TestLeftOut(t *testing.T) {
	for name, configure := range map[string]func(*Table){
		"by network":  func(t *Table) { t.Configure(nil, []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, nil) },
		"by protocol": func(t *Table) { t.Configure([]Protocol{UDP}, nil, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			s := pair(t)
			s.fill("r1", 0, 3)
			s.pass(time.Second)
			for _, n := range s.nodes {
				configure(n.table)
			}
			s.packet("r1", Began, natted(10))
			s.packet("r1", Changed, in(natted(1), FINWait, SeenReply|Assured))
			s.packet("r1", Ended, natted(2))
			s.pass(time.Second)
			delete(s.node("r1").kernel, natted(10).Original)
			s.same("r1", "r2")
			s.holds("r2", 2)
			// Neither is one of them given up because the table was read again.
			table := s.node("r1").table
			table.Dump()
			for _, f := range s.node("r1").kernel {
				table.Dumped(s.now, &f, false)
			}
			table.DumpDone(s.now)
			s.pass(time.Second)
			s.holds("r2", 2)
			s.packet("r1", Ended, natted(0))
			s.packet("r1", Ended, natted(1))
			s.pass(time.Second)
			s.holds("r2", 0)
			if own, all := table.Len(); own != 0 || all != 0 {
				t.Errorf("%d own of %d flows are left", own, all)
			}
		})
	}
}

func TestTableIsBounded(t *testing.T) {
	s := pair(t)
	s.node("r2").table.config.Limit = 50
	s.fill("r1", 2000, 100)
	s.holds("r2", 50)
	for range 3 {
		for i := range 100 {
			s.packet("r1", Ended, natted(2000+i))
		}
		s.fill("r1", 2000, 100)
	}
	s.pass(2 * digestEvery)
	s.synced(Synced)
	s.holds("r2", 50)
	for i := range 5000 {
		s.packet("r1", Began, natted(10000+i))
	}
	s.pass(time.Second)
	if own, all := s.node("r1").table.Len(); own != 4096 || all != 4096 {
		t.Errorf("%d, %d", own, all)
	}
	if n := s.node("r1").table.Drops()["table_size"]; n != 5000-(4096-100) {
		t.Errorf("%d dropped", n)
	}
}

func TestRenewed(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 200)
	age := func() {
		for k, f := range s.node("r2").kernel {
			f.Timeout -= 60
			s.node("r2").kernel[k] = f
		}
	}
	for range 180 {
		s.pass(time.Minute)
		age()
		for _, f := range s.node("r2").kernel {
			if f.Timeout < 1700 {
				t.Fatalf("%d s left", f.Timeout)
			}
		}
	}
}

// TestAnyOrder: whatever happens where, in the end both hold the same.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		s := pair(t)
		term, master := uint64(1), "r1"
		for range 300 {
			f := natted(2000 + r.IntN(40))
			states := []TCPState{SYNSent, SYNReceived, Established, Established, Established, FINWait, CloseWait}
			f = in(f, states[r.IntN(len(states))], SeenReply|Assured)
			switch r.IntN(12) {
			case 0, 1, 2, 3:
				s.packet(master, Began, f)
			case 4, 5, 6:
				s.packet(master, Changed, f)
			case 7, 8:
				s.packet(master, Ended, f)
			case 9:
				s.pass(time.Duration(r.IntN(300)) * time.Millisecond)
			case 10:
				switch r.IntN(6) {
				case 0:
					term++
					master = map[string]string{"r1": "r2", "r2": "r1"}[master]
					s.master(master, term)
				case 1:
					s.disconnect("r1", "r2")
					s.fill(master, 2000+r.IntN(40), 3)
					s.connect("r1", "r2")
				case 2:
					s.packet(map[string]string{"r1": "r2", "r2": "r1"}[master], Ended, f)
				case 3:
					s.dump(master, false)
				}
			case 11:
				s.work()
			}
		}
		s.pass(3 * digestEvery)
		s.same("r1", "r2")
		s.synced(Synced)
		for _, n := range s.nodes {
			told := 0
			for i := range n.table.slots {
				if n.table.slots[i].told {
					told++
				}
			}
			if got := n.table.Told(); got != told {
				t.Errorf("%s: %d flows are told, it says %d", n.name, told, got)
			}
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestFramesThatAreRefused(t *testing.T) {
	ok := hello{Version, "r1", 1, 10, Role{}}.append(nil)
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   string
	}{
		{"empty", [][]byte{{}}, "0 bytes"},
		{"too long", [][]byte{make([]byte, MaxFrame+1)}, "bytes"},
		{"no hello", [][]byte{{byte(digestFrame)}}, "before the hello"},
		{"another version", [][]byte{{byte(helloFrame), 9, 1, 2}}, "another version of flow replication: 9, here it is 1"},
		{"another node", [][]byte{hello{Version, "r7", 1, 10, Role{}}.append(nil)}, `says that it is "r7"`},
		{"half a hello", [][]byte{ok[:9]}, "too short"},
		{"an unknown kind", [][]byte{ok, {99}}, "no meaning"},
		{"an end of nothing", [][]byte{ok, {byte(endsFrame), 8}}, "no meaning"},
		{"a change of nothing", [][]byte{ok, append([]byte{byte(flowsFrame)}, encode([]Flow{natted(1)}, true)...)}, "never told"},
		{"a digest too long", [][]byte{ok, make([]byte, 2+8*buckets)}, "no meaning"},
		{"an acknowledgement of what was not sent", [][]byte{ok, {byte(ackFrame), 0, 0, 0, 0, 0, 0, 0, 99}}, "acknowledges 99"},
		{"a role that is none", [][]byte{ok, {byte(roleFrame), 2, 0, 0, 0, 0, 0, 0, 0, 0}}, "no meaning"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := NewTable(Config{Node: "r2", Limit: 10, Timeouts: DefaultTimeouts()})
			table.Connected(time.Time{}, "r1")
			var err error
			for _, f := range c.frames {
				if err != nil {
					t.Fatal(err)
				}
				err = table.Received(time.Time{}, "r1", f)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// FuzzReceived: no frame makes a table fall over, or hold more than its limit.
func FuzzReceived(f *testing.F) {
	s := newSite(&testing.T{}, "r1", "r2")
	var seen [][]byte
	s.lost = func(_, to string, frame []byte) bool {
		if len(seen) < 40 && to == "r2" {
			seen = append(seen, slices.Clone(frame))
		}
		return false
	}
	s.connect("r1", "r2")
	s.master("r1", 1)
	s.fill("r1", 2000, 5)
	s.packet("r1", Ended, natted(2001))
	s.pass(10 * time.Second)
	e := data(5000)
	end := e.name()
	seen = append(seen, e.append([]byte{byte(expectFrame)}), end.append([]byte{byte(unexpectFrame)}))
	for i, b := range seen {
		f.Add(b, seen[(i+1)%len(seen)])
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		table, now := NewTable(Config{Node: "r2", Limit: 8, Timeouts: DefaultTimeouts()}), time.Unix(1e9, 0)
		table.SetRole(now, Role{len(a)%2 == 0, 1})
		table.Connected(now, "r1")
		_ = table.Received(now, "r1", hello{Version, "r1", 1, 100, Role{}}.append(nil))
		for _, frame := range [][]byte{a, b, a} {
			_ = table.Received(now, "r1", frame)
			table.Work(now)
			now = now.Add(time.Minute)
		}
		if _, all := table.Len(); all > 8 {
			t.Fatalf("%d flows", all)
		}
		table.Disconnected(now, "r1")
		table.Work(now.Add(time.Hour))
	})
}

// BenchmarkTell is what an established flow and its end cost the node that has
// it.
func BenchmarkTell(b *testing.B) {
	s := newSite(&testing.T{}, "r1", "r2")
	s.connect("r1", "r2")
	events := make([]Event, 1000)
	for i := range events {
		events[i] = Event{Kind: Began, Flow: natted(2000 + i), Told: ToldState}
	}
	table, bytes := s.node("r1").table, 0
	b.ReportAllocs()
	for b.Loop() {
		for _, k := range []EventKind{Began, Ended} {
			for i := range events {
				events[i].Kind = k
				table.Heard(s.now, &events[i])
			}
			for _, a := range table.Work(s.now) {
				if a, ok := a.(*Send); ok {
					bytes += len(a.Frame)
				}
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/flow")
	b.ReportMetric(float64(bytes)/float64(b.N)/1000, "B/flow")
}

// BenchmarkTake is what they cost the one that is told.
func BenchmarkTake(b *testing.B) {
	s := newSite(&testing.T{}, "r1", "r2")
	var frames [][]byte
	s.connect("r1", "r2")
	s.lost = func(_, to string, frame []byte) bool {
		if to == "r2" {
			frames = append(frames, frame)
		}
		return false
	}
	s.fill("r1", 2000, 1000)
	for i := range 1000 {
		s.packet("r1", Ended, natted(2000+i))
	}
	s.work()
	table := s.node("r2").table
	b.ReportAllocs()
	for b.Loop() {
		for _, f := range frames {
			if err := table.Received(s.now, "r1", f); err != nil {
				b.Fatal(err)
			}
		}
		table.Work(s.now)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/flow")
}

// TestLateEnd: the end of an entry that is told after the begin of the next one
// by the same name ends nothing.
func TestLateEnd(t *testing.T) {
	s := pair(t)
	first, second := natted(2000), natted(2000)
	first.ID, second.ID = 1, 2
	s.packet("r1", Began, first)
	s.work()
	s.packet("r1", Began, second)
	s.node("r1").table.Heard(s.now, &Event{Kind: Ended, Flow: first})
	s.pass(time.Second)
	s.holds("r2", 1)
	s.packet("r1", Ended, second)
	s.work()
	s.holds("r2", 0)
}

// TestBeginsBeforeAcknowledged: the sync is sent, and what begins now is not in
// it.
func TestBeginsBeforeAcknowledged(t *testing.T) {
	s := newSite(t, "r1", "r2")
	s.lost = func(_, _ string, frame []byte) bool { return kind(frame[0]) == ackFrame }
	s.connect("r1", "r2")
	s.master("r1", 1)
	s.lost = nil
	s.fill("r1", 1, 3)
	s.holds("r2", 3)
}

// TestOwnConnections: what ends at a virtual address is not told unless it is
// led on from there, nor what leaves by a lease of this node.
func TestOwnConnections(t *testing.T) {
	gateway, wan, lease := netip.MustParseAddr("192.168.77.1"), netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("100.64.3.4")
	client, host := netip.MustParseAddr("192.168.77.100"), netip.MustParseAddr("198.51.100.9")
	table := NewTable(Config{Node: "r1", Limit: 10, Local: []netip.Addr{gateway, wan}, Ignore: []netip.Prefix{netip.PrefixFrom(lease, 32)}})
	f := func(from, to, reply netip.Addr, status Status) Flow {
		o := Tuple{Source: from, Destination: to, Protocol: TCP, SourcePort: 4000, DestinationPort: 22}
		r := o.Inverse()
		if status&DestNAT != 0 {
			r.Source = client
		} else {
			r.Destination = reply
		}
		return Flow{Original: o, Reply: r, Status: Confirmed | status}
	}
	for _, c := range []struct {
		name string
		flow Flow
		want bool
	}{
		{"ssh to the gateway", f(client, gateway, client, 0), false},
		{"from a virtual address", f(wan, host, wan, 0), false},
		{"through NAT", f(client, host, wan, SourceNAT), true},
		{"a port forward", f(host, wan, host, DestNAT), true},
		{"through a lease", f(client, host, lease, SourceNAT), false},
	} {
		if got := table.concerns(&c.flow); got != c.want {
			t.Errorf("%s: told %v, want %v", c.name, got, c.want)
		}
	}
}

// TestEndedApart: what one of two masters ended while they were apart is there
// again when it has given way, also if it ends it once more as a backup.
func TestEndedApart(t *testing.T) {
	s := pair(t)
	s.fill("r1", 1, 10)
	s.disconnect("r1", "r2")
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.work()
	end := func() {
		for i := range 3 {
			s.packet("r2", Ended, natted(1+i))
		}
		s.work()
	}
	end()
	s.pass(500 * time.Millisecond)
	s.holds("r2", 7)
	s.node("r2").table.SetRole(s.now, Role{false, 2})
	s.connect("r1", "r2")
	s.pass(100 * time.Millisecond)
	s.holds("r1", 10)
	s.holds("r2", 10)
	end()
	s.pass(2 * time.Second)
	s.holds("r1", 10)
	s.holds("r2", 10)
}

// TestWaitsForAcknowledgement: while a peer does not acknowledge a sync there is
// nothing to do by oneself, least of all at once.
func TestWaitsForAcknowledgement(t *testing.T) {
	s := newSite(t, "r1", "r2")
	s.lost = func(_, _ string, frame []byte) bool { return kind(frame[0]) == ackFrame }
	s.connect("r1", "r2")
	s.now = s.now.Add(2 * digestEvery)
	s.work()
	for _, n := range s.nodes {
		if at, ok := n.table.Deadline(); ok && !at.After(s.now) {
			t.Errorf("%s wants to work at %v, and it is %v", n.name, at, s.now)
		}
	}
}
