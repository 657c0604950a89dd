package ha

import (
	"time"

	"harouter/vrrp"
)

// The master is lost only when every path is silent. Adverts that do not arrive
// any more prove nothing while it can still be asked: over gossip, and on each
// lan. Its answer stands in for an advert.

// inquiry is a question to the master whether it still is, asked several times.
type inquiry struct {
	first, last uint64 // ids; 0: answered
	at          time.Time
}

// silenceDue is when the master that this node obeys is asked: an interval and
// Skew before it would be given up. Not ok where there is nobody to ask.
func (m *Machine) silenceDue(now time.Time) (p *peer, at time.Time, ok bool) {
	if m.vrrp.State() != vrrp.Backup || m.stopping != 0 {
		return nil, time.Time{}, false
	}
	p = m.obeyed(now)
	if p == nil || p.left {
		return nil, time.Time{}, false
	}
	interval := (m.vrrp.MasterDown() - m.vrrp.Skew()) / 3
	at = m.vrrp.Deadline().Add(-interval - m.vrrp.Skew())
	if next := p.inquiry.at.Add(interval / 3); next.After(at) { // an answer may be lost too
		at = next
	}
	return p, at, true
}

// obeyed is the node whose adverts this one obeys; where none was heard yet, the
// one that says it is master.
func (m *Machine) obeyed(now time.Time) *peer {
	if name := m.vrrp.Master(); name != "" {
		return m.peers[name]
	}
	for _, n := range m.cfg.Nodes {
		if p := m.peers[n.Name]; p != nil && p.told && p.state.Role == RoleMaster && !p.state.Leaving && now.Sub(p.worded) < wordFresh {
			return p
		}
	}
	return nil
}

// settleSilence asks the master when its adverts have stopped.
func (m *Machine) settleSilence(now time.Time) {
	p, at, ok := m.silenceDue(now)
	if !ok || now.Before(at) {
		return
	}
	m.nextID++
	q := &p.inquiry
	if q.first == 0 || now.Sub(q.at) > m.vrrp.MasterDown() {
		q.first = m.nextID
	}
	q.last, q.at = m.nextID, now
	m.do(Send{To: p.Name, Message: Message{Kind: KindVouch, ID: m.nextID}, Wide: true})
}

// silenceDeadline is when settleSilence has something to ask.
func (m *Machine) silenceDeadline(now time.Time) time.Time {
	_, at, ok := m.silenceDue(now)
	if !ok || !at.After(now) {
		return time.Time{}
	}
	return at
}

// answers tells whether a message answers the question, and not one of long ago.
func (q *inquiry) answers(msg Message, now time.Time, limit time.Duration) bool {
	return q.first != 0 && msg.ID >= q.first && msg.ID <= q.last && now.Sub(q.at) < limit
}

// stillMaster takes the answer.
func (m *Machine) stillMaster(p *peer, msg Message, now time.Time) {
	p.inquiry.first = 0
	if msg.Role != RoleMaster || m.obeyed(now) != p {
		return
	}
	m.elect(vrrp.Heard{Speaker: p.Name, Rank: p.Address, Ours: true, Priority: msg.Priority}, now)
}

// seekFor is how long a node that has just started looks for the others before
// it is master of what it cannot see: they may need a moment to be heard, and a
// switch to forward. A lone node is master at the latest 3A+Skew+2 s after it
// started (DESIGN.md §4).
const seekFor = time.Second

// seek puts off the election while the others are looked for. When that ends all
// who started together wait for the whole of 3A+Skew, so that the best of them
// is the first.
func (m *Machine) seek(now time.Time) {
	if m.sought || m.vrrp.State() == vrrp.Initialize {
		return
	}
	if m.vrrp.State() == vrrp.Master || len(m.peers) == 0 || m.vrrp.Master() != "" || m.anyTold(now) {
		m.sought = true
		return
	}
	m.sought = !now.Before(m.carries.Add(seekFor))
	if m.sought || !now.Before(m.vrrp.Deadline()) {
		m.elect(vrrp.Overslept{}, now)
	}
}

// anyTold tells whether any other node is heard by its authenticated word.
func (m *Machine) anyTold(now time.Time) bool {
	for _, p := range m.peers {
		if p.told && p.alive(now) {
			return true
		}
	}
	return false
}

// drowsyFor is how long after it stood still a node reads what was sent to it
// meanwhile.
const drowsyFor = 50 * time.Millisecond

// drowsy tells whether the words that make this node master at once may be old:
// who sent them may be master again. It listens first (DESIGN.md §5 row 14); the
// farewell that comes with such a word starts the timer all the same.
func (m *Machine) drowsy(now time.Time) bool { return now.Sub(m.woke) < drowsyFor }
