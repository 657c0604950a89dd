package conntracksync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"
)

// ErrVersion is the error of Received for a peer that speaks another version.
var ErrVersion = errors.New("the peer speaks another version of flow replication")

// window is how many frames of a sync may be on their way.
const window = 16

// peer is what a Table knows of another node.
type peer struct {
	name  string
	index int16
	up    bool
	met   bool // its hello came
	since time.Time
	hello hello

	// To it.
	frame    []byte
	coder    coder
	syncs    bool // a sync is under way
	whole    bool // and it is of all buckets
	buckets  set
	cursor   uint32
	sent     uint64 // frames that it acknowledges, ever
	acked    uint64
	finish   uint64 // the last frame of the sync; 0 while it is not sent
	flows    int    // that it is to tell
	flight   []int  // flows in frames that wait to be acknowledged
	reached  int    // flows of it that were acknowledged
	digestAt time.Time

	// From it.
	refs     []ref
	count    int
	lost     [buckets]uint32 // refs whose flow is another node's here, or found no room
	doubt    set             // buckets to ask for again, since one of those may be its now
	sums     [buckets]uint64
	gen      uint32
	syncing  bool // a sync from it is under way
	complete bool // one of everything is done
	reborn   bool // and none is since it started anew
	coming   int  // flows that the sync tells
	came     int  // of these
	from     set
	took     uint64
	resyncs  int
}

// ref is a flow of a peer, by its number there.
type ref struct {
	identity, digest uint64
	slot, gen        uint32
	used, lost       bool
	bucket           uint8
}

// covers reports whether a flow by that number is told to the peer as it
// changes: not while a sync is still to reach it. One whose last frame is sent
// reaches no more, also if that is not acknowledged yet.
func (p *peer) covers(i uint32) bool {
	return p.met && (!p.syncs || !p.whole || p.finish != 0 || i < p.cursor)
}

// PeerState is how far the replication with a peer is.
type PeerState uint8

const (
	Connecting PeerState = iota + 1 // no session
	Syncing                         // one of both copies is not complete
	Synced
	Stale // it was in sync, and the session is gone
)

// String returns the word for status.
func (s PeerState) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Syncing:
		return "syncing"
	case Synced:
		return "synced"
	case Stale:
		return "stale"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// PeerStatus is what status shows of a peer.
type PeerStatus struct {
	Node  string
	State PeerState
	// Here is how many flows of the peer this node holds, Told how many frames
	// of a sync wait for its acknowledgement.
	Here, Waiting int
	// Resyncs counts the syncs that a difference of the digests made necessary.
	Resyncs int
	// Limit is how many flows it can hold; 0 before it said so.
	Limit int
	// Progress is the share, 0 to 1, that is done of the syncs under way, by
	// their flows both ways.
	Progress float64
	Role     Role
}

// progress is what is done of the syncs with a peer.
func (p *peer) progress() float64 {
	done, all := 0, 0
	if p.syncs {
		done, all = min(p.reached, p.flows), p.flows
	}
	if p.syncing {
		done, all = done+min(p.came, p.coming), all+p.coming
	}
	if all == 0 {
		return 0
	}
	return float64(done) / float64(all)
}

// Peers returns the state of each peer, in the order in which they came.
func (t *Table) Peers() []PeerStatus {
	var all []PeerStatus
	for _, p := range t.peers {
		s := PeerStatus{
			Node: p.name, State: Connecting, Here: p.count, Waiting: int(p.sent - p.acked), Resyncs: p.resyncs,
			Limit: int(p.hello.limit), Progress: p.progress(), Role: p.hello.role,
		}
		switch {
		case p.met && !p.syncs && p.complete && !p.syncing:
			s.State = Synced
		case p.met:
			s.State = Syncing
		case p.complete:
			s.State = Stale
		}
		all = append(all, s)
	}
	return all
}

