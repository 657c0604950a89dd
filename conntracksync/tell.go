package conntracksync

import (
	"encoding/binary"
	"time"
)

// enqueue has a flow told: at once where a connection is established, and after
// the window what may be over by then.
func (t *Table) enqueue(now time.Time, i uint32) {
	s := &t.slots[i]
	atOnce := s.status&Assured != 0
	if s.key.protocol == TCP {
		atOnce = s.tcp.State == Established
	}
	switch {
	case atOnce && s.queued != ready:
		s.queued = ready
		t.readyQ = append(t.readyQ, i)
		t.pin(i, 1)
	case !atOnce && s.queued == idle:
		s.queued = later
		t.laterQ = append(t.laterQ, due{now.Add(t.config.Window), i})
		t.pin(i, 1)
	}
}

// Work returns what is to be done now, which the caller owns then. It is cheap
// when there is nothing, so call it whenever all that was waiting has been fed,
// and at Deadline.
func (t *Table) Work(now time.Time) []Action {
	t.reinstall(now)
	t.readSome(now)
	t.flush(now)
	for _, p := range t.peers {
		if p.met {
			t.bulk(now, p)
			if !now.Before(p.digestAt) && !p.syncs {
				p.digestAt = now.Add(digestEvery)
				t.sendDigest(p)
				t.ask(p)
			}
		} else if p.forgotten(now, t.config.Forget) {
			t.forget(p)
		}
	}
	t.settleSome()
	t.renew(now)
	a := t.actions
	t.actions = nil
	return a
}

// Deadline is when Work has something to do by itself; false if never.
func (t *Table) Deadline() (at time.Time, ok bool) {
	sooner := func(d time.Time) {
		if !ok || d.Before(at) {
			at, ok = d, true
		}
	}
	if len(t.readyQ)+len(t.ends)+len(t.yields)+len(t.expectQ)+len(t.actions) > 0 || t.settle > 0 {
		sooner(time.Time{})
	}
	if len(t.laterQ) > 0 {
		sooner(t.laterQ[0].at)
	}
	if len(t.missingQ) > 0 {
		sooner(t.missingQ[0].at)
	}
	if len(t.unexpectQ) > 0 {
		sooner(t.unexpectQ[0].at)
	}
	if !t.readAt.IsZero() {
		sooner(t.readAt)
	}
	for _, p := range t.peers {
		switch {
		case p.met && p.syncs: // the digest waits for the end of the sync
		case p.met:
			sooner(p.digestAt)
		case !p.up && !p.since.IsZero():
			sooner(p.since.Add(t.config.Forget))
		}
	}
	if len(t.index) > t.own && !t.renewed.IsZero() {
		sooner(t.renewed.Add(renewEvery))
	}
	return at, ok
}

// flush tells what is due: ends first, since a number or a name may be used
// again.
func (t *Table) flush(now time.Time) {
	t.flushEnds()
	for _, i := range t.readyQ {
		t.tell(i, ready)
		t.pin(i, -1)
	}
	t.readyQ = t.readyQ[:0]
	n := 0
	for ; n < len(t.laterQ) && !now.Before(t.laterQ[n].at); n++ {
		t.tell(t.laterQ[n].slot, later)
		t.pin(t.laterQ[n].slot, -1)
	}
	t.laterQ = shift(t.laterQ, n)
	t.flushExpectations(now)
	for _, p := range t.peers {
		t.closeFrame(p)
	}
}

func (t *Table) flushEnds() {
	for _, q := range []struct {
		kind    kind
		numbers *[]uint32
	}{{endsFrame, &t.ends}, {yieldsFrame, &t.yields}} {
		if len(*q.numbers) == 0 {
			continue
		}
		for _, p := range t.peers {
			if p.met {
				t.sendEnds(p, q.kind, *q.numbers)
			}
		}
		for _, i := range *q.numbers {
			t.pin(i, -1)
		}
		*q.numbers = (*q.numbers)[:0]
	}
}

// shift takes the first n of a queue.
func shift(q []due, n int) []due {
	if n == len(q) {
		return q[:0]
	}
	return q[n:]
}

