package ha

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// A node that is alive, by any other path, and not heard on a lan makes that lan
// deaf (DESIGN.md §5 row 11). No second master comes of it. Each node asks hosts
// of the lan whether it still reaches them, and tells; one that reaches none,
// where another one reaches some, has one lan less (fitness.go).

// Reach is whether a node reaches the hosts of a lan.
type Reach uint8

const (
	ReachUnknown Reach = iota // no host is known, or none had the time to answer
	ReachSome
	ReachNone
)

var reachNames = [...]string{ReachUnknown: "unknown", ReachSome: "some", ReachNone: "none"}

func (r Reach) String() string {
	if int(r) < len(reachNames) {
		return reachNames[r]
	}
	return fmt.Sprintf("reach(%d)", uint8(r))
}

// MarshalText writes the word of String.
func (r Reach) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText writes; any other word is ReachUnknown.
func (r *Reach) UnmarshalText(b []byte) error {
	*r = ReachUnknown
	if i := slices.Index(reachNames[:], string(b)); i > 0 {
		*r = Reach(i)
	}
	return nil
}

const (
	// HelloEvery is how often a node greets the others on each lan.
	HelloEvery = 400 * time.Millisecond
	// deafAfter is when a node counts as not heard on a lan: two greetings may
	// be lost.
	deafAfter = 1200 * time.Millisecond
	// deafProof is for how long it must go on being heard elsewhere meanwhile.
	deafProof = 500 * time.Millisecond
	// deafHold is how long the alarm, and the look at the hosts, go on after the
	// cause: a lan that comes and goes is one fault.
	deafHold = 3 * time.Second
	// answerIn is how long hosts have to answer, and answerRounds how often each
	// is asked meanwhile; the last question has 300 ms.
	answerIn     = 1200 * time.Millisecond
	answerRounds = 5

	hostsKept  = 8 // of each lan
	hostsTold  = 4
	hostsAsked = 8
)

// look is at the hosts of a lan.
type look struct {
	rounds   int       // asked since the last answer
	since    time.Time // that, or when asking began
	answered bool
	until    time.Time
	hosts    []netip.Addr
	source   netip.Addr
}

// settleDeaf finds the lans on which somebody is not heard, and looks there.
func (m *Machine) settleDeaf(now time.Time) {
	if !m.cfg.Hello || !m.linksKnown {
		return
	}
	m.deaf = map[string]string{}
	named := map[string]bool{}
	for _, l := range m.cfg.Balancer.Lans {
		named[l.Name] = true
		if !m.links[l.Device].Carrier {
			m.endLook(l.Name)
			m.listenAnew(l.Name, now)
			continue
		}
		text := ""
		for _, n := range m.cfg.Nodes {
			p := m.peers[n.Name]
			if p == nil {
				continue
			}
			if why := m.unheard(p, l.Name, now); why != "" {
				m.deaf[l.Name], text = why, why
			} else if text == "" && m.abreast(p, now) && slices.Contains(p.state.Deaf, l.Name) {
				text = fmt.Sprintf("%s does not hear all nodes on %s although they are alive: look at the switch between the routers", p.Name, l.Name)
			}
		}
		m.settleLook(l, text, now)
	}
	for lan := range m.looks { // of another file
		if !named[lan] {
			m.endLook(lan)
		}
	}
	for lan := range m.hosts {
		if !named[lan] {
			delete(m.hosts, lan)
		}
	}
}

// listenAnew says that nothing need have been heard on a lan until now, "" on all.
func (m *Machine) listenAnew(lan string, now time.Time) {
	for _, l := range m.cfg.Balancer.Lans {
		if lan == "" || l.Name == lan {
			for _, p := range m.peers {
				p.ways.hello(l.Name, now)
				p.ways.quiet(l.Name, now)
			}
		}
	}
}

// abreast tells whether a node is one that should be heard on every lan.
func (m *Machine) abreast(p *peer, now time.Time) bool {
	return p.alive(now) && p.told && p.state.Greets && !p.settling && !p.state.Leaving && m.adopting == nil && !m.vrrp.Suspect()
}

