package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// onReconfigured goes on with a file that all edges have taken. What stays in
// it keeps its state: roles, verdicts, what is known of the peers.
func (m *Machine) onReconfigured(ev Reconfigured, now time.Time) {
	a := m.adopting
	m.adopting = nil
	if ev.Err != nil {
		m.record("config", "generation", fmt.Sprint(m.cfg.Generation), fmt.Sprint(m.cfg.Generation), ev.Err.Error())
		if m.trial != nil { // its end, most likely: the file on trial must not stay
			m.trial.until = later(m.trial.until, now.Add(trialAgain))
		}
		m.fetch = &fetch{until: now.Add(fetchAgain)} // a full disk, most likely
		if a != nil {
			a.done(ev.Err.Error(), now)
		}
		return
	}
	old := m.cfg
	m.cfg, m.fetch, m.trial = ev.Config, nil, nil
	if a != nil {
		m.trial = a.trial
	}
	if m.cfg.Hash != old.Hash || m.cfg.Generation != old.Generation {
		m.record("config", "generation", generation(old), generation(m.cfg), "in use")
	}
	if m.cfg.Hash != old.Hash {
		m.reconfigure(old, now)
	}
	if a != nil {
		a.done("", now)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func generation(c Config) string { return fmt.Sprintf("%d (%s)", c.Generation, short(c.Hash)) }

func (m *Machine) reconfigure(old Config, now time.Time) {
	m.changedFile = now
	m.members = membersOf(m.cfg.Nodes)
	m.takenBack()
	m.untwinned = true
	own, _ := m.cfg.node(m.cfg.Node)
	m.elect(vrrp.Configure{
		Version: vrrp.Version(m.cfg.VRRPVersion), Interval: m.cfg.Advertise, Rank: own.Address, Preempt: m.cfg.Preempt, PreemptDelay: m.cfg.PreemptDelay,
	}, now)
	for name := range m.peers {
		if _, ok := m.cfg.node(name); !ok {
			delete(m.peers, name)
			m.record("node", name, "", "", "no longer in the configuration")
		}
	}
	for _, n := range m.cfg.Nodes {
		switch p := m.peers[n.Name]; {
		case n.Name == m.cfg.Node:
		case p != nil:
			p.Node, p.guest = n, false
		default:
			m.peers[n.Name] = &peer{Node: n}
			m.record("node", n.Name, "", "", "new in the configuration")
		}
	}
	m.indexSpeakers()
	for _, u := range old.Balancer.Uplinks {
		i := slices.IndexFunc(m.cfg.Balancer.Uplinks, func(n balancer.Uplink) bool { return n.Name == u.Name })
		if i < 0 {
			m.forgetUplink(u, old.Balancer.MarkMask)
		} else if n := m.cfg.Balancer.Uplinks[i]; n.NAT() != u.NAT() || n.Device != u.Device || m.mark(n) != balancer.Mark(u.ID, old.Balancer.MarkMask) {
			m.dying = append(m.dying, line{name: u.Name, id: u.ID, mask: old.Balancer.MarkMask, moved: true})
		}
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		if h := m.health[u.Name]; h != nil {
			h.Reconfigure(m.cfg.Probes[u.Name])
			continue
		}
		m.addUplink(u)
		if l, ok := m.links[u.Device]; ok {
			m.health[u.Name].Link(l.Carrier, now)
		}
	}
	m.recheck(old.Check, now)
	m.meter.Reconfigure(m.cfg.Balancer)
	m.reapply, m.replanned, m.guardTold = true, true, false
}

// addUplink begins to judge an uplink. It is in the pool until somebody knows
// better.
func (m *Machine) addUplink(u balancer.Uplink) {
	m.health[u.Name] = balancer.NewHealth(m.cfg.Probes[u.Name])
	m.verdicts[u.Name] = balancer.Unknown
	m.pool[u.Name] = true
}

// forgetUplink ends an uplink that the file no longer has; its flows end once
// the plan without it is in the kernel.
func (m *Machine) forgetUplink(u balancer.Uplink, mask uint32) {
	delete(m.health, u.Name)
	delete(m.vouched, u.Name)
	delete(m.verdicts, u.Name)
	delete(m.changed, u.Name)
	delete(m.pool, u.Name)
	delete(m.sources, u.Name)
	delete(m.leases, u.Name)
	delete(m.moved, u.Name)
	delete(m.loads, u.Name)
	delete(m.switches, u.Name)
	delete(m.drains, u.Name)
	for _, n := range m.cfg.Balancer.Uplinks {
		if m.mark(n) == balancer.Mark(u.ID, mask) && n.Device == u.Device && n.NAT() == u.NAT() {
			return // it only has another name
		}
	}
	m.dying = append(m.dying, line{name: u.Name, id: u.ID, mask: mask})
}

func (m *Machine) mark(u balancer.Uplink) uint32 { return balancer.Mark(u.ID, m.cfg.Balancer.MarkMask) }

// knownAddresses are the other nodes' addresses as they told them.
func (m *Machine) knownAddresses() map[string][]netip.Addr {
	known := map[string][]netip.Addr{}
	for name, p := range m.peers {
		known[name] = p.addresses
	}
	return known
}
