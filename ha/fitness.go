package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// fitness compares a live peer with this node, as DESIGN.md §6 orders it: the
// checks, the lans that carry, then the weight of the uplinks that work. An uplink counts
// only where both can tell, and one that is only held down for having flapped
// counts as one that works. Above 0: the peer is fitter.
func (m *Machine) fitness(p *peer, now time.Time) int {
	if d := m.passesMore(p); d != 0 {
		return d
	}
	if d := m.moreLans(p, now); d != 0 {
		return d
	}
	d := 0
	for _, u := range m.cfg.Balancer.Uplinks {
		mine, theirs := m.sees(u.Name), p.view(u.Name)
		if m.verdicts[u.Name] == balancer.Disabled {
			continue
		}
		if tells(mine) && tells(theirs.Verdict) {
			d += counted(theirs.Verdict, theirs.Held, u.Weight) - counted(mine, !m.health[u.Name].HeldUntil().IsZero(), u.Weight)
		}
	}
	return d
}

// moreLans tells how many lans a peer reaches more than this node. While one of
// the two has taken a new file and the other has not, or has not looked at its
// links yet, that tells nothing; where the files stay different, the lans that
// each should reach and does not are what can be compared.
func (m *Machine) moreLans(p *peer, now time.Time) int {
	if p.settling {
		return 0
	}
	return m.deadLans() - p.state.DeadLans + m.reachesMore(p, now)
}

// settleFor is how long after a change of the file two nodes are not compared:
// each has to look at links that are new to it, and to tell.
const settleFor = time.Second

// settlePeers notes who runs the same file as this node.
func (m *Machine) settlePeers(now time.Time) {
	for _, p := range m.peers {
		switch differs := p.told && p.state.Hash != m.cfg.Hash; {
		case differs && p.unlike.IsZero():
			p.unlike = now
		case !differs && !p.unlike.IsZero():
			p.unlike, p.alike = time.Time{}, now
		}
		if p.unlike.IsZero() {
			p.settling = !p.alike.IsZero() && now.Sub(p.alike) < settleFor
		} else {
			p.settling = now.Sub(p.unlike) < adoptLimit
		}
	}
}

// tells says whether a verdict is one of the configured probes. "unknown"
// attracts no role.
func tells(v balancer.Verdict) bool { return v.Usable() || v == balancer.Down }

// counted is what an uplink adds to a node's fitness. Degraded is not less: a
// line that is slow today is no reason to move everybody's connections.
func counted(v balancer.Verdict, held bool, weight int) int {
	if v.Usable() || held {
		return weight
	}
	return 0
}

// view is what the peer said last of an uplink.
func (p *peer) view(uplink string) UplinkView {
	for _, v := range p.state.Uplinks {
		if v.Name == uplink {
			return v
		}
	}
	return UplinkView{Verdict: balancer.Unknown}
}

// counts tells whether the peer may be preferred to this node at all: one in
// maintenance only by one that is too.
func (m *Machine) counts(p *peer, now time.Time) bool {
	return p.canServe(now) && (!p.state.Resting || m.rests(now))
}

// effective is the priority in the election: below the lowest configured
// priority of the live peers that are fitter, and 1 in maintenance and after
// too many crashes.
func (m *Machine) effective(now time.Time) uint8 {
	if m.rests(now) {
		return 1
	}
	own, _ := m.cfg.node(m.cfg.Node)
	e := own.Priority
	for _, p := range m.peers {
		if m.counts(p, now) && m.fitness(p, now) > 0 {
			e = min(e, max(p.Priority, 2)-1)
		}
	}
	return max(e, 1)
}

// successor is the live peer that is best suited to be master: not in
// maintenance, its check passes, the most lans, the flows in sync, the fittest, then the highest
// configured priority, then the greater address.
func (m *Machine) successor(now time.Time) *peer {
	var best *peer
	better := func(p, q *peer) bool {
		if p.state.Resting != q.state.Resting {
			return q.state.Resting
		}
		if d := m.passesMore(p) - m.passesMore(q); d != 0 {
			return d > 0
		}
		if d := m.moreLans(p, now) - m.moreLans(q, now); d != 0 {
			return d > 0
		}
		if m.synced(p) != m.synced(q) {
			return m.synced(p)
		}
		if d := m.fitness(p, now) - m.fitness(q, now); d != 0 {
			return d > 0
		}
		return p.Priority > q.Priority || p.Priority == q.Priority && p.Address.Compare(q.Address) > 0
	}
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !p.canServe(now) { // it may refuse, if it is no backup after all
			continue
		}
		if best == nil || better(p, best) {
			best = p
		}
	}
	return best
}