func (t *Table) peer(node string) *peer {
	for _, p := range t.peers {
		if p.name == node {
			return p
		}
	}
	p := &peer{name: node, index: int16(len(t.peers))}
	t.peers = append(t.peers, p)
	return p
}

// Connected says that frames can be sent to the peer from now on, and that none
// of before is on its way.
func (t *Table) Connected(now time.Time, node string) {
	p := t.peer(node)
	p.up, p.met, p.since, p.syncs, p.frame = true, false, time.Time{}, false, p.frame[:0]
	p.sent, p.acked, p.took, p.flight = 0, 0, 0, nil
	t.send(p, hello{Version, t.config.Node, t.config.Boot, uint32(t.config.Limit), t.role}.append(nil))
}

// Disconnected says that frames to the peer are lost. What it told is kept for
// the time Config.Forget.
func (t *Table) Disconnected(now time.Time, node string) {
	p := t.peer(node)
	p.up, p.met, p.since, p.syncs, p.syncing, p.frame = false, false, now, false, false, p.frame[:0]
}

// Forgets are the peers whose flows Work would let go now. Whoever knows by
// other means that one of them lives says Alive before.
func (t *Table) Forgets(now time.Time) (nodes []string) {
	for _, p := range t.peers {
		if p.forgotten(now, t.config.Forget) {
			nodes = append(nodes, p.name)
		}
	}
	return nodes
}

// Alive says that a peer without a session was heard at a time: its flows are
// kept for Config.Forget from then on.
func (t *Table) Alive(node string, heard time.Time) {
	if p := t.peer(node); !p.since.IsZero() && heard.After(p.since) {
		p.since = heard
	}
}

func (p *peer) forgotten(now time.Time, after time.Duration) bool {
	return !p.up && !p.since.IsZero() && !now.Before(p.since.Add(after))
}

// forget lets a peer's flows go.
func (t *Table) forget(p *peer) {
	for i := range t.slots {
		if t.slots[i].owner == p.index {
			t.leave(uint32(i))
		}
	}
	p.since, p.refs, p.count, p.sums, p.complete = time.Time{}, nil, 0, [buckets]uint64{}, false
	p.lost, p.doubt = [buckets]uint32{}, set{}
}

// Received takes a frame of a peer. An error says why it means nothing; what
// was before the fault in it is taken. The session should then begin anew.
func (t *Table) Received(now time.Time, node string, frame []byte) error {
	p := t.peer(node)
	if len(frame) == 0 || len(frame) > MaxFrame {
		return fmt.Errorf("frame of %s: %d bytes", node, len(frame))
	}
	r := &reader{b: frame[1:]}
	k := kind(frame[0])
	if err := t.receive(now, p, k, r); err != nil {
		return fmt.Errorf("frame of %s: %w", node, err)
	}
	return nil
}

