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

// lateFor is how old an advert may be that nobody forged: a kernel that cannot
// resolve an address keeps packets for 3 s.
const lateFor = 5 * time.Second

// mastership is what a node was while it said so last.
type mastership struct {
	effective uint8
	until     time.Time
}

// says takes in what a node says it is.
func (p *peer) says(role Role, effective uint8, now time.Time) {
	if p.told && p.state.Role == RoleMaster && (role != RoleMaster || effective != p.state.Effective) {
		p.lately = mastership{p.state.Effective, now}
	}
	p.state.Role, p.state.Effective = role, effective
}

// was is the effective priority of this node while it was master a moment ago, 0
// if it was not: such an advert of its own may still be on its way.
func (m *Machine) was(now time.Time) uint8 {
	if now.Sub(m.lately.until) < lateFor {
		return m.lately.effective
	}
	return 0
}

// late tells whether an advert was true a short time ago: it waited for a cable
// that was cut, say. It is not obeyed, but nobody forged it.
func (p *peer) late(h vrrp.Heard, now time.Time) bool {
	return h.Priority == p.lately.effective && h.Priority != 0 && now.Sub(p.lately.until) < lateFor
}

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
		m.denied(p, now)
		return false
	case d.asked.IsZero() || now.Sub(d.asked) >= denialFor:
		m.nextID++
		d.id, d.asked, d.denied = m.nextID, now, time.Time{}
		m.do(Send{To: p.Name, Message: Message{Kind: KindVouch, ID: d.id}, Wide: true})
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
	if msg.ID != d.id && p.inquiry.answers(msg, now, m.vrrp.MasterDown()) {
		m.stillMaster(p, msg, now)
		return
	}
	if d.id == 0 || msg.ID != d.id {
		return
	}
	h := d.heard
	p.says(msg.Role, msg.Priority, now)
	p.worded = now
	if msg.Was != 0 {
		p.lately = mastership{msg.Was, now}
	}
	if m.agrees(p, h) {
		*d = doubt{}
		if h.Priority != 0 { // a farewell was obeyed at once
			m.obey(h, now)
		}
		return
	}
	d.id, d.denied = 0, now // the answer may come twice
	m.denied(p, now)
	if h.Priority == 0 && msg.Role == RoleMaster && m.vrrp.State() == vrrp.Backup {
		h.Priority = msg.Priority // its word that it has not left
		m.elect(h, now)
	}
}

// denied counts the advert in doubt, and tells a person of it.
func (m *Machine) denied(p *peer, now time.Time) {
	if p.late(p.doubt.heard, now) {
		return
	}
	m.drops["vrrp"][string(vrrp.DropForged)]++
	m.raise(AlarmForgedAdvert, p.Name, fmt.Sprintf("somebody sends adverts as %s (from %v), which denies them: look for that machine on the LAN", p.Name, p.doubt.source),
		now.Add(alarmHold), now)
}