// tell writes a flow into the open frames of the peers, if it still waits in
// that queue.
func (t *Table) tell(i uint32, from queue) {
	s := &t.slots[i]
	if s.queued != from {
		return
	}
	s.queued = idle
	if s.owner != mine || !s.told && s.key.protocol == TCP && s.tcp.State.Over() {
		return // another's, or over before anybody was told
	}
	if len(t.ends)+len(t.yields) > 0 {
		t.flushEnds() // one may be of this number
	}
	r := t.rarity(i)
	digest := s.flow.digest(s.identity(r), r)
	if s.told && digest == s.digest && !s.assert {
		return // it is as it was
	}
	for _, p := range t.peers {
		if p.covers(i) {
			t.write(p, i, r, s.told && !s.assert)
		}
	}
	b := s.key.bucket()
	if s.told {
		t.sums[b] -= s.digest
	} else {
		t.tells++
	}
	t.sums[b] += digest
	s.told, s.assert, s.digest = true, false, digest
}

// write appends a flow to the frame that is open for a peer.
func (t *Table) write(p *peer, i uint32, r *rarity, short bool) {
	if len(p.frame) > MaxFrame-maxRecord {
		t.closeFrame(p)
	}
	if len(p.frame) == 0 {
		p.frame, p.coder = append(p.frame, byte(flowsFrame)), newCoder()
	}
	p.frame = p.coder.append(p.frame, i, &t.slots[i].flow, r, short)
}

// maxRecord is more than the longest record of a flow has.
const maxRecord = 256

func (t *Table) closeFrame(p *peer) {
	if len(p.frame) > 0 {
		t.send(p, append([]byte(nil), p.frame...))
		p.frame = p.frame[:0]
	}
}

func (t *Table) send(p *peer, frame []byte) {
	t.actions = append(t.actions, &Send{p.name, frame})
}

func (t *Table) sendEnds(p *peer, k kind, numbers []uint32) {
	t.closeFrame(p)
	frame, last := []byte{byte(k)}, int64(0)
	for _, i := range numbers {
		if !p.covers(i) {
			continue
		}
		if len(frame) > MaxFrame-binary.MaxVarintLen64 {
			t.send(p, frame)
			frame, last = []byte{byte(k)}, 0
		}
		frame = binary.AppendVarint(frame, int64(i)-last)
		last = int64(i)
	}
	if len(frame) > 1 {
		t.send(p, frame)
	}
}

func (t *Table) sendDigest(p *peer) {
	frame := make([]byte, 1, 1+8*buckets)
	frame[0] = byte(digestFrame)
	for _, s := range t.sums {
		frame = binary.BigEndian.AppendUint64(frame, s)
	}
	t.send(p, frame)
}

// reinstall brings back what is gone from the kernel's table and whose owner has
// not said that it ended.
func (t *Table) reinstall(now time.Time) {
	n := 0
	for ; n < len(t.missingQ) && !now.Before(t.missingQ[n].at); n++ {
		i := t.missingQ[n].slot
		if s := &t.slots[i]; s.owner >= 0 && s.gone {
			s.gone = false
			t.want(install, t.full(i, t.holdFor()))
		}
		t.pin(i, -1)
	}
	t.missingQ = shift(t.missingQ, n)
}

// settleSome gives flows that were taken over the time of their protocol.
func (t *Table) settleSome() {
	for n := 0; t.settle > 0 && n < settleAtOnce; {
		t.settle--
		if t.settle < len(t.slots) && t.slots[t.settle].owner == mine {
			i := uint32(t.settle)
			t.want(setTime, t.full(i, t.lifetime(i)))
			n++
		}
	}
}

// renewEvery is how often a share of others' flows gets its time again.
const renewEvery = time.Second

// renew walks over others' flows so that each gets its time again before half
// of it is over.
func (t *Table) renew(now time.Time) {
	if t.renewed.IsZero() || len(t.index) == t.own {
		t.renewed = now
		return
	}
	passed := now.Sub(t.renewed)
	if passed < renewEvery {
		return
	}
	t.renewed = now
	share := min(1, float64(passed)/float64(t.config.Hold/2))
	for range int(share*float64(len(t.slots))) + 1 {
		if t.renewAt++; t.renewAt >= len(t.slots) {
			t.renewAt = 0
		}
		if s := &t.slots[t.renewAt]; s.owner >= 0 && !s.gone {
			t.want(setTime, t.full(uint32(t.renewAt), t.holdFor()))
		}
	}
}
