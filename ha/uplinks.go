package ha

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

func (m *Machine) onRound(r balancer.Round) {
	h := m.health[r.Uplink]
	if h == nil {
		return
	}
	h.Round(r)
	m.rounds[r.Uplink]++
	m.probedVouched(r)
	m.showSight(r)
}

// settlePool follows the master's word on the uplinks, or gives it.
func (m *Machine) settlePool(now time.Time) {
	word, pool := m.verdicts, m.pool
	dead := func(uplink string) bool { return m.sees(uplink) == balancer.Down }
	switch whose, master := m.word(now); whose {
	case mine:
		m.vouch(now)
		word, pool = m.judge(now)
	case theirs:
		m.followed = master.worded
		clear(m.vouched)
		word, pool = m.follow(master.state)
		dead = func(uplink string) bool { return master.view(uplink).Verdict == balancer.Down }
	case kept:
		dead = func(string) bool { return false }
	}
	if !slices.Contains(slices.Collect(maps.Values(pool)), true) { // the last uplink: nothing is withdrawn (DESIGN.md §5 row 9)
		pool = maps.Clone(m.pool)
		maps.DeleteFunc(pool, func(name string, _ bool) bool { return word[name] == balancer.Disabled })
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		if word[u.Name] != m.verdicts[u.Name] {
			reason := m.why(u.Name)
			if word[u.Name] == balancer.Disabled || m.verdicts[u.Name] == balancer.Disabled {
				reason = "by hand"
			}
			m.record("uplink", u.Name, m.verdicts[u.Name].String(), word[u.Name].String(), reason)
			m.changed[u.Name] = now
		}
		well := m.verdicts[u.Name] == balancer.Degraded && word[u.Name] == balancer.Up
		m.returned = m.returned || pool[u.Name] && (!m.pool[u.Name] || well)
	}
	m.dying = append(m.dying, m.settleDrains(word, pool, dead)...)
	m.verdicts, m.pool = word, pool
}

// why tells on whose word, and for what reason, an uplink's verdict changed.
func (m *Machine) why(uplink string) string {
	if master := m.vrrp.Master(); master != "" {
		return "by the word of " + master
	}
	return m.health[uplink].Reason()
}

// follow takes a master's verdicts and pool as they are, so that both nodes
// route alike; of an uplink that it does not name, what is known stays.
func (m *Machine) follow(s PeerState) (map[string]balancer.Verdict, map[string]bool) {
	word, pool := map[string]balancer.Verdict{}, map[string]bool{}
	for _, u := range m.cfg.Balancer.Uplinks {
		v, ok := s.Verdicts[u.Name]
		if !ok {
			word[u.Name], pool[u.Name] = m.verdicts[u.Name], m.pool[u.Name]
			continue
		}
		word[u.Name], pool[u.Name] = v, slices.Contains(s.Pool, u.Name)
	}
	return word, pool
}

// judge makes this node's own views the word. Where it cannot tell, what the
// last master said stays.
func (m *Machine) judge(now time.Time) (map[string]balancer.Verdict, map[string]bool) {
	m.release(now)
	word, pool := map[string]balancer.Verdict{}, map[string]bool{}
	for _, u := range m.cfg.Balancer.Uplinks {
		v := m.sees(u.Name)
		if m.off(u.Name) {
			word[u.Name] = balancer.Disabled
			continue
		}
		if v == balancer.Unknown && m.verdicts[u.Name] != balancer.Disabled {
			v = m.verdicts[u.Name]
		}
		word[u.Name] = v
		pool[u.Name] = v.Usable() || v == balancer.Unknown && (m.pool[u.Name] || m.verdicts[u.Name] == balancer.Disabled) || m.spared(u.Name, now)
	}
	return word, pool
}

// release ends the holds of uplinks that flapped when nothing better is left.
func (m *Machine) release(now time.Time) {
	for name, h := range m.health {
		if h.Verdict() != balancer.Down && !m.off(name) {
			return
		}
	}
	for _, h := range m.health {
		h.Release(now)
	}
}

