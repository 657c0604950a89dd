package ha

import (
	"slices"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// line names an uplink, which may be gone from the file.
type line struct {
	name  string
	id    int
	mask  uint32
	moved bool // it has another address or device now, which its flows cannot follow
}

// sweep is a second deletion, for flows that were being born at the first.
type sweep struct {
	at time.Time
	line
}

// settleDoomed ends the flows of uplinks that left the pool, once the kernel
// gives them no new ones and as far as it is for this node to say.
func (m *Machine) settleDoomed(now time.Time) {
	m.doomed = slices.DeleteFunc(m.doomed, func(l line) bool {
		switch {
		case l.moved:
			m.deleteFlows(l)
			return true
		case m.pool[l.name] && m.uplink(l.name).ID == l.id: // it is back
			return true
		case m.uplink(l.name).ID == l.id && !m.decides(l, now):
			return false
		}
		m.deleteFlows(l)
		m.sweeps = append(m.sweeps, sweep{at: now.Add(sweepAfter), line: l})
		return true
	})
}

// deleteFlows has the hosts told of it by the master alone. What they answer goes to
// it, and one that still has the flow would take the answer, of which they give
// but two a second.
func (m *Machine) deleteFlows(l line) {
	m.do(DeleteFlows{Uplink: l.name, ID: l.id, Mask: l.mask, Tell: m.vrrp.State() == vrrp.Master})
}

// decides tells whether the flows of a dead uplink end here. A master's verdict
// does that, unless all its other uplinks fail too: then most likely it is this
// node that is cut off, and the flows go on elsewhere. A backup that is in sync
// holds flows of others, who may see that uplink alive: the master's word ends
// them, not its own view.
func (m *Machine) decides(l line, now time.Time) bool {
	if m.vrrp.State() == vrrp.Master {
		return m.otherWorks(l.name)
	}
	inSync := false
	for _, p := range m.peers {
		inSync = inSync || m.syncs(p) && m.session(p.Name) == SyncSynced
	}
	if !inSync {
		return m.otherWorks(l.name)
	}
	master := m.peers[m.master(now)]
	return master != nil && master.told && master.state.Role == RoleMaster && !slices.Contains(master.state.Pool, l.name)
}

// otherWorks tells whether an uplink in the pool, other than this one, passed its
// last round of probes.
func (m *Machine) otherWorks(uplink string) bool {
	for _, u := range m.cfg.Balancer.Uplinks {
		h := m.health[u.Name]
		if u.Name != uplink && m.pool[u.Name] && h.Verdict() != balancer.Down && !h.Failing() {
			return true
		}
	}
	return false
}
