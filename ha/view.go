package ha

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// Status is the cluster as this node's machine knows it. What only the kernel
// knows (which addresses are present, flows, bit rates) is left for the caller.
func (m *Machine) Status(now time.Time) Status {
	own, _ := m.cfg.node(m.cfg.Node)
	s := Status{
		Cluster: m.cfg.Cluster, Node: m.cfg.Node, Role: m.role, Since: m.since, Version: m.cfg.Version,
		Config: ConfigStatus{Hash: m.cfg.Hash, InSync: m.differs(now) == "", Generation: m.cfg.Generation, Trial: m.trial != nil},
		VRRP: VRRPStatus{
			ID: m.cfg.VRID, Version: m.cfg.VRRPVersion, Priority: own.Priority, EffectivePriority: m.vrrp.Priority(),
			AdvertiseMS: float64(m.cfg.Advertise) / float64(time.Millisecond), Master: m.master(now),
			Transitions: uint64(m.transitions),
		},
		PlanHash: m.planHash,
		Drops: Drops{
			VRRP: maps.Clone(m.drops["vrrp"]), Gossip: maps.Clone(m.drops["gossip"]), Sync: maps.Clone(m.drops["sync"]),
		},
	}
	for _, n := range m.cfg.Nodes {
		if n.Name == m.cfg.Node {
			s.Nodes = append(s.Nodes, m.ownStatus(n))
			continue
		}
		s.Nodes = append(s.Nodes, m.peerStatus(m.peers[n.Name], now))
		s.ConntrackSync.Peers = append(s.ConntrackSync.Peers, SyncPeer{Name: n.Name, State: m.session(n.Name)})
	}
	holder := m.master(now)
	address := func(p netip.Prefix, device string) {
		s.VirtualAddresses = append(s.VirtualAddresses, AddressStatus{Address: p, Device: device, HeldBy: holder})
	}
	for _, l := range m.cfg.Balancer.Lans {
		for _, p := range l.Virtual {
			address(p, l.Device)
		}
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		for _, p := range u.Virtual {
			address(p, u.Device)
		}
		s.Uplinks = append(s.Uplinks, m.uplinkStatus(u, now))
	}
	for _, p := range m.cfg.Balancer.Policies {
		s.Policies = append(s.Policies, PolicyStatus{Name: p.Name, Method: p.Method.String(), Shares: maps.Clone(m.plan.Shares[p.Name]), Does: m.plan.Does[p.Name]})
	}
	for k, a := range m.alarms {
		s.Alarms = append(s.Alarms, Alarm{Code: k.code, Subject: k.subject, Since: a.since, Text: a.text})
	}
	slices.SortFunc(s.Alarms, func(a, b Alarm) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Subject, b.Subject))
	})
	return s
}

// master names who is master as far as this node knows, "" nobody. A node that
// takes no part in the election believes what the others tell.
func (m *Machine) master(now time.Time) string {
	switch m.vrrp.State() {
	case vrrp.Master:
		return m.cfg.Node
	case vrrp.Backup:
		return m.vrrp.Master()
	case vrrp.Initialize:
	}
	for _, n := range m.cfg.Nodes {
		if p := m.peers[n.Name]; p != nil && p.alive(now) && p.told && p.state.Role == RoleMaster {
			return p.Name
		}
	}
	return ""
}

func (m *Machine) ownStatus(n Node) NodeStatus {
	effective, zero, since := m.vrrp.Priority(), int64(0), m.since
	return NodeStatus{
		Name: n.Name, Address: n.Address, Alive: true, Role: m.role, Priority: n.Priority,
		EffectivePriority: &effective, ConfigHash: m.cfg.Hash, Version: m.cfg.Version, Maintenance: m.maintenance, Held: m.held, Unfit: m.check.unfit, Since: &since, HeardMS: &zero,
	}
}

func (m *Machine) peerStatus(p *peer, now time.Time) NodeStatus {
	s := NodeStatus{Name: p.Name, Address: p.Address, Alive: p.alive(now), Role: m.peerRole(p, now), Priority: p.Priority}
	if !p.heard.IsZero() {
		ms := now.Sub(p.heard).Milliseconds()
		s.HeardMS = &ms
	}
	if p.told {
		s.ConfigHash, s.Version = p.state.Hash, p.state.Version
	}
	if p.told && s.Alive {
		effective, since := p.state.Effective, p.state.Since
		s.EffectivePriority, s.Since, s.Maintenance, s.Held, s.Unfit = &effective, &since, p.state.Resting, p.state.Held, p.state.Unfit
	}
	return s
}

func (m *Machine) uplinkStatus(u balancer.Uplink, now time.Time) UplinkStatus {
	s := UplinkStatus{
		Name: u.Name, ID: u.ID, Device: u.Device, State: m.verdicts[u.Name], Enabled: !m.off(u.Name),
		Views: map[string]balancer.Verdict{m.cfg.Node: m.sees(u.Name)},
	}
	if since, ok := m.changed[u.Name]; ok {
		s.Since = &since
	}
	if n := len(m.cfg.Balancer.Policies); n > 0 {
		s.Share = m.plan.Shares[m.cfg.Balancer.Policies[n-1].Name][u.Name]
	}
	measured := m.view(u.Name)
	for name, p := range m.peers {
		if !p.alive(now) || !p.told {
			continue
		}
		for _, v := range p.state.Uplinks {
			if v.Name != u.Name {
				continue
			}
			s.Views[name] = v.Verdict
			if name == m.vrrp.Master() { // the master's word, so the master's figures
				measured = v
			}
		}
	}
	if measured.RTT > 0 {
		ms := float64(measured.RTT) / float64(time.Millisecond)
		s.RTTMS = &ms
	}
	if measured.Measured {
		s.Loss = &measured.Loss
	}
	return s
}
