package ha

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// onPeerTold takes a node's state, from gossip or from a lan.
func (m *Machine) onPeerTold(s PeerState, lan string, now time.Time) {
	if s.Node == m.cfg.Node {
		m.double = double{life: s.Life, heard: now}
		return
	}
	m.hearsOfFile(s)
	p := m.peers[s.Node]
	if p == nil {
		p = m.meet(s)
	}
	if p == nil {
		return
	}
	over := "gossip"
	if lan != "" {
		over = "the lan " + lan
		p.ways.hello(lan, now)
	}
	p.ways.sign(lan, now)
	if p.told && s.Life == p.state.Life && s.Number < p.state.Number {
		p.heard = now // an older word, which came another way
		return
	}
	if !p.alive(now) || !p.told {
		m.record("node", s.Node, "unknown", s.Role.String(), "heard over "+over+", version "+s.Version)
	} else if p.state.Role != s.Role {
		m.record("node", s.Node, p.state.Role.String(), s.Role.String(), "it says so")
	}
	if !p.told || p.state.Hash != s.Hash {
		p.refiled = now
	}
	p.says(s.Role, s.Effective, now)
	p.heard, p.worded, p.state, p.told = now, now, s, true
	m.unbind(s, now)
	m.sawTerm(s.Term)
	if s.Term != 0 && s.Term == m.owned {
		m.sawTerm(s.Term + 1) // both took it while they were apart: who stays needs a later one
	}
	if m.vrrp.Suspect() && s.Role == RoleMaster && !s.Leaving && s.Effective > 0 && (!m.cfg.Sync || s.Term > m.owned) {
		// It took over while this node slept, and its word came before its advert.
		m.hearWord(p, now)
	}
	if o := m.offer; o != nil && s.Gen == o.generation && s.Hash == o.hash {
		m.onDone(s.Node, o.id, "", now) // should the word itself be lost
	}
	if !slices.Equal(p.addresses, s.Addresses) {
		p.addresses = slices.Clone(s.Addresses)
		m.indexSpeakers()
		m.untwinned = true
		m.do(Remember{Addresses: m.knownAddresses()})
	}
}

// indexSpeakers maps every address of every node to its name. Virtual
// addresses belong to nobody.
func (m *Machine) indexSpeakers() {
	clear(m.speakers)
	for _, p := range m.peers {
		m.speakers[p.Address] = p.Name
		for _, a := range p.addresses {
			if !m.virtual(a) {
				m.speakers[a] = p.Name
			}
		}
	}
	for _, n := range m.cfg.Nodes { // the file's word stands above what nodes tell
		m.speakers[n.Address] = n.Name
	}
	m.senders = slices.Clone(m.cfg.Foreign)
	for a, name := range m.speakers {
		if name != m.cfg.Node {
			m.senders = append(m.senders, a)
		}
	}
	slices.SortFunc(m.senders, netip.Addr.Compare)
}

// state is what this node tells the others.
func (m *Machine) state(now time.Time) PeerState {
	own, _ := m.cfg.node(m.cfg.Node)
	s := PeerState{
		Node: m.cfg.Node, Version: m.cfg.Version, Role: m.role, Since: m.since,
		Priority: own.Priority, Effective: m.vrrp.Priority(), Hash: m.cfg.Hash, PlanHash: m.planHash,
		Master: m.vrrp.Master(), Held: m.held, Leaving: m.stopping != 0, Lans: m.lans(), DeadLans: m.deadLans(), Unfit: m.check.unfit, Unsure: m.unsure(),
		Verdicts: maps.Clone(m.verdicts), Resting: m.rests(now), Starting: m.starting(now),
		Gen: m.cfg.Generation, Trial: m.trial != nil, Will: proof(m.will()), Members: m.members,
	}
	if len(m.switches) > 0 {
		s.Switches = maps.Clone(m.switches)
	}
	if m.measures() {
		s.Shares, s.ShareEpoch = m.meter.Shares(), m.shareEpoch
	}
	if m.cfg.Sync {
		s.Sync, s.Term = true, m.last // what others owned they tell themselves
	}
	m.tellLans(&s, now)
	if m.offer != nil {
		s.Offer = m.offer.id
	}
	if m.file.Hash != m.cfg.Hash {
		s.FileHash = m.file.Hash
	}
	if m.role == RoleMaster {
		s.Master = m.cfg.Node
	}
	for _, device := range slices.Sorted(maps.Keys(m.links)) {
		for _, p := range m.links[device].Addresses {
			if !m.virtual(p.Addr()) {
				s.Addresses = append(s.Addresses, p.Addr())
			}
		}
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		s.Uplinks = append(s.Uplinks, m.view(u.Name))
		if m.pool[u.Name] {
			s.Pool = append(s.Pool, u.Name)
		}
	}
	return s
}

// view is what this node itself sees of an uplink.
func (m *Machine) view(uplink string) UplinkView {
	h := m.health[uplink]
	v := UplinkView{Name: uplink, Verdict: m.sees(uplink), Since: h.Since(), RTT: h.RTT(), Failing: h.Failing(), Held: !h.HeldUntil().IsZero()}
	if loss, ok := h.Loss(); ok {
		v.Loss, v.Measured = loss, true
	}
	return v
}

// settlePublish tells changes at once and measured values now and then.
func (m *Machine) settlePublish(now time.Time) {
	if !m.linksKnown {
		return
	}
	s := m.state(now)
	if now.Sub(m.toldAt) < publishEvery && sameState(s, m.told) {
		return
	}
	m.told, m.toldAt = s, now
	m.states++
	s.Life, s.Number = m.life, m.states
	m.do(Publish{State: s})
}

// sameState compares two states but for the values that change at each probe, and
// the hosts. It does so at each event, and reflection alone takes long: it has
// what is left.
func sameState(a, b PeerState) bool {
	steady := func(v UplinkView) UplinkView {
		v.RTT, v.Loss, v.Measured = 0, 0, false
		return v
	}
	if !slices.Equal(a.Addresses, b.Addresses) || !slices.Equal(a.Pool, b.Pool) || !maps.Equal(a.Verdicts, b.Verdicts) ||
		!a.Shares.Equal(b.Shares) || !maps.Equal(a.Switches, b.Switches) ||
		!slices.EqualFunc(a.Uplinks, b.Uplinks, func(v, w UplinkView) bool { return steady(v) == steady(w) }) {
		return false
	}
	for _, s := range []*PeerState{&a, &b} {
		s.Addresses, s.Pool, s.Verdicts, s.Uplinks, s.Hosts, s.Shares, s.Switches = nil, nil, nil, nil, nil, nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// settleGuard keeps the guard's orders up to date. It must know of addresses
// before they are on, and until they are off.
func (m *Machine) settleGuard(now time.Time) {
	g := Guard{
		Holding:   m.holding || m.removing != 0,
		PeerAlive: m.peerCanServe(now),
		Senders:   m.senders,
	}
	if heir := m.successor(now); heir != nil && g.Holding {
		g.Heir, g.Will = heir.Name, m.will()
	}
	if m.guardTold && slices.Equal(g.Senders, m.guard.Senders) && reflect.DeepEqual(withoutSenders(g), withoutSenders(m.guard)) {
		return
	}
	m.guard, m.guardTold = g, true
	m.out = slices.Insert(m.out, 0, Action(g))
}

// withoutSenders are the orders but for the addresses, which are compared before.
func withoutSenders(g Guard) Guard {
	g.Senders = nil
	return g
}
