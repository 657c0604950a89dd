package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"harouter/vrrp"
)

// elect feeds the VRRP machine and does what it says.
func (m *Machine) elect(ev vrrp.Event, now time.Time) {
	farewell := false
	for _, a := range m.vrrp.Handle(ev, now) {
		switch a := a.(type) {
		case vrrp.Advertise:
			m.do(Advertise{Priority: a.Priority, Interval: a.Interval})
		case vrrp.Silence:
			m.do(Silence{})
		case vrrp.Farewell:
			if farewell = m.cfg.OneHolder; !farewell { // else when the addresses are gone
				m.do(Once{})
			}
		case vrrp.Reannounce:
			m.reannounce(a.Reason)
		case vrrp.Claim:
			m.claim(a.Master, now)
		case vrrp.Become:
			m.become(a, now)
		}
	}
	if farewell {
		m.do(Once{})
	}
}

func (m *Machine) become(b vrrp.Become, now time.Time) {
	if b.State == vrrp.Master {
		m.found, m.claims = false, 0
		for uplink := range m.vouched {
			m.vouched[uplink] = 0
		}
		m.wills++
		m.takeFlows() // what was received is in the kernel before a packet comes
		m.setActive(true, true)
		if t := m.taking; t != nil && t.await {
			m.seq++
			m.adding = m.seq
			m.do(Ready{Seq: m.seq})
		} else {
			m.addAddresses()
		}
	} else {
		awaited := m.taking != nil && m.taking.await
		m.taking, m.claims = nil, 0
		switch {
		case m.holding: // those found at start stay until a master is heard
			m.dropAddresses(now)
		case awaited:
			m.adding = 0
			m.setActive(false, false)
		}
		m.yieldFlows()
		if m.handoff != nil { // to the successor, of whom only the advert was heard so far, or to a third
			m.finishHandoff(m.vrrp.Master())
		}
		if m.stopping != 0 && b.State == vrrp.Backup { // lingering, but never master again
			m.elect(vrrp.Stop{Reason: "leaving"}, now)
		}
	}
	m.setRole(b.Reason, now)
}

// setRole derives the role from the election and tells about a change.
func (m *Machine) setRole(reason string, now time.Time) {
	role := RoleFault
	switch m.vrrp.State() {
	case vrrp.Master:
		role = RoleMaster
	case vrrp.Backup:
		role = RoleBackup
	case vrrp.Initialize:
		if m.stopping != 0 || m.lans() > 0 && !m.second(now) && !m.expelled() { // it could serve: it leaves, or a fitter node does
			role = RoleBackup
		}
	}
	if role == m.role {
		return
	}
	if m.role != RoleUnknown || role == RoleMaster {
		m.transitions++
	}
	m.record("role", m.cfg.Node, m.role.String(), role.String(), reason)
	if role != RoleMaster {
		m.held = false
	}
	if m.role == RoleMaster {
		m.lately = mastership{m.vrrp.Priority(), now}
	}
	m.role, m.since = role, now
}

func (m *Machine) addAddresses() {
	m.seq++
	m.adding = m.seq
	m.holding, m.fenced, m.removing, m.removed = true, false, 0, nil
	m.do(AddAddresses{Seq: m.seq})
}

// dropAddresses takes the addresses away and closes the switch: at once, or
// with a delay after a hand-over, while traffic may still come this way.
func (m *Machine) dropAddresses(now time.Time) {
	if !m.holding && !m.found {
		return
	}
	m.seq++
	m.holding, m.found, m.fenced, m.adding, m.removing = false, false, false, 0, m.seq
	m.do(RemoveAddresses{Seq: m.seq})
	if m.handoff != nil {
		m.lingerEnd = now.Add(lingerMost)
		m.deactivate = now
		m.linger(now)
		m.do(WatchForwarding{For: lingerMost})
		return
	}
	m.setActive(false, false)
}

