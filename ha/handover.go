package ha

import (
	"fmt"
	"time"

	"harouter/vrrp"
)

// handoff is a hand-over that this master has begun.
type handoff struct {
	to    string
	id    uint64
	until time.Time
	limit time.Duration // for the successor to confirm
	// flushing: the successor has not confirmed the flows yet, and knows nothing
	// of the hand-over.
	flushing bool
	hand
}

// hand says how and why the role is handed over.
type hand struct {
	hold    bool // an operator wants it there
	rest    bool // maintenance follows
	reason  string
	patient bool             // called off when the successor does not confirm the flows
	uplinks []string         // that are dead here only
	answer  func(err string) // tells whoever asked; nil nobody
	by      time.Time        // until when it is tried again for whoever asked; zero: once
}

// taking is a hand-over to this node, until its addresses are in place.
type taking struct {
	from string
	id   uint64
	// await: the addresses are not put on before the one that hands over has
	// none, since both would use one MAC; until is how long it has for that,
	// from the moment when all else is ready.
	await bool
	until time.Time
	life  uint64 // of the one that hands over, when it began
}

// forwarded is a command that the master was asked to carry out.
type forwarded struct {
	id    uint64 // of the operator's command here
	to    string
	kind  Kind
	until time.Time
}

// forward has another node carry out a command.
func (m *Machine) forward(to string, command uint64, msg Message, now time.Time) {
	m.nextID++
	msg.ID = m.nextID
	m.forwarded[m.nextID] = forwarded{id: command, to: to, kind: msg.Kind, until: now.Add(forwardLimit)}
	m.do(Send{To: to, Message: msg})
}

// beginHandoff asks a peer to take over. hand.answer is called once, with "" when
// it did, else with the reason why nothing changed.
func (m *Machine) beginHandoff(to *peer, h hand, now time.Time) {
	m.nextID++
	m.handoff = &handoff{to: to.Name, id: m.nextID, limit: m.handoffLimit(to), hand: h}
	for _, u := range h.uplinks {
		m.moved[u] = now
	}
	if !m.flush(to, now) {
		m.sendHandoff(now)
	}
}

// sendHandoff asks the successor to take over now.
func (m *Machine) sendHandoff(now time.Time) {
	h := m.handoff
	h.until = now.Add(h.limit)
	m.elect(vrrp.Yield{To: h.to, Until: h.until}, now)
	m.do(Send{To: h.to, Message: m.withTerm(Message{Kind: KindHandover, ID: h.id, Hold: h.hold, Reason: h.reason, Uplinks: h.uplinks, Await: m.cfg.OneHolder})})
}

// ready answers a hand-over that waits: but for the addresses all is in place.
func (m *Machine) ready(now time.Time) {
	m.taking.until = now.Add(gonePatience)
	m.do(Send{To: m.taking.from, Message: m.withTerm(Message{Kind: KindReady, ID: m.taking.id})})
}

// isGone ends the wait for the one that hands over: it has no addresses any more.
func (m *Machine) isGone(why string) {
	if why != "" {
		m.record("role", m.cfg.Node, "master", "master", why)
	}
	m.taking.await = false
	m.addAddresses()
}

// diedHandingOver is when the node that hands over, and has not said yet that its
// addresses are gone, counts as dead: it is silent for as long as any master may
// be, and did not say either that it is master no more, as one does that started
// anew meanwhile. Zero: not at all.
func (m *Machine) diedHandingOver() time.Time {
	t := m.taking
	p := m.peers[t.from]
	if p == nil || t.until.IsZero() || p.advertised.IsZero() || !p.told || p.state.Role != RoleMaster && p.state.Life == t.life {
		return time.Time{}
	}
	return later(p.advertised.Add(m.vrrp.MasterDown()), t.until.Add(-gonePatience))
}

// giveWay takes the addresses away before the successor puts them on. This node
// is a backup from then on: if the successor fails it takes over as from any
// other that died.
func (m *Machine) giveWay(now time.Time) {
	h := m.handoff
	m.elect(vrrp.Demote{Reason: "handed over to " + h.to, Patience: gonePatience}, now)
	m.afterRemoval(Send{To: h.to, Message: m.withTerm(Message{Kind: KindGone, ID: h.id})})
}

