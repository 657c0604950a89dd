package conntracksync

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Expectation is a connection that a helper of the kernel foresees: the data
// connection of FTP, the voice of SIP. Expectations can be compared with ==.
type Expectation struct {
	// Tuple is what its first packet looks like in the bits of Mask. Master is
	// the original tuple of the flow whose helper foresees it.
	Tuple, Mask, Master Tuple
	Zone                uint16
	Timeout             uint32 // seconds left
	Class, Flags        uint32 // the helper's own, and NF_CT_EXPECT_*
	// Helper is the name of the master's helper, Function the one of what is
	// done with the connection when it comes (nat-follow-master …).
	Helper, Function string
	// NAT is, by its source, where the connection was to go before the helper
	// rewrote the word of it; its addresses are invalid where nothing is
	// translated. Direction is the one in which that is to be done.
	NAT       Tuple
	Direction uint32
}

// Permanent is the flag of an expectation that many connections may fulfil.
const Permanent = 1 << 0

// MaxFunction is how long the name of an expectation's function can be.
const MaxFunction = 31

// maxExpectations bounds how many are kept: the kernel's own bound is lower.
const maxExpectations = 4096

// name tells apart expectations as the kernel does.
type name struct {
	tuple Tuple
	zone  uint16
}

// expected is an expectation in a Table.
type expected struct {
	Expectation
	owner int16
	gen   uint32    // of a peer: the sync that told it
	until time.Time // when it is over
	seen  bool      // during a reading of the kernel's table
}

// endOf is the end of an expectation that is still to be told.
type endOf struct {
	at   time.Time
	name name
}

func (e *Expectation) name() name { return name{e.Tuple, e.Zone} }

// whole reports whether it can be told.
func (e *Expectation) whole() bool {
	for _, t := range [...]*Tuple{&e.Tuple, &e.Mask, &e.Master} {
		if !oneFamily(t) || t.Source.Is4() != e.Tuple.Source.Is4() {
			return false
		}
	}
	return (!e.NAT.Source.IsValid() || oneFamily(&e.NAT) && e.NAT.Source.Is4() == e.Tuple.Source.Is4()) &&
		len(e.Helper) <= MaxHelper && len(e.Function) <= MaxFunction
}

// left is the time that it still has, in seconds. One that stays for many
// connections may be prolonged without a word of the kernel, so others hold it
// until its owner says that it ended.
func (t *Table) left(now time.Time, e *expected) uint32 {
	left := uint32(max(1, (e.until.Sub(now)+time.Second-1)/time.Second))
	if e.Flags&Permanent != 0 && e.owner >= 0 {
		left = max(left, t.holdFor())
	}
	return left
}

// heardExpectation takes an event of the kernel.
func (t *Table) heardExpectation(now time.Time, e *Expectation, k EventKind) {
	if k == Ended {
		t.unexpected(now, e.name())
		return
	}
	t.foreseen(now, e, mine)
}

// foreseen keeps an expectation that is in the kernel's table.
func (t *Table) foreseen(now time.Time, e *Expectation, owner int16) {
	i, ok := t.index[KeyOf(e.Master, e.Zone)]
	if !ok || !e.whole() {
		return // its master is not told either
	}
	if t.expect(now, e, owner) == nil || owner != mine {
		return
	}
	t.expectQ = append(t.expectQ, e.name())
	t.readSoon(now, i)
}

// expect puts one into the table.
func (t *Table) expect(now time.Time, e *Expectation, owner int16) *expected {
	n := e.name()
	if t.expected[n] == nil && len(t.expected) >= maxExpectations {
		t.drops["expectations"]++
		return nil
	}
	x := &expected{Expectation: *e, owner: owner, until: now.Add(time.Duration(e.Timeout) * time.Second), seen: true}
	t.expected[n] = x
	return x
}

// unexpected takes the end of one. It is told a window later: the connection
// that fulfilled it must be told before, or the packets of that would be
// unknown if this node failed in between.
func (t *Table) unexpected(now time.Time, n name) {
	x := t.expected[n]
	if x == nil {
		return
	}
	delete(t.expected, n)
	if x.owner == mine {
		t.unexpectQ = append(t.unexpectQ, endOf{now.Add(t.config.Window), n})
	}
}

