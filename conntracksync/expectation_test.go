package conntracksync

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// control is an FTP connection, and data what is expected of it, number n.
func control() Flow {
	f := natted(4000)
	f.Original.DestinationPort, f.Reply.SourcePort = 21, 21
	f.Helper = "ftp"
	return f
}

func data(n uint16) Expectation {
	c, full := control(), netip.MustParseAddr("255.255.255.255")
	return Expectation{
		Tuple:  Tuple{Source: c.Original.Destination, Destination: c.Reply.Destination, Protocol: TCP, DestinationPort: n},
		Mask:   Tuple{Source: full, Destination: full, Protocol: TCP, DestinationPort: 65535},
		Master: c.Original, Timeout: 300, Helper: "ftp", Function: "nat-follow-master",
		NAT: Tuple{Source: c.Original.Source, Destination: netip.IPv4Unspecified(), Protocol: TCP, SourcePort: n}, Direction: 1,
	}
}

func (s *site) foresee(name string, k EventKind, e Expectation) {
	n := s.node(name)
	if k == Ended {
		delete(n.expected, e.Tuple)
	} else {
		n.expected[e.Tuple] = e
	}
	n.table.Heard(s.now, &Event{Kind: k, Expectation: &e})
}

func (s *site) expects(name string, want ...Expectation) {
	s.t.Helper()
	m := map[Tuple]Expectation{}
	for _, e := range want {
		m[e.Tuple] = e
	}
	if diff := cmp.Diff(m, s.node(name).expected, equalAddr); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestExpectations: they come after their masters, and go with a word of their
// owner, with their masters, and with a sync that does not tell them.
func TestExpectations(t *testing.T) {
	s := pair(t)
	half := in(control(), SYNReceived, SeenReply) // it waits to be told: not any more
	half.Helper = "ftp"
	s.node("r1").kernel[half.Original] = half
	s.node("r1").table.Heard(s.now, &Event{Kind: Began, Flow: half, Told: ToldState | ToldHelper})
	s.foresee("r1", Began, data(5000))
	s.foresee("r1", Began, data(5001))
	orphaned := data(5002)
	orphaned.Master.SourcePort = 9
	s.foresee("r1", Began, orphaned) // of a flow that is not told
	s.work()
	s.holds("r2", 1)
	s.expects("r2", data(5000), data(5001))

	// What fulfilled it is told before its end.
	s.foresee("r1", Ended, data(5000))
	s.work()
	s.expects("r2", data(5000), data(5001))
	s.pass(defaultWindow)
	s.expects("r2", data(5001))
	// One that is there again has not ended.
	s.foresee("r1", Ended, data(5001))
	s.foresee("r1", Began, data(5001))
	s.pass(time.Second)
	s.expects("r2", data(5001))

	// Told again at a sync, with the time that is left; one that ended in
	// between is gone.
	s.foresee("r1", Began, data(5003))
	s.work()
	s.disconnect("r1", "r2")
	s.foresee("r1", Ended, data(5003))
	s.pass(time.Minute)
	s.connect("r1", "r2")
	s.pass(time.Second)
	s.expects("r2", data(5001))
	s.synced(Synced)
	s.node("r2").expected = map[Tuple]Expectation{}
	s.boot("r2")
	s.disconnect("r1", "r2")
	s.connect("r1", "r2")
	s.pass(time.Second)
	left := data(5001)
	left.Timeout = 238
	s.expects("r2", left)

	// A takeover: they are the new master's, and told to the former one.
	s.disconnect("r1", "r2")
	s.master("r2", 2)
	s.foresee("r2", Began, data(5004))
	s.work()
	kernel := s.node("r1").kernel
	s.boot("r1").kernel = kernel
	s.dump("r1", true)
	s.connect("r1", "r2")
	s.pass(time.Second)
	if got := s.node("r1").expected; len(got) != 2 {
		t.Errorf("r1 expects %v", got)
	}
	// They end with their master.
	s.packet("r2", Ended, control())
	s.pass(time.Second)
	for _, n := range s.nodes {
		if len(n.table.expected) != 0 {
			t.Errorf("%s still expects %v", n.name, n.table.expected)
		}
	}
	s.synced(Synced)
}

// TestExpectationsAtHandOver: one that arises at the old master is the new one's
// at once; and who is not master keeps none that the master does not have.
func TestExpectationsAtHandOver(t *testing.T) {
	s := pair(t)
	f := control()
	s.node("r1").kernel[f.Original] = f
	s.node("r1").table.Heard(s.now, &Event{Kind: Began, Flow: f, Told: ToldState | ToldHelper})
	s.work()
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.foresee("r1", Began, data(5000))
	s.work()
	s.node("r1").table.SetRole(s.now, Role{false, 2})
	s.pass(time.Second)
	s.expects("r2", data(5000))
	if x := s.node("r2").table.expected[name{tuple: data(5000).Tuple}]; x == nil || x.owner != mine {
		t.Errorf("%+v", x)
	}
	s.foresee("r2", Ended, data(5000))
	s.pass(time.Second)
	s.expects("r1")
	s.expects("r2")
}

// TestExpectationsAreBounded: a peer cannot fill the memory with them.
func TestExpectationsAreBounded(t *testing.T) {
	s := pair(t)
	f := control()
	s.node("r1").kernel[f.Original] = f
	s.node("r1").table.Heard(s.now, &Event{Kind: Began, Flow: f, Told: ToldState | ToldHelper})
	s.work()
	for n := range uint16(maxExpectations + 100) {
		e := data(n + 1)
		s.foresee("r1", Began, e)
		s.work()
	}
	for _, n := range s.nodes {
		if got := len(n.table.expected); got != maxExpectations {
			t.Errorf("%s keeps %d", n.name, got)
		}
	}
	if got := s.node("r1").table.Drops()["expectations"]; got != 100 {
		t.Errorf("%d dropped", got)
	}
	s.disconnect("r1", "r2")
	s.connect("r1", "r2")
	s.pass(6 * time.Second)
	s.synced(Synced)
}

// TestAdjustments: the kernel does not tell that a helper moved the sequence
// numbers, so flows with a helper are read again: soon after an expectation,
// and now and then.
func TestAdjustments(t *testing.T) {
	s := pair(t)
	f := control()
	s.node("r1").kernel[f.Original] = f
	s.node("r1").table.Heard(s.now, &Event{Kind: Began, Flow: f, Told: ToldState | ToldHelper})
	s.work()
	move := func(by uint32) {
		f.Adjust[0] = Adjustment{Position: 1000, After: by}
		s.node("r1").kernel[f.Original] = f
	}
	check := func(want uint32) {
		t.Helper()
		if got := s.node("r2").kernel[f.Original].Adjust[0].After; got != want {
			t.Errorf("moved by %d, want %d", got, want)
		}
	}
	move(1)
	s.foresee("r1", Began, data(5000))
	s.pass(2 * readAfter)
	check(1)
	move(2)
	s.pass(readEvery)
	check(2)
	move(3)
	s.node("r1").table.Hurry(s.now) // a hand-over
	s.work()
	check(3)
	s.packet("r1", Changed, in(f, FINWait, SeenReply|Assured)) // events say nothing of it
	s.pass(200 * time.Millisecond)
	check(3)
	s.same("r1", "r2")
	s.packet("r1", Ended, f)
	s.pass(2 * readEvery)
	if at, ok := s.node("r1").table.Deadline(); !ok || at.Before(s.now) {
		t.Errorf("the next deadline is %v, at %v", at, s.now)
	}
}

func TestExpectationRecords(t *testing.T) {
	six := Expectation{
		Tuple: plain(kinds()["udp6"].Original).Original, Mask: kinds()["udp6"].Original, Master: kinds()["icmpv6"].Original,
		Zone: 7, Timeout: 1<<32 - 1, Class: 3, Flags: Permanent,
	}
	for name, e := range map[string]Expectation{"ftp": data(5000), "of IPv6, in a zone": six} {
		b := e.append(nil)
		r := &reader{b: b}
		got := r.expectation()
		if diff := cmp.Diff(e, got, equalAddr); diff != "" || r.err != nil || len(r.b) != 0 {
			t.Errorf("%s: %v (-want +got):\n%s", name, r.err, diff)
		}
		if len(b) >= maxExpectation {
			t.Errorf("%s: %d bytes", name, len(b))
		}
		for n := range b {
			r := &reader{b: b[:n]}
			if r.expectation(); r.err == nil {
				t.Errorf("%s: %d of %d bytes are enough", name, n, len(b))
			}
		}
	}
	for name, b := range map[string][]byte{
		"an unknown bit":        append([]byte{4}, make([]byte, 60)...),
		"a helper of 16 bytes":  append(append(make([]byte, 3+3*13+4), 16), make([]byte, 60)...),
		"a zero byte in a name": append(append(make([]byte, 3+3*13+4), 2), make([]byte, 60)...),
		"a time of 40 bits":     append(append(make([]byte, 3+3*13), 0xff, 0xff, 0xff, 0xff, 0xff, 1), make([]byte, 60)...),
	} {
		r := &reader{b: b}
		if e := r.expectation(); r.err == nil {
			t.Errorf("%s: read as %+v", name, e)
		}
	}
}

func FuzzExpectation(f *testing.F) {
	e := data(5000)
	f.Add(e.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &reader{b: b}
		e := r.expectation()
		if r.err != nil {
			return
		}
		again := &reader{b: e.append(nil)}
		if got := again.expectation(); got != e || again.err != nil {
			t.Fatalf("%x: %+v, written and read again: %+v, %v", b, e, got, again.err)
		}
	})
}

