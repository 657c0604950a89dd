package guard

import (
	"fmt"
	"time"
)

const (
	// secondFarewell follows the first: packets get lost, and a hanging
	// daemon's advert may have crossed the first one. It re-arms the
	// successor's skew timer, so it must not come much later.
	secondFarewell = 5 * time.Millisecond
	// sendPatience bounds how long a fence that took the addresses away waits
	// for a farewell that does not get out.
	sendPatience = 300 * time.Millisecond
	// A removal that fails is tried again after retryFirst, doubling to
	// retryLast, removeTries times in all (about a minute).
	retryFirst  = 5 * time.Millisecond
	retryLast   = time.Second
	removeTries = 64
)

// fence is a fence on its way.
type fence struct {
	addresses []Address
	farewell  farewell
	removing  bool
	removed   bool // all of them
	sending   int
	tries     int
	retryAt   time.Duration // zero: no removal is to be tried again
	againAt   time.Duration // zero: the second farewell is out, or none is due
	patience  time.Duration // a farewell that blocks is not waited for longer
	problem   error         // the removal was given up
}

// deadline says when the fence wants a tick, if at all.
func (f *fence) deadline() (time.Duration, bool) {
	var d time.Duration
	for _, at := range []time.Duration{f.retryAt, f.againAt} {
		if at != 0 && (d == 0 || at < d) {
			d = at
		}
	}
	if d == 0 && !f.removing && f.sending > 0 {
		d = f.patience
	}
	return d, d != 0
}

// take starts a fence, in silence or with a farewell.
func (m *machine) take(now time.Duration, f farewell) []action {
	m.phase, m.returned = fencing, false
	m.fence = fence{addresses: m.state.Addresses, farewell: f, removing: true, tries: 1, patience: now + sendPatience}
	as := []action{remove{Addresses: m.fence.addresses}}
	if len(f.Frames) > 0 || len(f.Words) > 0 {
		m.fence.againAt = now + secondFarewell
	}
	if len(f.Frames) > 0 && !m.state.OneHolder { // Skew is time enough for the removal
		m.fence.sending++
		as = append(as, send{farewell{Frames: f.Frames}})
	}
	return as
}

// onRemoved sends the words: who gets one puts the addresses on at once.
func (m *machine) onRemoved(now time.Duration, err error) []action {
	f := &m.fence
	switch {
	case err == nil && !f.removed:
		f.removed = true
		rest := farewell{Words: f.farewell.Words}
		if m.state.OneHolder {
			rest.Frames = f.farewell.Frames
		}
		if len(rest.Frames)+len(rest.Words) > 0 {
			f.sending++
			return []action{send{rest}}
		}
	case err == nil:
	case f.tries >= removeTries:
		f.problem = fmt.Errorf("remove the addresses, %d times: %w", f.tries, err)
	default:
		f.retryAt = now + min(retryFirst<<min(f.tries-1, 10), retryLast)
	}
	return nil
}

// onFenceTime does what of the fence is due.
func (m *machine) onFenceTime(now time.Duration) []action {
	var as []action
	f := &m.fence
	if f.retryAt != 0 && now >= f.retryAt {
		f.retryAt, f.removing = 0, true
		f.tries++
		as = append(as, remove{Addresses: f.addresses})
	}
	if f.againAt != 0 && now >= f.againAt {
		f.againAt = 0
		again := f.farewell
		if !f.removed {
			again.Words = nil
		}
		if !f.removed && m.state.OneHolder {
			again.Frames = nil
		}
		if f.sending == 0 && len(again.Frames)+len(again.Words) > 0 {
			f.sending++
			as = append(as, send{again})
		}
	}
	return append(as, m.fenceDone(now)...)
}

// fenceDone ends the fence when nothing of it is left to do.
func (m *machine) fenceDone(now time.Duration) []action {
	f := &m.fence
	if m.phase != fencing || f.removing || f.retryAt != 0 || f.againAt != 0 || f.sending > 0 && now < f.patience {
		return nil
	}
	switch {
	case m.returned: // what it said meanwhile is a new life, which may have ended too
		m.phase = watching
		if m.gone {
			return m.lost(now)
		}
		return nil
	case f.problem == nil:
		m.state.Holding = false
	}
	if m.gone && m.again {
		m.again = false
		return m.take(now, farewell{})
	}
	if m.gone {
		return m.end(f.problem)
	}
	m.phase = fenced
	return nil
}
