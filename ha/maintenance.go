package ha

import (
	"time"

	"harouter/vrrp"
)

// resting is a wish of an operator that is being written down: it is in force
// once it is, since it holds over restarts.
type resting struct {
	id     uint64
	refuse func(string)
	then   func(now time.Time)
}

// remember writes down whether this node is in maintenance, and goes on when
// that is done.
func (m *Machine) remember(on bool, refuse func(string), then func(now time.Time)) {
	if m.resting != nil {
		refuse("another change of the maintenance of " + m.cfg.Node + " is under way, try again in a moment; nothing changed")
		return
	}
	m.nextID++
	m.resting = &resting{m.nextID, refuse, then}
	m.do(Rest{ID: m.nextID, On: on})
}

func (m *Machine) onRested(ev Rested, now time.Time) {
	r := m.resting
	if r == nil || r.id != ev.ID {
		return // what was written down before was taken back
	}
	m.resting = nil
	if ev.Err != nil {
		r.refuse("this cannot be remembered over a restart: " + ev.Err.Error() + "; nothing changed")
		return
	}
	r.then(now)
}

// rest keeps this node out: a master hands over first, and if that cannot be
// done nothing changes. One that is alone stays master until somebody comes.
func (m *Machine) rest(answer func(string), now time.Time) {
	if why := m.refuseRest(now); why != "" {
		answer(why)
		return
	}
	m.remember(true, answer, func(now time.Time) {
		undo := func(why string) {
			m.do(Rest{On: m.maintenance})
			answer(why)
		}
		next := m.relief(now)
		if next == nil {
			m.record("operator", "maintenance", "", "on", "asked on "+m.cfg.Node)
			m.setMaintenance(true)
			answer("")
			return
		}
		if why := m.refuseRest(now); why != "" { // the moment has passed
			undo(why)
			return
		}
		m.record("operator", "maintenance", "", "on", "asked on "+m.cfg.Node)
		m.wish = &wish{to: next.Name, waits: m.lacks(next), why: notReceived(next), hand: hand{
			rest: true, reason: m.cfg.Node + " goes into maintenance", patient: true, by: now.Add(wishLimit),
			answer: func(err string) {
				if err != "" {
					m.recordRefusal("maintenance", "on", err)
					undo(err)
					return
				}
				m.setMaintenance(true)
				answer("")
			},
		}}
		m.settleWish(now)
	})
}

// unrest ends the wait for a hand-over before which maintenance cannot begin. One
// that the successor was asked for goes on, but no maintenance follows.
func (m *Machine) unrest(now time.Time) {
	const why = "maintenance off was asked for meanwhile"
	if w := m.wish; w != nil && w.rest {
		m.endWish(why)
	}
	switch h := m.handoff; {
	case h == nil || !h.rest:
	case h.flushing:
		m.endHandoff(why, now)
	default:
		h.answer(why + "; the hand-over to " + h.to + " goes on")
		h.rest, h.answer = false, nil
	}
}

// relief is the node that a master hands over to before it rests, nil if it need
// not.
func (m *Machine) relief(now time.Time) *peer {
	next := m.successor(now)
	if m.maintenance || m.vrrp.State() != vrrp.Master || next == nil || next.state.Resting {
		return nil
	}
	return next
}

// refuseRest says why this node cannot be kept out now, "" if it can.
func (m *Machine) refuseRest(now time.Time) string {
	next := m.relief(now)
	if next == nil {
		return ""
	}
	if m.wish != nil {
		return "a hand-over to " + m.wish.to + " is under way; nothing changed"
	}
	if m.handoff != nil || m.vrrp.Suspect() || m.adding != 0 {
		return "the role of " + m.cfg.Node + " is not settled yet, try again in a second; nothing changed"
	}
	return ""
}

func (m *Machine) setMaintenance(on bool) {
	m.maintenance = on
	m.held = m.held && !on
}