// move is a hand-over that this master would begin by itself.
type move struct {
	to      string
	uplinks []string // because these work there and not here
	unfit   bool     // because the check passes there and not here; neither: maintenance
	due     time.Time
	unseen  []string  // uplinks of which nothing was heard from there since they died here
	ask     time.Time // when it is asked for them; zero: it was
	// rounds are those after which an uplink would be back here as well, if it
	// came back for all: the nodes do not probe at the same instants.
	rounds map[string]int
}

// settleMove hands the role over where another node serves better: one whose
// uplink works while this one's is dead (DESIGN.md §5 row 6), or any node that
// works while this one is in maintenance, or one whose check passes while this
// one's does not.
func (m *Machine) settleMove(now time.Time) {
	if m.vrrp.State() != vrrp.Master || m.handoff != nil || m.adding != 0 || m.stopping != 0 || m.vrrp.Suspect() || m.offering() {
		if m.handoff == nil {
			m.move = nil
		}
		return
	}
	next := m.wanted(now)
	if next == nil {
		m.move = nil
		return
	}
	old := m.move
	alike := old != nil && old.to == next.to && old.unfit == next.unfit && slices.Equal(old.uplinks, next.uplinks)
	if alike && slices.Equal(old.unseen, next.unseen) {
		next = old
	}
	m.move = next
	if !next.ask.IsZero() && !now.Before(next.ask) {
		next.ask = time.Time{}
		m.askSight(m.peers[next.to], next.unseen)
	}
	if now.Before(next.due) || !m.probedFor(next) {
		return
	}
	m.move = nil
	reason := m.cfg.Node + " is in maintenance"
	switch {
	case next.unfit:
		reason = "the check of " + m.cfg.Node + " fails: " + m.check.unfit
	case len(next.uplinks) > 0:
		reason = strings.Join(next.uplinks, ", ") + " is dead on " + m.cfg.Node + " only"
	}
	m.beginHandoff(m.peers[next.to], hand{reason: reason, uplinks: next.uplinks}, now)
}

// probedFor tells whether an uplink had the rounds in which it could have come
// back here. One that just died is reason enough.
func (m *Machine) probedFor(mv *move) bool {
	for _, name := range mv.uplinks {
		if m.rounds[name] >= mv.rounds[name] {
			return true
		}
	}
	return len(mv.uplinks) == 0
}

// offering tells whether a change of the configuration is being adopted; the
// role does not move in the middle of it.
func (m *Machine) offering() bool { return m.adopting != nil }

// wanted is the move that should be made, whether or not it is due.
func (m *Machine) wanted(now time.Time) *move {
	if m.maintenance { // and if the others are too, the fittest of them
		if best := m.successor(now); best != nil && !best.state.Resting {
			if !best.worded.After(m.since) || !m.synced(best) && !m.overdue(best, now) {
				return nil
			}
			return &move{to: best.Name, due: now.Add(sureAfter)}
		}
	}
	if mv, found := m.wantedByCheck(now); found {
		return mv
	}
	var best *move
	var target *peer
	for _, n := range m.cfg.Nodes {
		p := m.peers[n.Name]
		if p == nil || !m.counts(p, now) || !p.worded.After(m.since) || m.moreLans(p, now) < 0 || m.fitness(p, now) <= 0 {
			continue
		}
		if !m.synced(p) && m.uplinkWorks() { // all flows would break there, here only some
			continue
		}
		mv := m.moveFor(p, now)
		if mv == nil || target != nil && m.fitness(p, now) <= m.fitness(target, now) {
			continue
		}
		best, target = mv, p
	}
	return best
}