// ExpectationDumped takes one expectation of the kernel's table, between the
// last flow and DumpDone.
func (t *Table) ExpectationDumped(now time.Time, e *Expectation, first bool) {
	if x := t.expected[e.name()]; x != nil {
		x.seen = true
		if x.owner == mine { // it may have been prolonged
			x.until = now.Add(time.Duration(e.Timeout) * time.Second)
		}
		return
	}
	owner := mine
	if first && !t.role.Master {
		owner = orphan
	}
	t.foreseen(now, e, owner)
}

// dropExpectations forgets those of a flow that is no more. The kernel and the
// peers do so by themselves.
func (t *Table) dropExpectations(master Key) {
	for n, x := range t.expected {
		if KeyOf(x.Master, x.Zone) == master {
			delete(t.expected, n)
		}
	}
}

// claimExpectations makes all mine.
func (t *Table) claimExpectations() {
	for _, x := range t.expected {
		x.owner = mine
	}
}

// flushExpectations tells what is due. What they depend on has been told.
func (t *Table) flushExpectations(now time.Time) {
	if len(t.expectQ) > 0 {
		for _, p := range t.peers {
			if p.met && !(p.syncs && p.whole && p.finish == 0) {
				t.tellExpectations(now, p, t.expectQ)
			}
		}
		t.expectQ = t.expectQ[:0]
	}
	n := 0
	for ; n < len(t.unexpectQ) && !now.Before(t.unexpectQ[n].at); n++ {
		if end := t.unexpectQ[n].name; t.expected[end] == nil { // it may be there again
			frame := end.append([]byte{byte(unexpectFrame)})
			for _, p := range t.peers {
				if p.met {
					t.closeFrame(p)
					t.send(p, frame)
				}
			}
		}
	}
	t.unexpectQ = slices.Delete(t.unexpectQ, 0, n)
}

// tellMaster has the flow told now whose expectation is to be told.
func (t *Table) tellMaster(x *expected) bool {
	i, ok := t.index[KeyOf(x.Master, x.Zone)]
	if !ok || t.slots[i].owner != mine {
		return false
	}
	if q := t.slots[i].queued; q != idle {
		t.tell(i, q)
	}
	return t.slots[i].told
}

func (t *Table) tellExpectations(now time.Time, p *peer, names []name) {
	frame := []byte{byte(expectFrame)}
	for _, n := range names {
		x := t.expected[n]
		if x == nil || x.owner != mine || !t.tellMaster(x) {
			continue
		}
		e := x.Expectation
		e.Timeout = t.left(now, x)
		if len(frame) > MaxFrame-maxExpectation {
			t.closeFrame(p)
			t.send(p, frame)
			frame = []byte{byte(expectFrame)}
		}
		frame = e.append(frame)
	}
	for _, p := range t.peers { // masters that were told just now
		t.closeFrame(p)
	}
	if len(frame) > 1 {
		t.send(p, frame)
	}
}

// tellAllExpectations is the end of a sync of everything.
func (t *Table) tellAllExpectations(now time.Time, p *peer) {
	if len(t.expected) == 0 {
		return
	}
	names := make([]name, 0, len(t.expected))
	for n := range t.expected {
		names = append(names, n)
	}
	t.tellExpectations(now, p, names)
}

// toldExpectation takes one of a peer. It means nothing without its master.
func (t *Table) toldExpectation(now time.Time, p *peer, e *Expectation) {
	if _, ok := t.index[KeyOf(e.Master, e.Zone)]; !ok {
		return
	}
	take := t.role.Master && !t.wins(p)
	old := t.expected[e.name()]
	if old != nil {
		if old.owner == mine && take || old.owner >= 0 && old.owner != p.index && !beats(p.hello.role, p.name, t.peers[old.owner].hello.role, t.peers[old.owner].name) {
			return
		}
		same := old.Expectation
		same.Timeout = e.Timeout
		if same == *e && old.owner == p.index && !take {
			old.gen, old.until = p.gen, now.Add(time.Duration(e.Timeout)*time.Second)
			return
		}
	}
	owner := p.index
	if take {
		owner = mine
	}
	x := t.expect(now, e, owner)
	if x == nil {
		return
	}
	x.gen = p.gen
	if take {
		t.expectQ = append(t.expectQ, e.name())
	}
	out := *e
	out.Timeout = t.left(now, x)
	t.wantExpectation(true, out)
}

// endedExpectation takes the end of one of a peer.
func (t *Table) endedExpectation(p *peer, n name) {
	if x := t.expected[n]; x != nil && x.owner == p.index {
		delete(t.expected, n)
		t.wantExpectation(false, x.Expectation)
	}
}