// settlePlan makes the plan of what is known now and applies it if it differs
// from the last one, or if links came back and took routes along.
func (m *Machine) settlePlan(now time.Time) {
	if !m.linksKnown {
		return
	}
	in := balancer.Input{
		Usable: maps.Clone(m.pool), Verdicts: maps.Clone(m.verdicts), Active: m.active, Holding: m.holding,
		Own: map[string][]netip.Addr{}, OwnLan: map[string][]netip.Prefix{},
		Gateways: maps.Clone(m.gateways), Closed: m.cfg.Balancer.Closed(now), Shares: m.meter.Shares(),
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		for _, p := range m.own(u.Device) {
			in.Own[u.Name] = append(in.Own[u.Name], p.Addr())
		}
	}
	for _, l := range m.cfg.Balancer.Lans {
		if own := m.own(l.Device); len(own) > 0 {
			in.OwnLan[l.Name] = own
		}
	}
	if master := m.peers[m.vrrp.Master()]; master != nil {
		if in.Master = master.Address; in.Master.Is6() {
			in.Master = master.Via
		}
	}
	// What a new file takes away is not put back in the middle of the change.
	reapply := m.reapply && m.adopting == nil
	if m.planSeq > 0 && !reapply && sameInput(in, m.input) {
		return
	}
	plan, err := balancer.Build(m.cfg.Balancer, in)
	if err != nil {
		m.record("repair", "plan", "", "", err.Error())
		return
	}
	m.reapply = false
	m.input, m.plan, m.planHash = in, plan, balancer.Hash(m.cfg.Balancer, in)
	m.planSeq++
	m.do(ApplyPlan{Seq: m.planSeq, Plan: plan})
}

// sameInput compares at each event what reflection alone takes long for; what is
// not named here is compared by that.
func sameInput(a, b balancer.Input) bool {
	if !maps.Equal(a.Usable, b.Usable) || !maps.Equal(a.Verdicts, b.Verdicts) || !maps.Equal(a.Gateways, b.Gateways) ||
		!maps.EqualFunc(a.Own, b.Own, slices.Equal) || !maps.EqualFunc(a.OwnLan, b.OwnLan, slices.Equal) || a.Master != b.Master || !a.Shares.Equal(b.Shares) {
		return false
	}
	for _, in := range []*balancer.Input{&a, &b} {
		in.Usable, in.Verdicts, in.Gateways, in.Own, in.OwnLan, in.Master, in.Shares = nil, nil, nil, nil, nil, netip.Addr{}, nil
	}
	return reflect.DeepEqual(a, b)
}

// onApplied goes on with the flows of uplinks that left the pool, now that no new
// one can go there.
func (m *Machine) onApplied(ev Applied, now time.Time) {
	text := ""
	if ev.Err != nil {
		text = ev.Err.Error()
		m.retry = now.Add(retryAfter)
	}
	if text != m.applyError { // a device that is missing stays so for long
		m.applyError = text
		if text == "" {
			text = "complete again"
		}
		m.record("repair", "plan", "", "", text)
	}
	m.routed = true
	if ev.Seq != m.planSeq {
		return
	}
	m.replanned = false
	m.settleLapsed()
	m.doomed = append(m.doomed, m.dying...)
	m.dying = nil
	if m.returned && m.vrrp.State() == vrrp.Master { // the others hear of what ends here
		if s, ok := m.cfg.Balancer.Strays(m.input); ok {
			m.do(MoveFlows{Strays: s, Mask: m.cfg.Balancer.MarkMask})
		}
	}
	m.returned = false
}

// uplink is the one of this name in the file, else zero.
func (m *Machine) uplink(name string) balancer.Uplink {
	for _, u := range m.cfg.Balancer.Uplinks {
		if u.Name == name {
			return u
		}
	}
	return balancer.Uplink{}
}

// pooled tells whether new flows may carry the mark of this id: a new uplink may
// have the id of one that is gone.
func (m *Machine) pooled(id int) bool {
	return slices.ContainsFunc(m.cfg.Balancer.Uplinks, func(u balancer.Uplink) bool { return u.ID == id && m.pool[u.Name] })
}

// settleSources tells the prober from which address it may probe each uplink:
// the node's own, else the virtual one while it is here, else none. Before the
// first plan a probe could take any way, and before the first of a new file one
// of an uplink that this brings.
func (m *Machine) settleSources() {
	if !m.routed {
		return
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		if _, known := m.sources[u.Name]; !known && m.replanned {
			continue
		}
		link := m.links[u.Device]
		src := Source{Uplink: u.Name, Gateway: u.Gateway}
		if !src.Gateway.IsValid() {
			src.Gateway = m.gateways[u.Name]
		}
		if own := m.own(u.Device); len(own) > 0 {
			src.Address = own[0].Addr()
		} else if m.holding && m.adding == 0 {
			src.Address = u.NAT()
		}
		key := src
		key.Now = link.Carrier // not part of what is told, but its return is a reason to probe at once
		if old, ok := m.sources[u.Name]; ok && old == key {
			continue
		}
		m.sources[u.Name] = key
		src.Now = link.Carrier
		m.do(src)
	}
}