// linger has a former master go on for a while with what still comes this way
// (DESIGN.md §5 row 3).
func (m *Machine) linger(now time.Time) {
	if m.deactivate.IsZero() {
		return
	}
	m.deactivate = earlier(now.Add(lingerFor), m.lingerEnd)
	if m.stopping != 0 {
		m.deactivate = earlier(m.deactivate, m.leaveBy)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (m *Machine) setActive(on, grace bool) {
	m.deactivate = time.Time{}
	if m.active == on && !grace {
		return
	}
	m.active = on
	m.do(Activate{Active: on, Grace: grace})
}

func (m *Machine) reannounce(reason string) {
	if !m.holding {
		return
	}
	m.record("address", "all", "", "", "announced again: "+reason)
	// Packets of what went through the other one come here before its flows do.
	m.setActive(true, true)
	if m.fenced {
		m.addAddresses()
		return
	}
	m.do(Announce{})
}

func (m *Machine) onSwitched(ev Switched, now time.Time) {
	if ev.Err != nil {
		m.record("address", "all", "", "", ev.Err.Error())
	}
	if ev.Seq == m.removing {
		m.removing = 0
		m.do(m.removed...)
		m.removed = nil
	}
	m.reapply = true // routes may have waited for an address, or gone with one
	if ev.Seq != m.adding {
		return
	}
	if t := m.taking; t != nil && t.await {
		m.ready(now)
		return
	}
	m.adding = 0
	if t := m.taking; t != nil {
		m.taking = nil
		m.elect(vrrp.Confirm{}, now)
		m.do(Send{To: t.from, Message: m.withTerm(Message{Kind: KindTaken, ID: t.id})})
	}
}

// onAdvert judges the sender of an advert and hands it to the election.
func (m *Machine) onAdvert(ev Advert, now time.Time) {
	if ev.Advert.VRID != m.cfg.vrid(ev.Link) {
		return // another group on the same wire (RFC 9568 §7.1)
	}
	heard := vrrp.Heard{Rank: ev.Source, Priority: ev.Advert.Priority, Interval: ev.Advert.Interval}
	name, ok := m.speakers[ev.Source]
	switch {
	case ok && name == m.cfg.Node:
		return
	case ok:
		p := m.peers[name]
		p.heard, p.advertised = now, now
		p.ways.advert(ev.Link, now)
		heard.Speaker, heard.Rank, heard.Ours = name, p.Address, true
		if !m.credible(p, heard, ev.Source, now) {
			return
		}
		p.advertises(ev.Link, ev.Source)
		if p.left = heard.Priority == 0; !p.left {
			m.regret(p, now)
		}
	case slices.Contains(m.cfg.Foreign, ev.Source):
		heard.Speaker, heard.Against = ev.Source.String(), m.ownOn(ev.Link, ev.Source.Is6())
	default:
		m.onDropped(Dropped{Part: "vrrp", Reason: string(vrrp.DropSender), Source: ev.Source}, now)
		m.noteStranger(ev.Link, ev.Source, ev.Advert, now)
		return
	}
	m.obey(heard, now)
}

// obey hands an advert that is believed to the election.
func (m *Machine) obey(heard vrrp.Heard, now time.Time) {
	was, planned := m.vrrp.State(), m.handoff != nil
	m.elect(heard, now)
	if was == vrrp.Master && !planned && m.vrrp.State() == vrrp.Backup && heard.Ours && heard.Priority != 0 {
		// It may never hear that there were two, and hosts may have learnt this
		// node's address.
		m.do(Send{To: heard.Speaker, Message: m.withTerm(Message{Kind: KindGaveWay})})
	}
	if m.found && m.vrrp.Master() != "" {
		m.record("address", "all", "", "", "left over from a former run while "+heard.Speaker+" is master: removed")
		m.dropAddresses(now)
	}
}

// hearInstead lets a backup take the master's word over gossip for its advert
// while a reload is under way: two nodes that change the VRID or the interval a
// moment apart do not understand each other's adverts in between.
func (m *Machine) hearInstead(now time.Time) {
	name := m.vrrp.Master()
	p := m.peers[name]
	if p == nil || now.Before(m.vrrp.Deadline()) || m.adopting == nil && !p.settling {
		return
	}
	if !p.told || p.state.Role != RoleMaster || p.state.Leaving || now.Sub(p.worded) > wordFresh || m.understands(p) {
		return
	}
	m.hearWord(p, now)
}

// understands tells whether adverts of a peer were heard well after both took the
// file that they run: they fit this node's settings then, and silence is silence.
func (m *Machine) understands(p *peer) bool {
	return m.adopting == nil && p.advertised.Sub(later(m.changedFile, p.refiled)) > settleFor/2
}

// hearWord takes what a node told of itself for its advert.
func (m *Machine) hearWord(p *peer, now time.Time) {
	m.elect(vrrp.Heard{Speaker: p.Name, Rank: p.Address, Ours: true, Priority: p.state.Effective, Interval: m.cfg.Advertise}, now)
}

// ownOn is the address that adverts of a family carry as source on a lan.
func (m *Machine) ownOn(lan string, six bool) netip.Addr {
	for _, l := range m.cfg.Balancer.Lans {
		if l.Name == lan {
			if six {
				for _, p := range m.links[l.Device].Addresses {
					if a := p.Addr(); a.Is6() && a.IsLinkLocalUnicast() && !m.virtual(a) {
						return a
					}
				}
				continue
			}
			if own := m.own(l.Device); len(own) > 0 {
				return own[0].Addr()
			}
			for _, p := range m.links[l.Device].Addresses { // the one that we set where the admin set none
				if a := p.Addr(); a.Is4() && a.IsLinkLocalUnicast() {
					return a
				}
			}
		}
	}
	return netip.Addr{}
}

// settleElection enters and leaves the election with the links, sets the
// effective priority and steps back in favour of a fitter node.
func (m *Machine) settleElection(now time.Time) {
	if m.stopping != 0 || !m.linksKnown {
		return
	}
	fault, why := len(m.cfg.Balancer.Lans) > 0 && m.lans() == 0, "no lan has carrier"
	if m.second(now) {
		fault, why = true, "another machine runs as "+m.cfg.Node
	}
	if m.expelled() {
		fault, why = true, "taken out of the file of "+m.expulsion.by
	}
	switch {
	case fault && m.vrrp.State() != vrrp.Initialize:
		m.stepBack(why, now)
	case fault && m.role != RoleFault:
		m.dropAddresses(now)
		m.setRole(why, now)
	case !fault && m.vrrp.State() == vrrp.Initialize:
		if m.carries.IsZero() {
			m.carries = now
		}
		m.elect(vrrp.Start{}, now)
	}
	if fault {
		return
	}
	m.elect(vrrp.SetPriority{Priority: m.effective(now)}, now)
	// The hold stands while its holder's adverts go on, heard over gossip or not.
	master := m.peers[m.vrrp.Master()]
	m.elect(vrrp.Hold{On: master != nil && master.state.Held}, now)
	if m.vrrp.State() == vrrp.Master && m.handoff == nil && m.adding == 0 {
		// One that was not heard since this node took over may be the one that died.
		if best := m.successor(now); best != nil && m.passesMore(best) >= 0 && m.moreLans(best, now) > 0 && m.counts(best, now) && best.worded.After(m.since) {
			m.stepBack(fmt.Sprintf("%s reaches %d lans, this node %d", best.Name, best.state.Lans, m.lans()), now)
			m.elect(vrrp.Start{}, now)
		}
	}
}

// stepBack leaves the mastership at once, by the authenticated word to the
// best node and by priority 0 to all.
func (m *Machine) stepBack(reason string, now time.Time) {
	var word *Send
	if m.vrrp.State() == vrrp.Master {
		if best := m.successor(now); best != nil {
			m.nextID++
			word = &Send{To: best.Name, Message: m.withTerm(Message{Kind: KindYield, ID: m.nextID, Reason: reason}), Wide: true}
		}
	}
	if word != nil && !m.cfg.OneHolder {
		m.do(*word)
	}
	m.elect(vrrp.Stop{Reason: reason}, now)
	if word != nil && m.cfg.OneHolder {
		m.afterRemoval(*word)
	}
}

// settleRole keeps the role in step where no Become was emitted.
func (m *Machine) settleRole(now time.Time) {
	if m.linksKnown && m.vrrp.State() != vrrp.Initialize {
		m.setRole("started", now)
	}
}