func (t *Table) receive(now time.Time, p *peer, k kind, r *reader) error {
	if !p.met && k != helloFrame {
		return fmt.Errorf("kind %d before the hello", k)
	}
	switch k {
	case helloFrame:
		h := r.hello()
		if h.version != Version {
			return fmt.Errorf("%w: %d, here it is %d", ErrVersion, h.version, Version)
		}
		if err := r.done(k); err != nil {
			return err
		}
		if h.node != p.name {
			return fmt.Errorf("it says that it is %q", h.node)
		}
		p.reborn = p.reborn || h.boot != p.hello.boot
		p.hello, p.met, p.complete, p.digestAt = h, true, false, now.Add(digestEvery)
		t.adopt(p)
		t.sync(p, allBuckets)
	case roleFrame:
		role := r.role()
		if err := r.done(k); err != nil {
			return err
		}
		p.hello.role = role
		t.adopt(p)
	case flowsFrame, bulkFrame:
		c := newCoder()
		for len(r.b) > 0 {
			var f flow
			var rare rarity
			id, short, err := c.next(r, &f, &rare)
			if err != nil {
				return err
			}
			if err := t.told(p, id, short, &f, &rare); err != nil {
				return err
			}
			if k == bulkFrame {
				p.came++
			}
		}
		if k == bulkFrame {
			t.ack(p)
		}
	case endsFrame, yieldsFrame:
		for id := int64(0); len(r.b) > 0; {
			delta, n := binary.Varint(r.b)
			if id += delta; n <= 0 || id < 0 || id >= int64(len(p.refs)) {
				return fmt.Errorf("an end: %w", errMeaning)
			}
			r.b = r.b[n:]
			t.release(p, uint32(id), k == endsFrame)
		}
	case beginFrame:
		s, n := r.set(), r.uint32()
		if err := r.done(k); err != nil {
			return err
		}
		p.gen++
		p.syncing, p.from, p.coming, p.came = true, s, int(n), 0
		t.ack(p)
	case finishFrame:
		if err := r.done(k); err != nil {
			return err
		}
		t.finished(p)
		t.ack(p)
	case digestFrame:
		var differ set
		for b := range p.sums {
			if s := r.uint64(); s != p.sums[b] {
				differ.add(uint8(b))
			}
		}
		if err := r.done(k); err != nil {
			return err
		}
		if !p.syncing && differ != (set{}) {
			p.resyncs++
			t.send(p, differ.append([]byte{byte(askFrame)}))
		}
	case askFrame:
		s := r.set()
		if err := r.done(k); err != nil {
			return err
		}
		t.sync(p, s)
	case ackFrame:
		n := r.uint64()
		if err := r.done(k); err != nil {
			return err
		}
		if n < p.acked || n > p.sent {
			return fmt.Errorf("it acknowledges %d frames of %d: %w", n, p.sent, errMeaning)
		}
		taken := min(int(n-p.acked), len(p.flight))
		for _, flows := range p.flight[:taken] {
			p.reached += flows
		}
		p.flight, p.acked = p.flight[taken:], n
		if p.syncs && p.finish != 0 && n >= p.finish {
			p.syncs = false
		}
	case expectFrame:
		for len(r.b) > 0 {
			e := r.expectation()
			if r.err != nil {
				return fmt.Errorf("read an expectation: %w", r.err)
			}
			t.toldExpectation(now, p, &e)
		}
	case unexpectFrame:
		n := r.name()
		if err := r.done(k); err != nil {
			return err
		}
		t.endedExpectation(p, n)
	default:
		return fmt.Errorf("kind %d: %w", k, errMeaning)
	}
	return nil
}

// ack tells that one more frame of a sync was taken.
func (t *Table) ack(p *peer) {
	p.took++
	t.send(p, binary.BigEndian.AppendUint64([]byte{byte(ackFrame)}, p.took))
}

// sync begins to tell the peer all flows of some buckets anew.
func (t *Table) sync(p *peer, s set) {
	if p.syncs && p.finish == 0 {
		for i, w := range p.buckets {
			s[i] |= w
		}
	}
	t.closeFrame(p)
	p.syncs, p.whole, p.buckets, p.cursor, p.finish = true, s == allBuckets, s, 0, 0
	p.flows, p.reached = t.tells*s.len()/buckets, 0
	t.sendSync(p, binary.BigEndian.AppendUint32(s.append([]byte{byte(beginFrame)}), uint32(p.flows)), 0)
}

// sendSync sends a frame that the peer acknowledges, with so many flows in it.
func (t *Table) sendSync(p *peer, frame []byte, flows int) {
	p.sent++
	p.flight = append(p.flight, flows)
	t.send(p, frame)
}

