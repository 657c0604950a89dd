package conntracksync

import "time"

// Heard takes an event of the kernel that was not made by this node's own
// injector.
func (t *Table) Heard(now time.Time, e *Event) {
	switch {
	case e.Expectation != nil:
		t.heardExpectation(now, e.Expectation, e.Kind)
		return
	case e.Kind == Ended: // whatever is known may end, also when it would not be told any more
		if oneFamily(&e.Flow.Original) {
			t.ended(now, KeyOf(e.Flow.Original, e.Flow.Zone), e.Flow.ID)
		}
		return
	case !e.Flow.lasts():
		return
	}
	t.lives(now, &e.Flow, e.Told, e.Kind == Began)
}

// lasts reports whether a flow is one that can be told, and is not ending.
func (f *Flow) lasts() bool { return f.whole() && f.Status&Dying == 0 }

// ended takes the end of the entry with that number, 0 if that is not known.
// After an overrun the kernel tells ends again, which then may come after the
// begin of the next flow by the same name.
func (t *Table) ended(now time.Time, k Key, id uint32) {
	i, ok := t.index[k]
	if !ok {
		return
	}
	switch s := &t.slots[i]; {
	case s.owner == mine && id != 0 && s.kernel != 0 && id != s.kernel:
	case s.owner < 0:
		t.drop(i)
	case !s.gone:
		// Its owner may say so at once, or it was deleted here alone.
		s.gone = true
		t.missingQ = append(t.missingQ, due{now.Add(missingFor), i})
		t.pin(i, 1)
	}
}

// Taken says that a flow is not in the kernel's table, since another one that
// lives waits for the same answers: it is as if it had ended.
func (t *Table) Taken(now time.Time, f *Flow) { t.ended(now, KeyOf(f.Original, f.Zone), 0) }

// lives takes what the kernel's table says of a flow that is in it: also of one
// that is known from before the settings leave it out, since those who were told
// of it must hear of its end.
func (t *Table) lives(now time.Time, f *Flow, told Parts, began bool) {
	p, r := pack(f)
	i, ok := t.index[p.key]
	if !ok {
		if !t.concerns(f) {
			return
		}
		p.timeout = t.custom(&p, &r)
		if i, ok = t.add(&p, &r, mine); ok {
			t.slots[i].kernel = f.ID
			t.enqueue(now, i)
		}
		return
	}
	s := &t.slots[i]
	s.gone, s.kernel = false, f.ID
	old, oldRarity := s.flow, *t.rarity(i)
	if !began {
		if told&ToldState == 0 {
			p.tcp, r.sctp = old.tcp, oldRarity.sctp
		}
		if told&ToldLabels == 0 {
			r.labels = oldRarity.labels
		}
		if told&ToldHelper == 0 {
			r.helper = oldRarity.helper
		}
		if told&ToldMaster == 0 {
			r.master = oldRarity.master
		}
		if told&ToldAdjust == 0 {
			r.adjust = oldRarity.adjust
		}
	}
	p.rare = r != rarity{}
	if given := t.custom(&p, &r); told&ToldTimeout != 0 && s.owner == mine {
		p.timeout = given
	} else {
		p.timeout = old.timeout
	}
	switch {
	case s.owner == orphan:
	case p == old && r == oldRarity:
		return
	case p.reply != old.reply && s.told:
		// Another flow by the same name: an end was missed.
		t.disown(i, true)
		t.claim(i)
	}
	s.flow = p
	t.setRarity(i, &r)
	if s.owner != mine {
		// Its packets come here, so here is known best what it does. Its owner
		// decides whose it is now.
		t.claim(i)
	}
	s.kernel = f.ID
	t.enqueue(now, i)
}

// custom is the time that a flow has left where that is more than the
// protocol's own: somebody gave it that. It is 0 otherwise.
func (t *Table) custom(f *flow, r *rarity) uint32 {
	given := f.timeout
	f.timeout = 0
	if given <= t.config.Timeouts.of(f, r) {
		return 0
	}
	return given
}

