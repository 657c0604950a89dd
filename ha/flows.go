package ha

import (
	"fmt"
	"time"

	"harouter/vrrp"
)

const (
	// flushLimit bounds how long a hand-over waits for the successor to have all
	// flows, takeLimit how long a takeover waits for them to be in the kernel.
	flushLimit = 500 * time.Millisecond
	takeLimit  = time.Second
	flushGrace = 100 * time.Millisecond // after flushLimit, for the answer to come
	flushAgain = 10 * time.Second       // a node that did not confirm the flows may claim again after this
)

// maxTerm is more than any term that is not made up: 2^62 milliseconds since
// 1970. A greater one would leave no room for those to come.
const maxTerm = 1 << 62

// sawTerm notes the term of another master.
func (m *Machine) sawTerm(term uint64) {
	if term < maxTerm {
		m.term = max(m.term, term)
	}
}

// takeFlows makes this node the owner of all flows, in a term above all that were
// heard of. What a former life took is below the time at which this one began.
func (m *Machine) takeFlows() {
	if !m.cfg.Sync {
		return
	}
	m.sawTerm(uint64(max(m.started.UnixMilli(), 0)))
	m.term++
	m.owned, m.last = m.term, m.term
	m.do(TakeFlows{Term: m.term})
}

// yieldFlows ends that.
func (m *Machine) yieldFlows() {
	if m.owned == 0 {
		return
	}
	m.owned = 0
	if m.cfg.Sync {
		m.do(YieldFlows{Term: m.term})
	}
}

// settleFlows keeps the ownership of the flows in step with the role. A master
// that hears of a higher term met another one, which gave way: its own word is
// the newer one. As long as the other is master too the election comes first.
func (m *Machine) settleFlows(now time.Time) {
	if !m.cfg.Sync { // perhaps a reload says so
		m.owned = 0
	}
	for _, p := range m.peers {
		switch {
		case m.synced(p) || !p.alive(now) || !p.told:
			p.unsynced = time.Time{}
		case p.unsynced.IsZero():
			p.unsynced = now
		}
	}
	if m.vrrp.State() != vrrp.Master || m.adding != 0 || m.handoff != nil || m.vrrp.Suspect() || m.owned == m.term && m.owned != 0 {
		return
	}
	for _, p := range m.peers {
		if p.alive(now) && p.told && p.state.Role == RoleMaster {
			return
		}
	}
	m.takeFlows()
}

// syncs tells whether flows are replicated between this node and a peer: one of
// an older version, or with another file, says nothing of it.
func (m *Machine) syncs(p *peer) bool { return m.cfg.Sync && p.state.Sync }

// synced tells whether a peer's flow table agrees with this node's, as far as
// that can be asked for.
func (m *Machine) synced(p *peer) bool { return !m.syncs(p) || m.sessions[p.Name] == SyncSynced }

// session is the state of the replication with a node.
func (m *Machine) session(node string) SyncState {
	switch s := m.sessions[node]; {
	case !m.cfg.Sync:
		return SyncOff
	case s != "":
		return s
	}
	return SyncConnecting
}

// waitsForFlows tells whether a better node stays backup because it does not
// have the master's flows yet (DESIGN.md §5 row 4).
func (m *Machine) waitsForFlows(master *peer, now time.Time) bool {
	return !m.synced(master) && !(m.cfg.PreemptUnsynced && m.overdue(master, now))
}

// overdue tells whether a peer's flow table has not agreed with this node's for
// longer than conntrack_sync.timeout.
func (m *Machine) overdue(p *peer, now time.Time) bool {
	return !p.unsynced.IsZero() && now.Sub(p.unsynced) >= m.cfg.SyncTimeout
}

// lacks tells whether an operator's hand-over to a peer has to wait: a table that
// is on its way is soon there.
func (m *Machine) lacks(p *peer) bool { return m.syncs(p) && m.session(p.Name) == SyncSyncing }

func notReceived(p *peer) string {
	return p.Name + " has not received all connections yet, see harouter status and try again in a moment"
}

// settleUnsynced raises the alarm: if the master fails now, connections do.
func (m *Machine) settleUnsynced(now time.Time) {
	for k, a := range m.alarms {
		if p := m.peers[k.subject]; k.code == AlarmUnsynced && !a.edge && (p == nil || !m.unsyncedWith(p, now)) {
			m.clear(k.code, k.subject)
		}
	}
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !m.unsyncedWith(p, now) {
			continue
		}
		text := fmt.Sprintf("the connections of %s and %s have not been in sync for %v (%s): a takeover would break some", m.cfg.Node, p.Name, m.cfg.SyncTimeout, m.session(p.Name))
		if m.vrrp.State() == vrrp.Backup && p.state.Effective < m.vrrp.Priority() && !m.cfg.PreemptUnsynced {
			text += "; " + m.cfg.Node + " stays backup until they are"
		}
		m.raise(AlarmUnsynced, p.Name, text, time.Time{}, now)
	}
}

// unsyncedWith tells whether the alarm stands for a peer: of two, one is the
// master that the other should be able to follow.
func (m *Machine) unsyncedWith(p *peer, now time.Time) bool {
	return m.overdue(p, now) && (m.vrrp.State() == vrrp.Master || m.vrrp.Master() == p.Name)
}

// flush has the successor confirm all flows before it is asked to take over. It
// tells whether that has begun.
func (m *Machine) flush(to *peer, now time.Time) bool {
	if !m.syncs(to) {
		return false
	}
	switch m.session(to.Name) {
	case SyncSynced, SyncSyncing:
		m.handoff.flushing, m.handoff.until = true, now.Add(flushLimit+flushGrace)
		m.do(FlushFlows{ID: m.handoff.id, To: to.Name})
		return true
	case SyncOff, SyncConnecting, SyncStale:
	}
	m.record("sync", to.Name, "", string(m.session(to.Name)), "handed over although the connections are not in sync: some will break")
	return false
}

// flushed goes on with the hand-over, or calls off one that nobody is in need of.
func (m *Machine) flushed(err string, now time.Time) {
	h := m.handoff
	h.flushing = false
	p := m.peers[h.to]
	if p == nil || !p.canServe(now) {
		m.endHandoff(h.to+" is not heard any more", now)
		return
	}
	if err != "" {
		why := h.to + " did not confirm that it has all connections: " + err
		if h.patient && m.stopping == 0 {
			p.unconfirmed = now
			if now.Before(h.by) {
				m.wish = &wish{to: h.to, waits: true, next: now.Add(wishAgain), why: why, hand: h.hand}
				h.answer = nil
			}
			m.endHandoff(why, now)
			return
		}
		m.record("sync", h.to, "", string(m.session(h.to)), why+"; some may break")
	}
	m.sendHandoff(now)
}

// handoffLimit is how long a successor may take to have its addresses in place.
func (m *Machine) handoffLimit(p *peer) time.Duration {
	if m.syncs(p) {
		return handoffLimit + takeLimit
	}
	return handoffLimit
}

// withTerm completes a message that has to do with who is master.
func (m *Machine) withTerm(msg Message) Message {
	if m.cfg.Sync {
		msg.Term = m.term
	}
	return msg
}