// wantedByCheck is the move to a node whose check passes while this one's does
// not, nil while that node is in doubt or lacks the flows; not found: there is no
// such node.
func (m *Machine) wantedByCheck(now time.Time) (mv *move, found bool) {
	best := m.successor(now)
	if best == nil || m.passesMore(best) <= 0 || !m.counts(best, now) || m.despiteCheck && m.held {
		return nil, false
	}
	if best.state.Unsure || m.recovers() || !best.worded.After(m.since) || !m.synced(best) && !m.overdue(best, now) {
		return nil, true
	}
	mv = &move{to: best.Name, unfit: true, due: now.Add(sureAfter)}
	if m.cfg.Check.Fall >= 3 && now.Sub(m.check.since) < carrierWait {
		// What fails for all has failed once on each node by the time that one has
		// counted three.
		mv.due = now
	}
	return mv, true
}

// uplinkWorks tells whether any uplink works here.
func (m *Machine) uplinkWorks() bool {
	for _, h := range m.health {
		if h.Verdict() != balancer.Down {
			return true
		}
	}
	return false
}

// hold keeps the role here because an operator wants it, in spite of the
// uplinks that are dead already, or of a check that fails already. What happens
// later still moves it.
func (m *Machine) hold() {
	m.held, m.despite, m.despiteCheck = true, map[string]bool{}, m.check.unfit != ""
	for name, h := range m.health {
		m.despite[name] = h.Verdict() == balancer.Down
	}
}

// moveFor names the uplinks that are dead here and work on a peer, and when the
// peer's word on them is good enough.
func (m *Machine) moveFor(p *peer, now time.Time) *move {
	mv := &move{to: p.Name, due: now.Add(sureAfter), rounds: map[string]int{}}
	for _, u := range m.cfg.Balancer.Uplinks {
		h, view := m.health[u.Name], p.view(u.Name)
		if u.Weight == 0 || m.verdicts[u.Name] == balancer.Disabled || m.sees(u.Name) != balancer.Down || !view.Verdict.Usable() || view.Failing {
			continue
		}
		if at, ok := m.moved[u.Name]; ok && now.Sub(at) < moveAgain || m.held && m.despite[u.Name] {
			continue
		}
		mv.uplinks = append(mv.uplinks, u.Name)
		died := now.Sub(h.Since()) < carrierWait
		switch {
		case !m.links[u.Device].Carrier && died && p.saw(u.Name, h.Since()):
			mv.due = now
		case !m.links[u.Device].Carrier && died:
			// The ISP's own equipment takes all nodes' carrier within moments. With no
			// proof until then the flows there end, and the role goes as for any line.
			mv.due = slices.MinFunc([]time.Time{mv.due, h.Since().Add(carrierWait)}, time.Time.Compare)
			if p.provable(u.Name) {
				mv.unseen = append(mv.unseen, u.Name)
				mv.ask = slices.MaxFunc([]time.Time{mv.ask, h.Since().Add(askAfter)}, time.Time.Compare)
			}
		case !m.links[u.Device].Carrier: // there is nothing to probe
		case m.cfg.Probes[u.Name].Fall >= 3 && died:
			// A line that is dead for all has failed at least one round of
			// each node by the time that one has counted three.
			mv.due = now
		default:
			mv.rounds[u.Name] = m.rounds[u.Name] + m.cfg.Probes[u.Name].Rise + 2
		}
	}
	if len(mv.uplinks) == 0 {
		return nil
	}
	return mv
}

// spared are the uplinks that keep their flows although they are dead here: the
// role is about to go where they work.
func (m *Machine) spared(uplink string, now time.Time) bool {
	if m.vrrp.State() != vrrp.Master {
		return false
	}
	if m.handoff != nil && slices.Contains(m.handoff.uplinks, uplink) {
		return true
	}
	return m.pool[uplink] && m.move != nil && slices.Contains(m.move.uplinks, uplink) && m.move.due.Sub(now) <= carrierWait
}

// damped tells why a node that claims the role has to wait: an uplink brought
// it here a short time ago.
func (m *Machine) damped(now time.Time) string {
	for name, at := range m.moved {
		if left := moveAgain - now.Sub(at); left > 0 {
			return fmt.Sprintf("%s moved the mastership %v ago, it stays for another %v", name, now.Sub(at).Round(time.Second), left.Round(time.Second))
		}
	}
	return ""
}
