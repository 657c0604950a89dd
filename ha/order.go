package ha

import (
	"time"

	"harouter/vrrp"
)

// Skew puts the backups in order once the master is lost, but only if all heard
// its last advert and none of them is busy; else a lesser one is master for a
// moment, and the role moves twice. What they told of themselves is surer: who
// knows of a better one that lives lets it go first.

const (
	firstLeast = 20 * time.Millisecond // for the better one, at short intervals
	firstMost  = time.Second           // and at long ones
)

// letBetterFirst puts the takeover of a lost master off, once, for as long as a
// better node may have heard one advert more.
func (m *Machine) letBetterFirst(now time.Time) {
	due := m.vrrp.Deadline()
	if m.vrrp.State() != vrrp.Backup || now.Before(due) || due.Equal(m.putOff) || !m.outrankedBySome(now) {
		return
	}
	interval := (m.vrrp.MasterDown() - m.vrrp.Skew()) / 3
	m.putOff = now.Add(min(max(interval, firstLeast), firstMost))
	m.elect(vrrp.Wait{Until: m.putOff}, now)
}

// outrankedBySome tells whether a node that lives would win the election.
func (m *Machine) outrankedBySome(now time.Time) bool {
	for _, p := range m.peers {
		if p.Name != m.vrrp.Master() && p.state.Role == RoleBackup && now.Sub(p.worded) <= wordFresh && m.outranks(p, now) {
			return true
		}
	}
	return false
}

// outranks tells whether a node would win an election against this one.
func (m *Machine) outranks(p *peer, now time.Time) bool {
	own := m.vrrp.Priority()
	return p.canServe(now) && (p.state.Effective > own || p.state.Effective == own && p.Address.Compare(m.address()) > 0)
}