// bulk goes on with a sync as far as the peer has acknowledged it.
func (t *Table) bulk(now time.Time, p *peer) {
	for p.syncs && p.finish == 0 && p.sent-p.acked < window {
		t.closeFrame(p)
		frame, c, flows := append(make([]byte, 0, MaxFrame), byte(bulkFrame)), newCoder(), 0
		for ; int(p.cursor) < len(t.slots) && len(frame) <= MaxFrame-maxRecord; p.cursor++ {
			i := p.cursor
			s := &t.slots[i]
			if s.owner != mine || !s.told || !p.whole && !p.buckets.has(s.key.bucket()) {
				continue
			}
			if s.queued != idle {
				// So that all peers know the same: the digest is of that.
				t.tell(i, s.queued)
			}
			frame = c.append(frame, i, &s.flow, t.rarity(i), false)
			flows++
		}
		for _, other := range t.peers {
			t.closeFrame(other)
		}
		t.sendSync(p, frame, flows)
		if int(p.cursor) >= len(t.slots) {
			if p.whole {
				t.tellAllExpectations(now, p)
			}
			t.sendSync(p, []byte{byte(finishFrame)}, 0)
			p.finish = p.sent
		}
	}
}

// release takes that a flow is a peer's no more. If it is still the peer's here, by
// that number, it is removed where it has ended, and nobody's otherwise.
func (t *Table) release(p *peer, id uint32, ended bool) {
	ref := &p.refs[id]
	if !ref.used {
		return
	}
	p.sums[ref.bucket] -= ref.digest
	p.count--
	p.unlose(ref)
	if s := t.slotOf(p, id); s != nil {
		if ended {
			t.leave(ref.slot)
		} else {
			t.abandon(ref.slot)
		}
	}
	ref.used = false
}

// leave lets a flow go that was a peer's. A master holds only flows of another
// one that calls itself master too, with the better right: whether they ended
// the kernel here knows, through which the packets may go.
func (t *Table) leave(i uint32) {
	if t.role.Master && !t.slots[i].gone {
		t.assume(i)
		t.want(setTime, t.full(i, t.lifetime(i)))
		return
	}
	t.want(remove, t.full(i, 0))
	t.missed(&t.slots[i].key)
	t.drop(i)
}

// abandon leaves a flow in the kernel's table that was a peer's and lives: whose it
// is now is told by that one, was told before, or is found out by who becomes master.
func (t *Table) abandon(i uint32) {
	s := &t.slots[i]
	if t.role.Master || s.gone {
		t.leave(i)
		return
	}
	s.owner, s.id = orphan, 0
	t.missed(&s.key)
}

// missed has peers asked again for what they may have told by a name that is
// free now, or nobody's.
func (t *Table) missed(k *Key) {
	b := k.bucket()
	for _, p := range t.peers {
		if p.lost[b] > 0 {
			p.doubt.add(b)
		}
	}
}

// unlose counts a ref that is told anew or ends.
func (p *peer) unlose(r *ref) {
	if r.lost {
		r.lost = false
		p.lost[r.bucket]--
	}
}

// lose notes that the flow behind a ref is not the peer's here.
func (p *peer) lose(r *ref) {
	if !r.lost {
		r.lost = true
		p.lost[r.bucket]++
	}
}

// overrule notes that the flow of a slot becomes another's than the peer's whose
// it is, if it is one's.
func (t *Table) overrule(s *slot) {
	if s.owner < 0 {
		return
	}
	if p := t.peers[s.owner]; int(s.id) < len(p.refs) && p.refs[s.id].used {
		p.lose(&p.refs[s.id])
	}
}

// ask asks for what is in doubt.
func (t *Table) ask(p *peer) {
	if p.syncing || p.doubt == (set{}) {
		return
	}
	t.send(p, p.doubt.append([]byte{byte(askFrame)}))
	p.doubt = set{}
}

// slotOf is the slot of a flow of a peer, nil if it is not the peer's here.
func (t *Table) slotOf(p *peer, id uint32) *slot {
	i := p.refs[id].slot
	if int(i) >= len(t.slots) {
		return nil
	}
	if s := &t.slots[i]; s.owner == p.index && s.id == id {
		return s
	}
	return nil
}