// unheard says why a lan is deaf for a node, "" if it is not.
func (m *Machine) unheard(p *peer, lan string, now time.Time) string {
	switch {
	case !m.abreast(p, now) || slices.Contains(p.state.Down, lan):
		p.ways.hello(lan, now)
		p.ways.quiet(lan, now)
	case p.ways.missed(p.ways.hellos, lan, deafAfter, now):
		return fmt.Sprintf("nothing of %s is heard on %s although it is alive: look at the switch between the routers, and its ports and VLANs", p.Name, lan)
	case p.state.Role != RoleMaster:
		p.ways.quiet(lan, now)
	case p.ways.missed(p.ways.adverts, lan, m.advertsLimit(), now):
		return fmt.Sprintf("no adverts of %s are heard on %s although its greetings are: look at the filter of multicast in the switch between the routers (IGMP and MLD snooping), it must let %s through", p.Name, lan, m.groups(lan))
	}
	return ""
}

// groups are where the adverts of a lan go.
func (m *Machine) groups(lan string) string {
	four, six := false, false
	for _, l := range m.cfg.Balancer.Lans {
		for _, p := range l.Virtual {
			if l.Name == lan {
				four, six = four || p.Addr().Is4(), six || p.Addr().Is6()
			}
		}
	}
	switch {
	case four && six:
		return fmt.Sprintf("%v and %v", vrrp.Group4, vrrp.Group6)
	case six:
		return vrrp.Group6.String()
	}
	return vrrp.Group4.String()
}

// advertsLimit is how long the adverts of a master may be silent on a lan.
func (m *Machine) advertsLimit() time.Duration { return max(deafAfter, 4*m.cfg.Advertise) }

// settleLook keeps alarm and look in step with a cause; text is what is to be
// said of it, "" that there is none.
func (m *Machine) settleLook(l balancer.Lan, text string, now time.Time) {
	k := m.looks[l.Name]
	if text != "" {
		if k == nil {
			k = &look{}
			m.looks[l.Name] = k
		}
		k.until = now.Add(deafHold)
		m.raise(AlarmDeaf, l.Name, text, time.Time{}, now)
	}
	if k == nil {
		return
	}
	if !now.Before(k.until) {
		m.endLook(l.Name)
		return
	}
	hosts, source := m.candidates(l), m.sourceOn(l)
	if slices.Equal(hosts, k.hosts) && source == k.source {
		return
	}
	if len(k.hosts) == 0 { // now they have the time to answer
		k.since, k.rounds, k.answered = now, 0, false
	}
	k.hosts, k.source = hosts, source
	m.do(Look{Lan: l.Name, Hosts: hosts, Source: source})
}

func (m *Machine) endLook(lan string) {
	if k := m.looks[lan]; k != nil {
		delete(m.looks, lan)
		m.clear(AlarmDeaf, lan)
		if len(k.hosts) > 0 {
			m.do(Look{Lan: lan})
		}
	}
}

