package ha

import (
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// whose is whose word on the uplinks counts here.
type whose uint8

const (
	mine   whose = iota // this node's own
	theirs              // the master's
	kept                // that of before: the master's will come in a moment
)

// word tells whose word on the uplinks counts, and who the master is, nil where
// it is none of the other nodes.
func (m *Machine) word(now time.Time) (whose, *peer) {
	master := m.peers[m.master(now)] // also of a node that takes no part in the election
	switch {
	case m.vrrp.State() == vrrp.Master || master == nil || !master.told || !master.alive(now):
		return mine, nil
	case master.state.Role == RoleMaster:
		return theirs, master
	case now.Sub(master.worded) < 2*aliveFor: // only its adverts are here; it will say so in a moment
		return kept, master
	}
	return mine, nil
}

// settleShares decides the shares of policies whose method measures, where this
// node's word counts, and follows the master's elsewhere. Each change has a
// higher epoch than all before, and nobody goes back to a lower one: a master
// that has just started goes on from what the others still have.
func (m *Machine) settleShares(now time.Time) {
	if !m.measures() {
		return
	}
	whose, master := m.word(now)
	switch {
	case whose == theirs && master.state.ShareEpoch >= m.shareEpoch:
		m.meter.Follow(master.state.Shares)
		m.shareEpoch = master.state.ShareEpoch
	case whose == mine:
		for _, p := range m.peers {
			if p.told && p.alive(now) && p.state.ShareEpoch > m.shareEpoch && p.state.Hash == m.cfg.Hash {
				m.meter.Follow(p.state.Shares)
				m.shareEpoch = p.state.ShareEpoch + 1
			}
		}
		if m.meter.Decide(now, m.measurements()) {
			m.shareEpoch++
		}
	}
}

// measures tells whether a policy goes by what is measured.
func (m *Machine) measures() bool {
	for _, p := range m.cfg.Balancer.Policies {
		if p.Method.Measures() {
			return true
		}
	}
	return false
}

func (m *Machine) measurements() map[string]balancer.Measurement {
	out := map[string]balancer.Measurement{}
	for _, u := range m.cfg.Balancer.Uplinks {
		h, load := m.health[u.Name], m.loads[u.Name]
		out[u.Name] = balancer.Measurement{
			Usable: m.pool[u.Name], Degraded: m.verdicts[u.Name] == balancer.Degraded,
			Load: load.last, Samples: load.samples,
			RTT: h.RTT(), Loss: h.SureLoss(), Rounds: m.rounds[u.Name],
		}
	}
	return out
}

// load is the last sample of what passes over an uplink.
type load struct {
	last    balancer.Load
	samples int
}

func (m *Machine) onLoads(ev Loads) {
	for name, l := range ev.Uplinks {
		if m.health[name] != nil {
			m.loads[name] = load{l, m.loads[name].samples + 1}
		}
	}
}
