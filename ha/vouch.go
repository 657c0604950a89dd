package ha

import (
	"time"

	"harouter/balancer"
)

// A backup's probes wait behind the traffic of the master, and of a line that this
// fills none is answered. So a new master does not end the flows of a line by what
// it saw as a backup: where the former one said just now that the line works, it
// does until as many rounds fail as make a verdict. Without carrier it is dead.

// vouchFresh is how old the former master's word may be. One whose adverts alone
// are heard is followed for two times aliveFor.
const vouchFresh = 5 * time.Second

// vouch begins where this node's own views become the word, and takes what the
// last master said of lines that fail here.
func (m *Machine) vouch(now time.Time) {
	fresh := !m.followed.IsZero() && now.Sub(m.followed) <= vouchFresh
	m.followed = time.Time{}
	if !fresh {
		return
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		h, word := m.health[u.Name], m.verdicts[u.Name]
		if m.pool[u.Name] && word.Usable() && m.links[u.Device].Carrier && (h.Failing() || h.Verdict() == balancer.Down) {
			m.vouched[u.Name] = 0
			if h.Verdict() == balancer.Down {
				m.record("uplink", u.Name, "", "", "stays "+word.String()+" by the word of the last master until this one's probes have failed as master: "+h.Reason())
			}
		}
	}
}

// probedVouched counts the bad rounds in a row since then; one that a full line
// explains is none.
func (m *Machine) probedVouched(r balancer.Round) {
	bad, ok := m.vouched[r.Uplink]
	switch {
	case !ok:
	case r.Good && m.health[r.Uplink].Verdict() != balancer.Down:
		delete(m.vouched, r.Uplink)
	case r.Good:
		m.vouched[r.Uplink] = 0
	case r.Carries:
	case bad+1 >= max(m.cfg.Probes[r.Uplink].Fall, 1):
		delete(m.vouched, r.Uplink)
	default:
		m.vouched[r.Uplink] = bad + 1
	}
}

// sees is this node's own verdict on an uplink, but for one that is vouched for.
func (m *Machine) sees(uplink string) balancer.Verdict {
	v := m.health[uplink].Verdict()
	if _, ok := m.vouched[uplink]; ok && v == balancer.Down && m.verdicts[uplink].Usable() {
		return m.verdicts[uplink]
	}
	return v
}