// afterRemoval does something once the addresses that are being taken away are.
func (m *Machine) afterRemoval(a Action) {
	if m.removing == 0 {
		m.do(a)
		return
	}
	m.removed = append(m.removed, a)
}

// finishHandoff is called when this node has become a backup, because of an
// advert of the master named, or of nobody's but at the successor's word.
func (m *Machine) finishHandoff(master string) {
	h := m.handoff
	m.handoff = nil
	switch {
	case h.answer == nil:
	case master != "" && master != h.to:
		h.answer("hand-over to " + h.to + ": " + master + " took over meanwhile")
	default:
		h.answer("")
	}
}

// endHandoff gives up: this node stays master.
func (m *Machine) endHandoff(why string, now time.Time) {
	h := m.handoff
	m.handoff = nil
	for _, u := range h.uplinks { // nothing moved
		delete(m.moved, u)
	}
	m.elect(vrrp.Yield{}, now)
	m.do(Send{To: h.to, Message: Message{Kind: KindCancel, ID: h.id}})
	m.record("role", m.cfg.Node, "master", "master", "no hand-over to "+h.to+": "+why)
	if h.answer != nil {
		h.answer("hand-over to " + h.to + ": " + why + "; nothing changed")
	}
}

// cancelHandover takes the word of a master that has given a hand-over up and
// stays: one that is not under way yet is void, one that is ends.
func (m *Machine) cancelHandover(from *peer, id uint64, now time.Time) {
	from.cancelled = id
	if from.handover != id || m.vrrp.State() != vrrp.Master {
		return
	}
	// The next advert of the one that stays makes this node a backup again.
	m.elect(vrrp.Yield{To: from.Name, Until: now.Add(handoffLimit)}, now)
}