// TestEndOfForwarded: the kernel's word of an end has no status, so it does not
// say that the flow was translated: it ends all the same.
func TestEndOfForwarded(t *testing.T) {
	s := pair(t)
	f := natted(7000)
	f.Original.Destination, f.Reply.Destination = nat4[0], f.Original.Source
	f.Status = SeenReply | Assured | Confirmed | DestNAT
	for _, n := range s.nodes {
		n.table.Configure(nil, nil, []netip.Addr{nat4[0]})
	}
	s.packet("r1", Began, f)
	s.work()
	s.holds("r2", 1)
	f.Status = 0
	s.packet("r1", Ended, f)
	s.work()
	s.holds("r2", 0)
	if own, all := s.node("r1").table.Len(); own != 0 || all != 0 {
		t.Errorf("r1 owns %d of %d", own, all)
	}
}

// TestSlowPeer: a peer that does not acknowledge a sync is waited for, without
// looking for work all the time.
func TestSlowPeer(t *testing.T) {
	s := newSite(t, "r1", "r2")
	s.lost = func(_, _ string, frame []byte) bool { return kind(frame[0]) == ackFrame }
	s.connect("r1", "r2")
	s.now = s.now.Add(2 * digestEvery)
	s.work()
	if at, ok := s.node("r1").table.Deadline(); ok && !at.After(s.now) {
		t.Errorf("it wants to work at %v, now %v", at, s.now)
	}
}

