package conntracksync

import "time"

// The kernel sends no event when a helper moves the sequence numbers of a
// connection: FTP does so just after it told of an expectation, SIP at any
// time. So flows with a helper are read again, soon after the first, and all
// every now and then.
const (
	readAfter = 5 * time.Millisecond
	readEvery = time.Second
)

// readSoon has a flow with a helper read again.
func (t *Table) readSoon(now time.Time, i uint32) {
	if _, ok := t.helped[i]; ok {
		t.readAt = sooner(t.readAt, now.Add(readAfter))
	}
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// readSome reads own flows again that have a helper, as many as a batch holds.
func (t *Table) readSome(now time.Time) {
	switch {
	case len(t.helped) == 0:
		t.readAt = time.Time{}
		return
	case t.readAt.IsZero():
		t.readAt = now.Add(readEvery)
		return
	case now.Before(t.readAt):
		return
	}
	t.readAt = now.Add(readEvery)
	r := &Read{}
	for i := range t.helped { // in any order, so that each has its turn
		if s := &t.slots[i]; s.owner == mine && len(r.Flows) < Batch {
			r.Flows = append(r.Flows, t.full(i, 0))
		}
	}
	if len(r.Flows) > 0 {
		t.actions = append(t.actions, r)
	}
}

// WasRead takes flows as they are in the kernel's table.
func (t *Table) WasRead(now time.Time, r *Read) {
	for n := range r.Flows {
		f := &r.Flows[n]
		if i, ok := t.index[KeyOf(f.Original, f.Zone)]; f.ID != 0 && ok && t.slots[i].owner == mine && f.lasts() {
			t.lives(now, f, inDump, false)
		}
	}
}