// finished ends a sync: what was not told in it is no more. But who has started
// anew and is no master tells nothing of what it had before, and another node may
// have taken what it had meanwhile.
func (t *Table) finished(p *peer) {
	if !p.syncing {
		return
	}
	p.syncing = false
	known := !t.outranked(p) && (!p.reborn || p.hello.role.Master)
	for id := range p.refs {
		if r := &p.refs[id]; r.used && r.gen != p.gen && p.from.has(r.bucket) {
			t.release(p, uint32(id), known && !t.contested(p, r.bucket))
		}
	}
	if p.from != allBuckets {
		return
	}
	p.reborn = false
	t.finishedExpectations(p)
	p.complete = true
	if !p.hello.role.Master || t.role.Master {
		return
	}
	// What was found at start and the master does not know may have been put
	// here by a node that is gone: it goes with its own time.
	for i := range t.slots {
		if t.slots[i].owner == orphan {
			t.want(setTime, t.full(uint32(i), t.lifetime(uint32(i))))
		}
	}
}

// told takes a flow of a peer.
func (t *Table) told(p *peer, id uint32, short bool, f *flow, r *rarity) error {
	if short {
		return t.changed(p, id, f, r)
	}
	if most := min(max(1024, 2*p.hello.limit, 2*uint32(t.config.Limit)), maxID); id >= most {
		return fmt.Errorf("flow number %d of %d", id, most)
	}
	for int(id) >= len(p.refs) {
		p.refs = append(p.refs, make([]ref, 1<<bits.Len32(id|255)-len(p.refs))...)
	}
	identity := f.identity(r)
	if old := &p.refs[id]; old.used && old.identity != identity {
		t.release(p, id, !p.reborn) // by its numbers of before it was another
	}
	ref := &p.refs[id]
	if ref.used {
		p.sums[ref.bucket] -= ref.digest
		p.count--
		p.unlose(ref)
	}
	keep := ref.slot
	*ref = refOf(f, r, identity, p.gen)
	ref.slot = keep
	p.sums[ref.bucket] += ref.digest
	p.count++

	i, there := t.index[f.key]
	if !there {
		if i, there = t.add(f, r, p.index); !there {
			p.lose(&p.refs[id])
			return nil // the digest is right all the same
		}
		t.slots[i].id, ref.slot = id, i
		t.take(p, i, install)
		return nil
	}
	s := &t.slots[i]
	same := s.reply == f.reply
	switch {
	case s.owner == p.index:
		if s.id == id && s.flow == *f && *t.rarity(i) == *r {
			return nil
		}
	case s.owner == mine:
		if !t.prevails(p, f, &s.flow) {
			p.lose(ref)
			t.merge(i, f, r)
			return nil
		}
		t.disown(i, !same)
	case s.owner >= 0:
		if other := t.peers[s.owner]; !beats(p.hello.role, p.name, other.hello.role, other.name) {
			p.lose(ref)
			return nil
		}
	}
	if s.owner != p.index {
		t.overrule(s)
	}
	s.owner, s.id, s.assert = p.index, id, false
	s.flow = *f
	t.setRarity(i, r)
	ref.slot = i
	if same {
		t.take(p, i, update)
	} else {
		t.take(p, i, install)
	}
	return nil
}

func refOf(f *flow, r *rarity, identity uint64, gen uint32) ref {
	return ref{identity: identity, digest: f.digest(identity, r), gen: gen, used: true, bucket: f.key.bucket()}
}

// changed takes a change of a flow that was told before.
func (t *Table) changed(p *peer, id uint32, f *flow, r *rarity) error {
	if int(id) >= len(p.refs) || !p.refs[id].used {
		return fmt.Errorf("a change of the flow %d, which was never told", id)
	}
	ref := &p.refs[id]
	ref.gen = p.gen
	p.sums[ref.bucket] -= ref.digest
	ref.digest = f.digest(ref.identity, r)
	p.sums[ref.bucket] += ref.digest
	s := t.slotOf(p, id)
	if s == nil {
		return nil // it is not the peer's here: the owner says what it does
	}
	s.mark, s.status, s.tcp, s.timeout = f.mark, f.status, f.tcp, f.timeout
	if r.master = t.rarity(ref.slot).master; r.master != (Key{}) {
		f.rare = true
	}
	t.setRarity(ref.slot, r)
	t.take(p, ref.slot, update)
	return nil
}