// onMessage takes a direct message of another node.
func (m *Machine) onMessage(from *peer, msg Message, now time.Time) {
	refuse := func(why string) {
		m.do(Send{To: from.Name, Message: Message{Kind: KindRefused, ID: msg.ID, Reason: why}})
	}
	m.sawTerm(msg.Term)
	switch msg.Kind {
	case KindHandover:
		if msg.ID == from.cancelled || msg.ID == from.handover {
			return // it came late, or twice
		}
		from.handover = msg.ID
		if m.vrrp.State() != vrrp.Backup || m.stopping != 0 {
			refuse(m.cfg.Node + " is " + m.role.String())
			return
		}
		if m.drowsy(now) && m.slept >= handoffLimit { // it may have been given up meanwhile
			refuse(m.cfg.Node + " stood still until now")
			return
		}
		m.taking = &taking{from: from.Name, id: msg.ID, await: msg.Await, life: from.state.Life}
		m.elect(vrrp.Promote{From: from.Name, Quiet: true, For: m.handoffLimit(from), Reason: "handed over by " + from.Name + ": " + msg.Reason}, now)
		if msg.Hold {
			m.hold()
		}
		for _, u := range msg.Uplinks {
			if m.health[u] != nil {
				m.moved[u] = now
			}
		}
	case KindYield:
		if m.vrrp.State() != vrrp.Backup || m.stopping != 0 || m.drowsy(now) {
			return
		}
		m.elect(vrrp.Promote{From: from.Name, Reason: from.Name + " stepped back: " + msg.Reason}, now)
	case KindForget:
		result := func(err string) {
			m.do(Send{To: from.Name, Message: Message{Kind: KindResult, ID: msg.ID, Error: err}})
		}
		m.record("operator", "forget", "", from.Name, "asked on "+from.Name)
		m.propose(offer{spread: true, except: from.Name, answer: result}, ReadFile{Remove: from.Name}, now)
	case KindPrepare:
		m.onPrepare(from, msg, now)
	case KindPrepared:
		m.onPrepared(from, msg, now)
	case KindCancel:
		m.cancelHandover(from, msg.ID, now)
		if p := m.pledge; p != nil && p.from == from.Name && p.id == msg.ID && !p.committed {
			m.pledge = nil
		}
	case KindCommit:
		m.onCommit(from, msg, now)
	case KindDone:
		m.onDone(from.Name, msg.ID, msg.Error, now)
	case KindKeep:
		m.onKeep(from, msg, now)
	case KindFetch:
		m.onFetch(from, msg)
	case KindFile:
		m.onFile(from, msg)
	case KindVouch:
		if !m.Awake() { // its guard may have said farewell meanwhile, and rightly so
			return
		}
		m.do(Send{To: from.Name, Message: Message{Kind: KindVouched, ID: msg.ID, Role: m.role, Priority: m.vrrp.Priority(), Was: m.was(now)}, Wide: true})
	case KindSee:
		m.onSee(from, msg, now)
	case KindSeen:
		m.onSeen(from, msg, now)
	case KindFenced:
		m.onFenced(from, msg.Will, now)
	case KindMembers:
		m.hearsOfFile(PeerState{Node: from.Name, Gen: msg.Generation, Hash: msg.Hash, Members: msg.Members, Addresses: from.addresses})
	case KindVouched:
		m.onVouched(from, msg, now)
	case KindGaveWay:
		m.reannounce(from.Name + " was master too and gave way")
	case KindTaken:
		if h := m.handoff; h != nil && h.id == msg.ID {
			m.elect(vrrp.Demote{Reason: "handed over to " + from.Name}, now)
		}
	case KindReady:
		if h := m.handoff; h != nil && h.id == msg.ID && !h.flushing {
			m.giveWay(now)
		}
	case KindGone:
		if t := m.taking; t != nil && t.await && t.id == msg.ID && t.from == from.Name {
			m.isGone("")
		}
	case KindRefused:
		m.claims = 0
		if h := m.handoff; h != nil && h.id == msg.ID {
			m.endHandoff(msg.Reason, now)
		}
	case KindClaim:
		switch {
		case m.vrrp.State() != vrrp.Master || m.handoff != nil || m.stopping != 0:
			refuse(m.cfg.Node + " is " + m.role.String() + " and cannot hand over now")
		case m.held:
			refuse("an operator put the mastership here; harouter failover --auto ends that")
		case m.recovers() && m.passesMore(from) > 0:
			refuse("the check of " + m.cfg.Node + " passes again, one more time and it is fit")
		case !msg.Unsynced && !m.synced(from):
			refuse(from.Name + " is not in sync as " + m.cfg.Node + " sees it")
		case !msg.Unsynced && !from.unconfirmed.IsZero() && now.Sub(from.unconfirmed) < flushAgain:
			refuse(from.Name + " did not confirm that it has all connections")
		case m.damped(now) != "" && m.moreLans(from, now) <= 0 && !m.maintenance:
			refuse(m.damped(now))
		case !from.canServe(now) || from.state.Effective <= m.vrrp.Priority():
			refuse("priority " + fmt.Sprint(from.state.Effective) + " is not above " + fmt.Sprint(m.vrrp.Priority()))
		default:
			m.beginHandoff(from, hand{reason: msg.Reason, patient: !msg.Unsynced}, now)
		}
	case KindFailover, KindAuto:
		result := func(err string) {
			m.do(Send{To: from.Name, Message: Message{Kind: KindResult, ID: msg.ID, Error: err}})
		}
		if m.vrrp.State() != vrrp.Master {
			result(m.cfg.Node + " is " + m.role.String() + ", not master; nothing changed")
			return
		}
		m.record("operator", string(msg.Kind), "", msg.To, "asked on "+from.Name)
		m.failover(msg.Kind == KindAuto, msg.To, result, now)
	case KindResult:
		if f, ok := m.forwarded[msg.ID]; ok && f.to == from.Name {
			delete(m.forwarded, msg.ID)
			m.do(Answer{ID: f.id, Error: msg.Error})
			if f.kind == KindForget && msg.Error == "" {
				m.stop(VerbStop, func(string) {}, now)
			}
		}
	}
}