// sourceOn is the address from which hosts of a lan are asked, zero if this node
// has none of its own in their network.
func (m *Machine) sourceOn(l balancer.Lan) netip.Addr {
	for _, p := range m.own(l.Device) {
		if inLan(l, p.Addr()) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

func inLan(l balancer.Lan, a netip.Addr) bool {
	return slices.ContainsFunc(l.Virtual, func(p netip.Prefix) bool { return p.Masked().Contains(a) })
}

// candidates are the hosts to ask: those that this node saw last, and those that
// the others did.
func (m *Machine) candidates(l balancer.Lan) []netip.Addr {
	var out []netip.Addr
	add := func(all []netip.Addr) {
		for _, a := range all {
			if len(out) < hostsAsked && inLan(l, a) && !m.isRouter(a) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	add(firstHosts(m.hosts[l.Name], hostsTold))
	for _, n := range m.cfg.Nodes {
		if p := m.peers[n.Name]; p != nil && p.told {
			add(p.state.Hosts[l.Name])
		}
	}
	add(m.hosts[l.Name])
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// isRouter tells whether an address is one of the routers', which is no host.
func (m *Machine) isRouter(a netip.Addr) bool {
	_, ours := m.speakers[a]
	return ours || m.virtual(a) || slices.Contains(m.cfg.Foreign, a)
}

func firstHosts(all []netip.Addr, n int) []netip.Addr { return all[:min(n, len(all))] }

// sawHosts takes note of hosts. One that was seen before and is not any more
// stays until there are newer ones: it may be behind what has failed.
func (m *Machine) sawHosts(ev Hosts) {
	i := slices.IndexFunc(m.cfg.Balancer.Lans, func(l balancer.Lan) bool { return l.Name == ev.Lan })
	if i < 0 {
		return
	}
	var all []netip.Addr
	for _, a := range slices.Concat(ev.Seen, m.hosts[ev.Lan]) {
		if len(all) < hostsKept && a.Is4() && inLan(m.cfg.Balancer.Lans[i], a) && !m.isRouter(a) && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	m.hosts[ev.Lan] = all
}

// reach is whether this node reaches the hosts of a lan; unknown where nobody
// looks.
func (m *Machine) reach(lan string, now time.Time) Reach {
	k := m.looks[lan]
	switch {
	case k == nil || len(k.hosts) == 0:
		return ReachUnknown
	case k.rounds >= answerRounds && now.Sub(k.since) >= answerIn:
		return ReachNone
	case k.answered:
		return ReachSome
	}
	return ReachUnknown
}

// asked takes note of a round of questions. Only those that were asked can be
// unanswered: a machine that is too busy to ask reaches its hosts all the same.
func (m *Machine) asked(lan string) {
	if k := m.looks[lan]; k != nil {
		k.rounds++
	}
}

// reached takes note of an answer.
func (m *Machine) reached(lan string, now time.Time) {
	if k := m.looks[lan]; k != nil {
		k.rounds, k.since, k.answered = 0, now, true
	}
}

// reachesMore counts the lans whose hosts a peer reaches and this node does not,
// less those where it is the other way round.
func (m *Machine) reachesMore(p *peer, now time.Time) int {
	n := 0
	for lan := range m.looks {
		switch mine, theirs := m.reach(lan, now), p.state.Reach[lan]; {
		case mine == ReachNone && theirs == ReachSome:
			n++
		case mine == ReachSome && theirs == ReachNone:
			n--
		}
	}
	return n
}

// tellLans puts into a state what this node knows of its lans.
func (m *Machine) tellLans(s *PeerState, now time.Time) {
	if s.Greets = m.cfg.Hello; !s.Greets {
		return
	}
	for _, l := range m.cfg.Balancer.Lans {
		if !m.links[l.Device].Carrier {
			s.Down = append(s.Down, l.Name)
		}
		if len(m.hosts[l.Name]) > 0 {
			if s.Hosts == nil {
				s.Hosts = map[string][]netip.Addr{}
			}
			s.Hosts[l.Name] = firstHosts(m.hosts[l.Name], hostsTold)
		}
		if r := m.reach(l.Name, now); r != ReachUnknown {
			if s.Reach == nil {
				s.Reach = map[string]Reach{}
			}
			s.Reach[l.Name] = r
		}
	}
	s.Deaf = slices.Sorted(maps.Keys(m.deaf))
}

// deafDeadline is when settleDeaf may find something else.
func (m *Machine) deafDeadline(now time.Time) time.Time {
	var next time.Time
	at := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if !m.cfg.Hello {
		return next
	}
	for _, k := range m.looks {
		at(k.until)
		at(k.since.Add(answerIn))
	}
	for _, p := range m.peers {
		for _, h := range p.ways.hellos {
			at(h.last.Add(deafAfter))
		}
		for _, h := range p.ways.adverts {
			at(h.last.Add(m.advertsLimit()))
		}
	}
	return next
}