// adopt makes a peer's flows those of this node if it is master and the peer is
// no better one.
func (t *Table) adopt(p *peer) {
	if !t.role.Master || t.wins(p) {
		return
	}
	for i := range t.slots {
		if t.slots[i].owner == p.index {
			t.take(p, uint32(i), setTime)
		}
	}
}

// take has a peer's flow brought into the kernel's table. A master makes it its
// own at once: its packets come here. One of two masters does not, if the other
// is right, or each would take it from the other for ever.
func (t *Table) take(p *peer, i uint32, w wish) {
	if s := &t.slots[i]; s.gone {
		s.gone, w = false, install
	}
	if !t.role.Master || t.wins(p) {
		t.want(w, t.full(i, t.holdFor()))
		return
	}
	t.assume(i)
	t.want(w, t.full(i, t.lifetime(i)))
}

// assume makes a peer's flow this node's, and says so at once: the peer must know
// before the flow can end here, or it would keep its own.
func (t *Table) assume(i uint32) {
	t.claim(i)
	t.slots[i].queued = ready
	t.tell(i, ready)
}

// wins reports whether a peer is right where both claim a flow.
func (t *Table) wins(p *peer) bool { return beats(p.hello.role, p.name, t.role, t.config.Node) }

// outranked reports whether a third node is right where a peer and that one claim a
// flow.
func (t *Table) outranked(p *peer) bool {
	return slices.ContainsFunc(t.peers, func(other *peer) bool {
		return other != p && beats(other.hello.role, other.name, p.hello.role, p.name)
	})
}

// contested reports whether a third node told flows of that bucket that are another's
// here.
func (t *Table) contested(p *peer, bucket uint8) bool {
	return slices.ContainsFunc(t.peers, func(other *peer) bool { return other != p && other.lost[bucket] > 0 })
}

// prevails reports whether what a peer told of a flow counts more than what is
// known here. A host may have begun another connection from the port of one that
// is over: of two with other translations the one that lives is the later one,
// whoever is master.
func (t *Table) prevails(p *peer, theirs, ours *flow) bool {
	if theirs.key.protocol == TCP && theirs.reply != ours.reply && theirs.tcp.State.Over() != ours.tcp.State.Over() {
		return ours.tcp.State.Over()
	}
	return t.wins(p)
}

func beats(a Role, an string, b Role, bn string) bool {
	if a.Term != b.Term {
		return a.Term > b.Term
	}
	return an > bn
}

// merge takes from a peer what it saw more of a flow that is ours: during a
// hand-over packets of one flow pass both nodes. Then it tells the peer whose
// the flow is.
func (t *Table) merge(i uint32, f *flow, r *rarity) {
	s := &t.slots[i]
	if s.reply == f.reply {
		if more := s.status | f.status&(SeenReply|Assured); more != s.status || further(f.tcp.State, s.tcp.State) {
			s.status = more
			if further(f.tcp.State, s.tcp.State) {
				s.tcp = f.tcp
			}
			t.want(update, t.full(i, t.lifetime(i)))
		}
	}
	s.assert, s.queued = true, ready
	t.tell(i, ready) // at once, as in take
}

// further reports whether a TCP connection in state a is nearer to its end than
// in state b.
func further(a, b TCPState) bool {
	order := [...]uint8{NoState: 0, SYNSent: 1, SYNSent2: 2, SYNReceived: 3, Established: 4, FINWait: 5, CloseWait: 6, LastACK: 7, TimeWait: 8, Closed: 9}
	return order[a] > order[b]
}