// TestRoleBeforeHello: a role that changes while the hello is on its way is
// told: two nodes that each think they are right would correct each other for
// ever.
func TestRoleBeforeHello(t *testing.T) {
	s := newSite(t, "r1", "r2")
	for _, n := range s.nodes {
		n.table.Connected(s.now, map[string]string{"r1": "r2", "r2": "r1"}[n.name])
	}
	s.up[[2]string{"r1", "r2"}], s.up[[2]string{"r2", "r1"}] = true, true
	s.node("r1").table.SetRole(s.now, Role{true, 5})
	s.work()
	if got := s.node("r2").table.Peers()[0].Role; got != (Role{true, 5}) {
		t.Errorf("r2 thinks that r1 is %+v", got)
	}
}

// TestRivalEnds: a master does not drop what a former master with the higher
// term, which was alone for a while, says has ended.
func TestRivalEnds(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 10)
	s.disconnect("r1", "r2")
	s.node("r2").table.SetRole(s.now, Role{true, 2})
	s.node("r1").table.SetRole(s.now, Role{true, 7})
	s.work()
	s.connect("r1", "r2")
	for n := range 5 {
		s.packet("r1", Ended, natted(2000+n))
	}
	s.work()
	s.holds("r2", 10)
	s.node("r1").table.SetRole(s.now, Role{false, 7})
	s.work()
	s.node("r2").table.SetRole(s.now, Role{true, 8})
	s.pass(10 * time.Second)
	s.holds("r2", 10)
	s.same("r1", "r2")
	if own, _ := s.node("r2").table.Len(); own != 10 {
		t.Errorf("r2 owns %d", own)
	}
}

// TestEndBeforeBegin: the end of a flow is told before what is told by its
// number next, also where that cannot wait.
func TestEndBeforeBegin(t *testing.T) {
	s := pair(t)
	s.fill("r1", 2000, 1)
	other := natted(2000)
	other.Reply.DestinationPort = 7777
	s.packet("r1", Changed, other) // an end was missed
	p, r := pack(&other)
	c := newCoder()
	frame := c.append([]byte{byte(flowsFrame)}, 0, &p, &r, false)
	if err := s.node("r1").table.Received(s.now, "r2", frame); err != nil { // packets of it came there too
		t.Fatal(err)
	}
	s.work()
	s.holds("r2", 1)
	s.same("r1", "r2")
}

// TestHiddenFlow: what two others claim is there as long as one of them has it.
func TestHiddenFlow(t *testing.T) {
	for _, first := range []string{"r1", "r2"} {
		s := newSite(t, "r1", "r2", "r3")
		second := map[string]string{"r1": "r2", "r2": "r1"}[first]
		s.node("r1").table.SetRole(s.now, Role{true, 1})
		s.node("r2").table.SetRole(s.now, Role{true, 2})
		s.fill("r1", 2000, 1)
		s.fill("r2", 2000, 1)
		s.connect(first, "r3")
		s.connect(second, "r3")
		s.packet("r2", Ended, natted(2000))
		s.pass(digestEvery + time.Second)
		if got := len(s.node("r3").kernel); got != 1 {
			t.Errorf("%s first: r3 has %d flows", first, got)
		}
		s.packet("r1", Ended, natted(2000))
		s.pass(time.Second)
		s.holds("r3", 0)
	}
}