// finishedExpectations drops those of a peer that its last sync did not tell.
func (t *Table) finishedExpectations(p *peer) {
	for n, x := range t.expected {
		if x.owner == p.index && x.gen != p.gen {
			t.endedExpectation(p, n)
		}
	}
}

func (t *Table) wantExpectation(there bool, e Expectation) {
	if n := len(t.actions); n > 0 {
		switch a := t.actions[n-1].(type) {
		case *Expect:
			if there && len(a.Expectations) < Batch {
				a.Expectations = append(a.Expectations, e)
				return
			}
		case *Unexpect:
			if !there && len(a.Expectations) < Batch {
				a.Expectations = append(a.Expectations, e)
				return
			}
		}
	}
	if there {
		t.actions = append(t.actions, &Expect{[]Expectation{e}})
	} else {
		t.actions = append(t.actions, &Unexpect{[]Expectation{e}})
	}
}

// maxExpectation is more than the longest record of one has.
const maxExpectation = 256

const (
	expectsNAT = 1 << iota
	expectsSix
)

// append writes a record.
func (e *Expectation) append(b []byte) []byte {
	has := byte(0)
	if e.NAT.Source.IsValid() {
		has |= expectsNAT
	}
	if !e.Tuple.Source.Is4() {
		has |= expectsSix
	}
	b = append(b, has)
	b = binary.BigEndian.AppendUint16(b, e.Zone)
	b = appendTuple(b, &e.Tuple)
	b = appendTuple(b, &e.Mask)
	b = appendTuple(b, &e.Master)
	if has&expectsNAT != 0 {
		b = appendTuple(b, &e.NAT)
	}
	for _, v := range [...]uint32{e.Timeout, e.Class, e.Flags, e.Direction} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	b = append(append(b, byte(len(e.Helper))), e.Helper...)
	return append(append(b, byte(len(e.Function))), e.Function...)
}

func (r *reader) expectation() (e Expectation) {
	has := r.byte()
	if has > expectsNAT|expectsSix {
		r.fail(errMeaning)
	}
	six := has&expectsSix != 0
	e.Zone = r.uint16()
	e.Tuple, e.Mask, e.Master = r.tuple(six), r.tuple(six), r.tuple(six)
	if has&expectsNAT != 0 {
		e.NAT = r.tuple(six)
	}
	for _, v := range [...]*uint32{&e.Timeout, &e.Class, &e.Flags, &e.Direction} {
		*v = uint32(r.uvarint(1<<32 - 1))
	}
	e.Helper, e.Function = r.word(MaxHelper), r.word(MaxFunction)
	return e
}

// word reads a name of at most that many bytes, none of them zero: the kernel
// would take it as the end.
func (r *reader) word(most int) string {
	n := int(r.byte())
	if n > most {
		r.fail(errMeaning)
		return ""
	}
	s := string(r.take(n))
	for i := range len(s) {
		if s[i] == 0 {
			r.fail(errMeaning)
			return ""
		}
	}
	return s
}

func (n name) append(b []byte) []byte {
	six := byte(0)
	if !n.tuple.Source.Is4() {
		six = 1
	}
	b = binary.BigEndian.AppendUint16(append(b, six), n.zone)
	return appendTuple(b, &n.tuple)
}

func (r *reader) name() (n name) {
	six := r.byte()
	if six > 1 {
		r.fail(errMeaning)
	}
	n.zone = r.uint16()
	n.tuple = r.tuple(six == 1)
	return n
}

func appendTuple(b []byte, t *Tuple) []byte {
	k := KeyOf(*t, 0)
	b = append(b, byte(k.protocol))
	if k.six {
		b = append(append(b, k.source[:]...), k.destination[:]...)
	} else {
		b = append(append(b, k.source[12:]...), k.destination[12:]...)
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, k.from), k.to)
}

func (r *reader) tuple(six bool) Tuple {
	k := Key{protocol: Protocol(r.byte()), six: six}
	r.addr(six, &k.source)
	r.addr(six, &k.destination)
	k.from, k.to = r.uint16(), r.uint16()
	return k.Tuple()
}

// String writes it as "tcp 198.51.100.1:0 > 203.0.113.10:5000 of ftp".
func (e Expectation) String() string { return fmt.Sprintf("%v of %s", e.Tuple, e.Helper) }