// Dump begins a reading of the kernel's whole table: at start, and after an
// overrun. Dumped follows for each flow, and DumpDone, with nothing else done in
// between. Events that wait meanwhile are fed afterwards.
func (t *Table) Dump() {
	t.dumping = true
	for i := range t.slots {
		t.slots[i].seen = false
	}
	for _, x := range t.expected {
		x.seen = false
	}
}

// inDump is what a reading of the kernel's table tells of a flow.
const inDump = ToldState | ToldLabels | ToldHelper | ToldMaster | ToldAdjust

// Dumped takes one flow of the table. At start, before the first role, nobody
// knows whose the flows are: another node may have had them put here. They are
// told when this node is master, or when packets of theirs come.
func (t *Table) Dumped(now time.Time, f *Flow, first bool) {
	if !f.lasts() {
		return
	}
	i, ok := t.index[KeyOf(f.Original, f.Zone)]
	switch {
	case !ok && first:
		if !t.concerns(f) {
			return
		}
		p, r := pack(f)
		p.timeout = 0 // that of a flow of another node means nothing
		i, ok = t.add(&p, &r, orphan)
		if ok && t.role.Master {
			t.claim(i)
			t.enqueue(now, i)
			t.settle = len(t.slots)
		}
	case !ok || t.slots[i].owner == mine:
		// The time that is left says nothing of the time that is given.
		t.lives(now, f, inDump, false)
		i, ok = t.index[KeyOf(f.Original, f.Zone)]
	}
	if ok {
		t.slots[i].seen, t.slots[i].gone = true, false
	}
}

// DumpDone ends the reading: own flows that were not in it have ended, others'
// that were not are installed again unless their owners say that they ended.
func (t *Table) DumpDone(now time.Time) {
	t.dumping = false
	for i := range t.slots {
		if s := &t.slots[i]; s.owner != nobody && !s.seen {
			t.ended(now, s.key, 0)
		}
	}
	for n, x := range t.expected {
		if !x.seen {
			t.unexpected(now, n)
		}
	}
}

// SetRole says what this node is now. Who becomes master takes over all flows. The
// term counts for a master only: a backup keeps that in which it was one last.
func (t *Table) SetRole(now time.Time, r Role) {
	became := r.Master && !t.role.Master
	if !r.Master {
		r.Term = 0
	}
	r.Term = max(r.Term, t.role.Term)
	if r != t.role {
		t.role = r
		for _, p := range t.peers {
			if p.up { // also before its hello: ours is on its way with the former role
				t.send(p, t.role.append([]byte{byte(roleFrame)}))
			}
		}
	}
	if !became {
		for _, p := range t.peers {
			t.adopt(p) // in a later term this node may be right
		}
		t.Hurry(now)
		return
	}
	for i := range t.slots {
		if s := &t.slots[i]; s.owner != nobody && s.owner != mine {
			t.claim(uint32(i))
			t.tellAll(uint32(i))
			if s.gone {
				s.gone = false
				t.want(install, t.full(uint32(i), t.lifetime(uint32(i))))
			}
		}
	}
	t.claimExpectations()
	t.settle = len(t.slots)
	for _, p := range t.peers {
		if p.met {
			t.sync(p, allBuckets)
		}
	}
}

// Hurry has all told at the next Work that waits for its window to be over, and
// read what the kernel does not tell, which the Work after WasRead tells: at a
// hand-over the successor is to know everything.
func (t *Table) Hurry(now time.Time) {
	for i := range t.laterQ {
		t.laterQ[i].at = now
	}
	if len(t.helped) > 0 {
		t.readAt = now
	}
}

// tellAll counts a flow as told: a sync of everything follows.
func (t *Table) tellAll(i uint32) {
	s := &t.slots[i]
	if s.told {
		t.sums[s.key.bucket()] -= s.digest
	} else {
		t.tells++
	}
	r := t.rarity(i)
	s.told, s.digest = true, s.flow.digest(s.identity(r), r)
	t.sums[s.key.bucket()] += s.digest
}
