package ha

import (
	"fmt"
	"net/netip"
	"time"

	"harouter/vrrp"
)

// doubt is what becomes of adverts that contradict what their sender says over
// gossip: it is asked, and until it had the time to answer they are not obeyed.
// An advert can be forged by anybody on the LAN, the word over gossip cannot
// (DESIGN.md §5 row 18).
type doubt struct {
	id     uint64
	asked  time.Time
	heard  vrrp.Heard // the last one that waits for the answer
	source netip.Addr
	denied time.Time // when the sender said that it was not its
}

const (
	wordFresh  = time.Second            // gossip tells each state again every 300 ms
	vouchLimit = 50 * time.Millisecond  // for an answer over the direct cable
	denialFor  = 500 * time.Millisecond // how long a denial stands without asking again
)

// credible tells whether an advert of one of our nodes may be obeyed. Where the
// authenticated path is silent, the advert is all there is.
func (m *Machine) credible(p *peer, h vrrp.Heard, source netip.Addr, now time.Time) bool {
	d := &p.doubt
	if !p.told || now.Sub(p.worded) > wordFresh || m.agrees(p, h) || m.handoff != nil && m.handoff.to == p.Name {
		*d = doubt{}
		return true
	}
	if m.taking != nil && m.taking.from == p.Name {
		return true
	}
	d.heard, d.source = h, source
	switch {
	case !d.denied.IsZero() && now.Sub(d.denied) < denialFor:
		m.forged(p, source, now)
		return false
	case d.asked.IsZero() || now.Sub(d.asked) >= denialFor:
		m.nextID++
		d.id, d.asked, d.denied = m.nextID, now, time.Time{}
		m.do(Send{To: p.Name, Message: Message{Kind: KindVouch, ID: d.id}})
	case now.Sub(d.asked) >= vouchLimit:
		return true // nobody denies it
	}
	// A farewell only starts a timer of Skew: time enough to deny it. A backup
	// that obeys a master too many loses nothing before that one's word is in.
	return h.Priority == 0
}

// agrees tells whether an advert says what its sender said over gossip.
func (m *Machine) agrees(p *peer, h vrrp.Heard) bool {
	if h.Priority == 0 {
		return p.state.Role != RoleMaster || p.state.Leaving
	}
	return p.state.Role == RoleMaster && p.state.Effective == h.Priority
}

// onVouched takes a node's answer to whether an advert was its own.
func (m *Machine) onVouched(p *peer, msg Message, now time.Time) {
	d := &p.doubt
	if d.id == 0 || msg.ID != d.id {
		return
	}
	h := d.heard
	p.state.Role, p.state.Effective, p.worded = msg.Role, msg.Priority, now
	if m.agrees(p, h) {
		*d = doubt{}
		if h.Priority != 0 { // a farewell was obeyed at once
			m.obey(h, now)
		}
		return
	}
	d.denied = now
	m.forged(p, d.source, now)
	if h.Priority == 0 && msg.Role == RoleMaster && m.vrrp.State() == vrrp.Backup {
		h.Priority = msg.Priority // its word that it has not left
		m.elect(h, now)
	}
}

func (m *Machine) forged(p *peer, source netip.Addr, now time.Time) {
	m.drops["vrrp"][string(vrrp.DropForged)]++
	m.raise(AlarmForgedAdvert, p.Name, fmt.Sprintf("somebody sends adverts as %s (from %v), which denies them: look for that machine on the LAN", p.Name, source),
		now.Add(alarmHold), now)
}