// claim asks the present master, of lower priority, to hand over. One that
// does not answer is preempted as the RFC does it.
func (m *Machine) claim(master string, now time.Time) {
	if p := m.peers[master]; p == nil || now.Sub(p.worded) > aliveFor {
		return // it cannot be asked: a broken cable is no reason to take the role by force
	}
	if m.unsure() {
		return
	}
	if m.waitsForFlows(m.peers[master], now) {
		m.claims = 0
		return
	}
	m.claims++
	if m.claims > claimPatience {
		m.elect(vrrp.Insist{}, now)
		return
	}
	m.nextID++
	m.do(Send{To: master, Message: Message{
		Kind: KindClaim, ID: m.nextID, Unsynced: !m.synced(m.peers[master]), Reason: fmt.Sprintf("%s has the higher priority %d", m.cfg.Node, m.vrrp.Priority()),
	}})
}

// onCommand takes an operator's command.
func (m *Machine) onCommand(c Command, now time.Time) {
	answer := func(err string) { m.do(Answer{ID: c.ID, Error: err}) }
	switch c.Verb {
	case VerbFailover, VerbAuto:
		if c.Args.To != "" {
			if _, ok := m.cfg.node(c.Args.To); !ok {
				answer(fmt.Sprintf("no node is called %q in this cluster; nothing changed", c.Args.To))
				return
			}
		}
		if m.stopping != 0 {
			answer(m.cfg.Node + " is leaving; nothing changed")
			return
		}
		if m.vrrp.State() == vrrp.Master {
			subject := "failover"
			if c.Verb == VerbAuto {
				subject = "auto"
			}
			m.record("operator", subject, "", c.Args.To, "asked on "+m.cfg.Node)
			m.failover(c.Verb == VerbAuto, c.Args.To, answer, now)
			return
		}
		if c.Verb == VerbAuto { // should the role come back here
			clear(m.moved)
		}
		master := m.peers[m.vrrp.Master()]
		if master == nil || !master.alive(now) {
			answer("no node of this cluster is heard as master, so none can hand over; nothing changed")
			return
		}
		kind := KindFailover
		if c.Verb == VerbAuto {
			kind = KindAuto
		}
		m.forward(master.Name, c.ID, Message{Kind: kind, To: c.Args.To}, now)
	case VerbStop, VerbClean:
		m.stop(c.Verb, answer, now)
	case VerbReload:
		m.record("operator", "reload", "", "", "asked on "+m.cfg.Node)
		m.propose(offer{trial: c.Args.Trial, answer: answer}, ReadFile{}, now)
	case VerbAddNode:
		m.record("operator", "join", "", c.Args.Add.Name, "asked on "+m.cfg.Node)
		m.propose(offer{spread: true, answer: answer}, ReadFile{Add: c.Args.Add}, now)
	case VerbForget:
		m.record("operator", "forget", "", m.cfg.Node, "asked on "+m.cfg.Node)
		m.forget(answer, c.ID, now)
	case VerbEnable, VerbDisable:
		m.turn(c.Args.Uplink, c.Verb == VerbDisable, answer)
	case VerbRest:
		m.rest(answer, now)
	case VerbServe:
		m.remember(false, answer, func(now time.Time) {
			m.record("operator", "maintenance", "on", "off", "asked on "+m.cfg.Node)
			m.unrest(now)
			m.setMaintenance(false)
			answer("")
		})
	}
}

