package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// A machine that lost its power is missed sooner than by its adverts: its kernel
// answers ARP no more, nor neighbour solicitations where there is IPv6 alone (ha/pulse). Where that is so on every way to the master, and
// a third party on the same wires answers right now, the backup need not wait for
// 3A+Skew. A kernel that answers belongs to a machine that runs: its daemon is the
// guard's case, and the timers decide as ever.
//
// What could be mistaken for it is a machine that stands still for a moment, as
// a virtual one does. So the silence must have lasted, twice as long as any of
// this machine that ended by itself within the last hour; and a master that was
// taken for dead too soon is judged by the timers alone for an hour.

// Way is an address of a node on a wire that this node is on too.
type Way struct {
	Device  string // "" where the routing table leads
	Address netip.Addr
	Source  netip.Addr // of IPv4: own address there, zero: none is told
}

const (
	// patienceLeast is how long the master's kernel must have answered nothing, since
	// the first question that it did not answer.
	patienceLeast = 40 * time.Millisecond
	// patienceShare of A as well: who wants slow adverts has no need to hurry.
	patienceShare = 10
	// pauseKept is how long a silence that ended by itself counts.
	pauseKept = time.Hour
	// unansweredRounds of questions on all ways, of which witnessedRounds were
	// answered by others.
	unansweredRounds = 3
	witnessedRounds  = 2
	// tellingFor is how old the word may be that nothing was answered.
	tellingFor = 15 * time.Millisecond
	// waysLeast devices on which the node answered until then: one alone may have
	// lost its cable.
	waysLeast = 2
)

// pause is the longest silence of a machine that ended by itself.
type pause struct {
	length time.Duration
	at     time.Time
}

func (q *pause) add(length time.Duration, now time.Time) {
	if length >= q.length || now.Sub(q.at) >= pauseKept {
		*q = pause{length, now}
	}
}

// rash is a takeover before the timers would have had it.
type rash struct {
	node  string
	until time.Time // when they would
}

// patience is how long a machine's silence must last.
func (m *Machine) patience(p *peer, now time.Time) time.Duration {
	d := max(patienceLeast, (m.vrrp.MasterDown()-m.vrrp.Skew())/3/patienceShare)
	if now.Sub(p.pause.at) < pauseKept {
		d = max(d, 2*p.pause.length)
	}
	return d
}

// felt is the master whose machine is asked whether it runs; nil where that would
// not be quicker than the timers, or is not for this node.
func (m *Machine) felt(now time.Time) *peer {
	if m.vrrp.State() != vrrp.Backup || m.stopping != 0 || !m.linksKnown || m.vrrp.MasterDown() < 2*m.patience(&peer{}, now) {
		return nil
	}
	p := m.peers[m.vrrp.Master()]
	if p == nil || p.left || !p.told || p.state.Role != RoleMaster || p.state.Leaving || m.outranked(p, now) {
		return nil
	}
	return p
}

// outranked tells whether another node would be the successor: the best takes
// over at once, the others wait for its adverts.
func (m *Machine) outranked(master *peer, now time.Time) bool {
	for _, p := range m.peers {
		if p == master || !p.alive(now) {
			continue
		}
		if !p.told || m.outranks(p, now) {
			return true
		}
	}
	return false
}

// pulse is who is to be asked.
func (m *Machine) pulse(now time.Time) Pulse {
	p := m.felt(now)
	if p == nil {
		return Pulse{}
	}
	a := Pulse{Node: p.Name, Ways: []Way{{Address: p.Address}}}
	for _, l := range m.cfg.Balancer.Lans {
		if at := p.at[l.Name]; at.IsValid() {
			a.Ways = append(a.Ways, Way{Device: l.Device, Address: at})
		}
		for _, h := range m.candidates(l) {
			a.Others = append(a.Others, Way{Device: l.Device, Address: h, Source: m.sourceOn(l)})
		}
	}
	for _, u := range m.cfg.Balancer.Uplinks {
		own := m.own(u.Device)
		for _, at := range p.addresses {
			if !at.IsLinkLocalUnicast() && slices.ContainsFunc(own, func(o netip.Prefix) bool { return o.Masked().Contains(at) }) {
				a.Ways = append(a.Ways, Way{Device: u.Device, Address: at})
			}
		}
		if g := m.gatewayOf(u); g.IsValid() {
			w := Way{Device: u.Device, Address: g}
			if g.Is4() && len(own) > 0 {
				w.Source = own[0].Addr()
			}
			a.Others = append(a.Others, w)
		}
	}
	return a
}

func (m *Machine) gatewayOf(u balancer.Uplink) netip.Addr {
	if u.Gateway.IsValid() {
		return u.Gateway
	}
	return m.gateways[u.Name]
}

// settlePulse has the master's machine asked, or nobody.
func (m *Machine) settlePulse(now time.Time) {
	a := m.pulse(now)
	if a.Node != m.asks.Node || !slices.Equal(a.Ways, m.asks.Ways) || !slices.Equal(a.Others, m.asks.Others) {
		m.asks = a
		m.do(a)
	}
}

// onUnanswered takes over from a machine that is dead.
func (m *Machine) onUnanswered(ev Unanswered, now time.Time) {
	p := m.felt(now)
	if p == nil || p.Name != ev.Node || now.Sub(ev.At) > tellingFor {
		return
	}
	silence := m.patience(p, now)
	switch {
	case ev.For < silence || now.Sub(p.heard) < silence:
	case ev.Rounds < unansweredRounds || ev.Witnessed < witnessedRounds || ev.Devices < waysLeast || !ev.Direct:
	case m.deadLans() > 0 || len(m.deaf) > 0: // the fault may be this node's
	case !m.sought || m.handoff != nil || m.taking != nil || m.adopting != nil || p.settling || m.rests(now):
	default:
		m.rash = rash{p.Name, m.vrrp.Deadline()}
		m.elect(vrrp.Lost{
			Speaker: p.Name,
			Reason:  fmt.Sprintf("the machine of %s answers nothing on any path for %v, others do", p.Name, ev.For.Round(time.Millisecond)),
		}, now)
	}
}

// onRecovered learns how long a machine may stand still. What lasts longer than
// the timers is no pause.
func (m *Machine) onRecovered(ev Recovered, now time.Time) {
	if p := m.peers[ev.Node]; p != nil && ev.After < m.vrrp.MasterDown() {
		p.pause.add(ev.After, now)
	}
}

// advertises takes note of where adverts come from: the node's own address on
// that link, of IPv4 where it has both.
func (p *peer) advertises(link string, source netip.Addr) {
	if p.at == nil {
		p.at = map[string]netip.Addr{}
	}
	if source.Is4() || !p.at[link].Is4() {
		p.at[link] = source
	}
}

// regret learns from an advert of a master that was taken for dead, and that the
// timers would have waited for.
func (m *Machine) regret(p *peer, now time.Time) {
	if m.rash.node != p.Name {
		return
	}
	if now.Before(m.rash.until) {
		p.pause.add(m.vrrp.MasterDown(), now)
		m.record("role", p.Name, "", "", "its machine had only stood still: for an hour nothing but its adverts tells whether it is alive")
	}
	m.rash = rash{}
}
