package ha

import (
	"time"

	"harouter/vrrp"
)

// An operator's hand-over costs nothing only to a node that has all connections.
// One that is about to have them, after its start say, or that is too busy to
// confirm them at once, is waited for: nothing has changed until then.

const (
	wishLimit = 3 * time.Second        // so long
	wishAgain = 200 * time.Millisecond // after it did not confirm them
)

// wish is a hand-over that an operator waits for, which has not begun.
type wish struct {
	to    string
	waits bool      // for that node to be in sync; else whether it is or not
	next  time.Time // when it may begin
	why   string    // why it has not
	hand
}

// settleWish begins the hand-over once the other node is ready for it.
func (m *Machine) settleWish(now time.Time) {
	w := m.wish
	if w == nil {
		return
	}
	p := m.peers[w.to]
	switch {
	case m.vrrp.State() != vrrp.Master || m.stopping != 0:
		m.endWish(m.cfg.Node + " is master no more")
	case m.handoff != nil:
		m.endWish("another one is under way")
	case p == nil || !p.canServe(now):
		m.endWish(w.to + " is not heard any more")
	case !now.Before(w.by):
		m.endWish(w.why)
	case now.Before(w.next) || w.waits && !m.synced(p) || m.vrrp.Suspect() || m.adding != 0:
	default:
		m.wish = nil
		m.beginHandoff(p, w.hand, now)
	}
}

// endWish gives up what has not begun.
func (m *Machine) endWish(why string) {
	if w := m.wish; w != nil {
		m.wish = nil
		w.answer("hand-over to " + w.to + ": " + why + "; nothing changed")
	}
}