// failover carries out an operator's wish on the master.
func (m *Machine) failover(auto bool, to string, tell func(string), now time.Time) {
	answer := func(err string) {
		m.recordRefusal("failover", to, err)
		tell(err)
	}
	switch {
	case auto:
		if m.wish != nil && m.wish.hold {
			m.endWish("it is to follow the priorities again")
		}
		m.held = false
		clear(m.moved)
		answer("")
	case m.handoff != nil:
		answer("a hand-over to " + m.handoff.to + " is under way; nothing changed")
	case m.wish != nil:
		answer("a hand-over to " + m.wish.to + " is under way; nothing changed")
	case m.vrrp.Suspect() || m.adding != 0:
		answer("the role of " + m.cfg.Node + " is not settled yet, try again in a second; nothing changed")
	case to == m.cfg.Node && m.maintenance:
		answer(to + " is in maintenance: harouter maintenance off on that node first; nothing changed")
	case to == m.cfg.Node:
		m.hold()
		answer("")
	default:
		target := m.successor(now)
		if to != "" {
			if target = m.peers[to]; target == nil { // asked on a node with another file
				answer(fmt.Sprintf("no node is called %q on the master %s; nothing changed", to, m.cfg.Node))
				return
			}
			if !target.canServe(now) {
				answer(to + " is " + m.peerRole(target, now).String() + " and cannot take over; nothing changed")
				return
			}
		}
		if target != nil && target.state.Resting {
			answer(target.Name + " is in maintenance: harouter maintenance off on that node first; nothing changed")
			return
		}
		if target == nil {
			answer("no other node is alive that could take over; nothing changed")
			return
		}
		if m.passesMore(target) < 0 { // its check would take it back at once
			answer(fmt.Sprintf("the check of %s fails (%s): mend that first; nothing changed", target.Name, target.state.Unfit))
			return
		}
		if there, here := target.state.Lans, m.lans(); there < here { // row 5 would take it back at once
			answer(fmt.Sprintf("%s reaches %s, %s %d: plug it in there first; nothing changed", target.Name, lansWord(there), m.cfg.Node, here))
			return
		}
		m.wish = &wish{to: target.Name, waits: m.lacks(target), why: notReceived(target), hand: hand{
			hold: true, reason: "an operator asked for it", patient: true, answer: answer, by: now.Add(wishLimit),
		}}
		m.settleWish(now)
	}
}

func lansWord(n int) string {
	if n == 1 {
		return "1 lan"
	}
	return fmt.Sprintf("%d lans", n)
}

func (m *Machine) peerRole(p *peer, now time.Time) Role {
	if !p.alive(now) || !p.told {
		return RoleUnknown
	}
	return p.state.Role
}

// stop leaves the cluster: a master hands over first if there is anybody.
func (m *Machine) stop(verb Verb, answer func(string), now time.Time) {
	if m.stopping != 0 {
		m.stopping = max(m.stopping, verb)
		answer("")
		return
	}
	m.stopping, m.leaveBy = verb, now.Add(leaveWithin)
	m.record("operator", "stop", "", "", "leaving")
	answer("")
	if m.offer != nil && !m.offer.committed {
		m.endOffer(m.cfg.Node+" is leaving; nothing changed", now) // nobody need wait for it
	}
	if m.vrrp.State() != vrrp.Master {
		m.elect(vrrp.Stop{Reason: "leaving"}, now)
		return
	}
	if m.handoff != nil {
		return // one is under way
	}
	if next := m.successor(now); next != nil {
		m.beginHandoff(next, hand{reason: m.cfg.Node + " leaves"}, now)
	}
}

// settleExit ends the daemon once nothing is pending: whoever waits for this
// node's word, to be rid of the addresses, has it first.
func (m *Machine) settleExit(now time.Time) {
	if m.stopping == 0 || m.handoff != nil || m.taking != nil || m.adding != 0 || !m.deactivate.IsZero() {
		return
	}
	keep := false
	if m.vrrp.State() == vrrp.Master {
		// Nobody took over: addresses and flows stay for the next run, unless
		// all is to be removed or a node is there that will not wait.
		keep = m.stopping == VerbStop && !m.peerCanServe(now)
		if !keep {
			m.elect(vrrp.Stop{Reason: "leaving"}, now)
		} else {
			// A guard elsewhere that holds them too lets go when it hears this.
			m.do(Silence{}, Once{Priority: m.vrrp.Priority()})
			// A backup that is not ours is never heard, yet one may be there. When it
			// is master the guard lets go.
			if len(m.cfg.Foreign) > 0 {
				m.do(Once{})
			}
		}
	}
	m.exited = true
	m.do(Exit{Keep: keep, Clean: m.stopping == VerbClean})
}

func (m *Machine) peerCanServe(now time.Time) bool {
	for _, p := range m.peers {
		if p.canServe(now) {
			return true
		}
	}
	return false
}
