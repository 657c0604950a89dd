package ha

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// Machine decides what one node does: events and the time in, actions out. It
// reads no clock and does no I/O; Deadline says when it wants a Tick.
type Machine struct {
	cfg  Config
	vrrp *vrrp.Machine

	started      time.Time
	woke         time.Time     // it stood still before,
	slept        time.Duration // for so long
	role         Role
	since        time.Time
	transitions  int
	held         bool            // an operator put the role here: lesser masters too are not preempted
	despite      map[string]bool // held: uplinks that were dead here already
	despiteCheck bool            // held: the check failed here already
	checkedEarly CheckRan        // of a file that is not in use yet
	check        checkup
	stopping     Verb      // VerbStop or VerbClean once asked, else 0
	leaveBy      time.Time // stopping: lingering ends
	maintenance  bool      // an operator keeps this node out: master only if alone
	resting      *resting  // and whether that is so is being written down
	exited       bool

	links    map[string]Link
	gateways map[string]netip.Addr
	peers    map[string]*peer
	speakers map[netip.Addr]string // source address -> node
	senders  []netip.Addr          // the others' addresses, and those of foreign routers, in order

	holding    bool      // virtual addresses are, or are about to be, on the devices
	found      bool      // they were there at start and nothing is decided yet
	fenced     bool      // the guard took them away while this process hung
	active     bool      // takeover switch
	deactivate time.Time // when the switch is turned off: lingering
	lingerEnd  time.Time // and when that is at the latest
	seq        uint64
	adding     uint64   // AddAddresses that is under way, 0 none
	removing   uint64   // RemoveAddresses that is under way
	removed    []Action // done when that is

	handoff *handoff
	wish    *wish
	taking  *taking
	claims  int // unanswered
	move    *move
	moved   map[string]time.Time // when an uplink moved the role last

	term     uint64               // the highest of a master that was heard of, or of this node
	owned    uint64               // term in which this node owns the flows, 0 it does not
	last     uint64               // term in which it owned them last
	lately   mastership           // what this node was while it was master last
	sessions map[string]SyncState // with the other nodes, by name
	news     map[string]*syncNews // and what was recorded of that

	offer    *offer
	pledge   *pledge
	trial    *trial
	fetch    *fetch
	adopting *adopting
	file     FileSeen
	fileSeen bool

	cold        string    // hash of the file that was there at the start
	looked      bool      // at it, for a cold start
	changedFile time.Time // when another one came into use
	witness     string    // lan whose alarm one_witness stands
	differing   time.Time // since when the nodes' files differ

	forwarded map[uint64]forwarded
	nextID    uint64

	health    map[string]*balancer.Health
	rounds    map[string]int              // of probes, so far
	verdicts  map[string]balancer.Verdict // what this node routes by: the master's word
	changed   map[string]time.Time        // since when
	followed  time.Time                   // when the master said so; zero: they are this node's
	sightings map[string]sighting         // by uplink, that a master waits for
	vouched   map[string]int              // uplinks that the last master vouched for, and bad rounds since
	pool      map[string]bool
	returned  bool   // an uplink is back in the pool, or well again; the plan with it is not in the kernel yet
	dying     []line // left the pool; the plan without them is not in the kernel yet
	doomed    []line // it is; their flows end as soon as this node may say so
	sweeps    []sweep
	sources   map[string]Source
	leases    map[string][]netip.Addr // own addresses of uplinks, while they had some
	lapsed    []netip.Addr            // those of them that are gone, and whose flows end with the next plan

	loads      map[string]load // of uplinks
	meter      *balancer.Meter // the shares of policies that go by what is measured
	shareEpoch uint64          // of those

	switches  map[string]Switch // what operators said of uplinks, by name
	switching *switching
	drains    map[string]bool // uplinks that were disabled while flows ran on them

	input      balancer.Input
	plan       balancer.Plan
	planHash   string
	planSeq    uint64
	reapply    bool
	replanned  bool // the first plan of a new file is on its way to the kernel
	routed     bool // a plan has been applied
	retry      time.Time
	applyError string

	told       PeerState
	toldAt     time.Time
	guard      Guard
	guardTold  bool
	drops      map[string]map[string]uint64
	alarms     map[alarmKey]*alarm
	life       uint64                  // of this process, told with each state
	states     uint64                  // told in it
	deaf       map[string]string       // lans on which a node is not heard, and what is to be said of it
	looks      map[string]*look        // for the hosts of those, and of lans on which others are deaf
	hosts      map[string][]netip.Addr // of each lan, seen last
	double     double
	members    map[string]netip.Addr // told to the others; never changed, but replaced
	newest     uint64                // generation of the file that was heard of
	expulsion  expulsion
	twinned    map[netip.Addr]string // addresses that another node has too
	untwinned  bool                  // whose addresses are whose has to be looked at
	putOff     time.Time             // until then a better node is let go first
	asks       Pulse                 // whether the master's machine runs
	rash       rash
	sought     bool                    // the others were looked for
	carries    time.Time               // since when this node could be elected, first of all
	strangers  map[netip.Addr]stranger // unknown senders of adverts
	repaired   []time.Time             // addresses that were put back within a minute
	crashes    int                     // of this node, before this life
	backUntil  time.Time               // because of them
	seed       [32]byte                // of the wills
	wills      uint64                  // masterships so far
	out        []Action
	linksKnown bool
}

// NewMachine returns the machine of a node that starts at now.
func NewMachine(cfg Config, now time.Time) *Machine {
	own, _ := cfg.node(cfg.Node)
	m := &Machine{
		cfg: cfg, started: now, since: now, role: RoleUnknown,
		vrrp: vrrp.NewMachine(vrrp.MachineConfig{
			Version: vrrp.Version(cfg.VRRPVersion), Priority: own.Priority, Interval: cfg.Advertise, Rank: own.Address,
			Preempt: cfg.Preempt, PreemptDelay: cfg.PreemptDelay,
		}),
		links: map[string]Link{}, gateways: map[string]netip.Addr{},
		peers: map[string]*peer{}, speakers: map[netip.Addr]string{},
		forwarded: map[uint64]forwarded{},
		health:    map[string]*balancer.Health{}, rounds: map[string]int{}, verdicts: map[string]balancer.Verdict{},
		changed: map[string]time.Time{}, vouched: map[string]int{}, sightings: map[string]sighting{}, pool: map[string]bool{}, sources: map[string]Source{}, leases: map[string][]netip.Addr{},
		drops:  map[string]map[string]uint64{"vrrp": {}, "gossip": {}, "sync": {}},
		alarms: map[alarmKey]*alarm{}, strangers: map[netip.Addr]stranger{},
		looks: map[string]*look{}, hosts: map[string][]netip.Addr{},
		moved: map[string]time.Time{}, sessions: map[string]SyncState{}, news: map[string]*syncNews{}, maintenance: cfg.Maintenance, file: FileSeen{Hash: cfg.Hash},
		loads: map[string]load{}, meter: balancer.NewMeter(cfg.Balancer), switches: known(cfg.Switches, cfg.Balancer), drains: map[string]bool{},
		members: membersOf(cfg.Nodes), seed: cfg.Will, crashes: cfg.Crashes, backUntil: now.Add(holdAfter(cfg.Crashes)),
	}
	m.nextID = uint64(now.UnixNano()) // ids of messages differ from those of a former life
	m.life = m.nextID
	for _, n := range cfg.Nodes {
		if n.Name == cfg.Node {
			continue
		}
		p := &peer{Node: n, addresses: cfg.Known[n.Name]}
		m.peers[n.Name] = p
	}
	m.indexSpeakers()
	for _, u := range cfg.Balancer.Uplinks {
		m.addUplink(u)
	}
	return m
}

// Handle takes one event at the time now and returns what is to be done.
func (m *Machine) Handle(ev Event, now time.Time) []Action {
	m.out = nil
	if m.exited {
		return nil
	}
	switch ev := ev.(type) {
	case Tick:
		m.hearInstead(now)
		m.seek(now)
		m.letBetterFirst(now)
		m.elect(vrrp.Tick{}, now)
	case Overslept:
		m.record("role", m.cfg.Node, "", "", "this process stood still for "+ev.For.Round(time.Millisecond).String()+": listening first")
		m.listenAnew("", now)
		m.woke, m.slept = now, ev.For
		m.elect(vrrp.Overslept{}, now)
	case Links:
		m.onLinks(ev, now)
	case Found:
		m.found = ev.Addresses > 0
		m.active = m.found
	case Advert:
		m.onAdvert(ev, now)
	case Dropped:
		m.onDropped(ev, now)
	case PeerTold:
		m.onPeerTold(ev.State, ev.Lan, now)
	case PeerSeen:
		if p := m.peers[ev.Node]; p != nil {
			p.heard = now
			p.ways.sign(ev.Lan, now)
			if ev.Lan != "" {
				p.ways.hello(ev.Lan, now)
			}
		}
	case PeerLost:
		if p := m.peers[ev.Node]; p != nil {
			if p.told && p.state.Leaving { // as it said: nobody need wait for it
				p.heard, p.worded = time.Time{}, time.Time{}
			}
			p.told = false // what it said last is of a life that ended
			p.doubt = doubt{}
		}
	case Told:
		if p := m.peers[ev.From]; p != nil {
			p.heard, p.worded = now, now
			p.ways.sign(ev.Lan, now)
			m.onMessage(p, ev.Message, now)
		}
	case Hosts:
		m.sawHosts(ev)
	case Reached:
		m.reached(ev.Lan, now)
	case Asked:
		m.asked(ev.Lan)
	case Unanswered:
		m.onUnanswered(ev, now)
	case Recovered:
		m.onRecovered(ev, now)
	case Probed:
		m.onRound(ev.Round)
	case CheckRan:
		m.onCheckRan(ev, now)
	case Loads:
		m.onLoads(ev)
	case SwitchesKept:
		m.onSwitchesKept(ev, now)
	case Switched:
		m.onSwitched(ev, now)
	case Applied:
		m.onApplied(ev, now)
	case Synced:
		m.sessions[ev.Node] = ev.State
	case Flushed:
		if h := m.handoff; h != nil && h.flushing && h.id == ev.ID {
			why := ""
			if ev.Err != nil {
				why = ev.Err.Error()
			}
			m.flushed(why, now)
		}
	case Forwarded:
		m.linger(now)
	case Fenced:
		m.fenced = m.holding // else they are gone as they should be
		m.guardTold = false
		m.wills++ // that one has been read out
		m.record("address", m.cfg.Node, "", "", "the guard took the virtual addresses away while this process hung")
		m.elect(vrrp.Overslept{}, now)
	case Checked:
		m.onChecked(ev, now)
	case Rested:
		m.onRested(ev, now)
	case FileSeen:
		if !m.fileSeen {
			m.cold = ev.Hash
		}
		m.file, m.fileSeen = ev, true
	case Reconfigured:
		m.onReconfigured(ev, now)
	case Repaired:
		m.onRepaired(ev, now)
	case Condition:
		m.holdAlarm(ev.On, ev.Code, ev.Subject, ev.Text, now)
		if a := m.alarms[alarmKey{ev.Code, ev.Subject}]; a != nil {
			a.edge = true
		}
	case Command:
		m.onCommand(ev, now)
	}
	m.settle(now)
	out := m.out
	m.out = nil
	return out
}

// Deadline is the next time at which Handle wants a Tick.
func (m *Machine) Deadline(now time.Time) time.Time {
	d := now.Add(publishEvery)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(d) {
			d = t
		}
	}
	if m.linksKnown {
		earlier(m.toldAt.Add(publishEvery))
	}
	for _, h := range m.health {
		earlier(h.HeldUntil())
	}
	earlier(m.vrrp.Deadline())
	earlier(m.deactivate)
	earlier(m.retry)
	if m.heldBack(now) {
		earlier(m.backUntil)
	}
	if m.handoff != nil {
		earlier(m.handoff.until)
	}
	if m.wish != nil {
		earlier(m.wish.by)
		if now.Before(m.wish.next) {
			earlier(m.wish.next)
		}
	}
	if m.taking != nil && m.taking.await {
		earlier(m.taking.until)
		earlier(m.diedHandingOver())
	}
	for _, f := range m.forwarded {
		earlier(f.until)
	}
	if !m.differing.IsZero() && now.Sub(m.differing) < differAfter {
		earlier(m.differing.Add(differAfter))
	}
	if m.move != nil && m.handoff == nil {
		earlier(m.move.due)
		earlier(m.move.ask)
	}
	for _, after := range []time.Duration{coldAfter, startFor} {
		if t := m.started.Add(after); now.Before(t) {
			earlier(t)
		}
	}
	if m.offer != nil && (m.adopting == nil || !m.offer.committed) {
		earlier(m.offer.until)
	}
	if m.adopting == nil { // what is due waits until the edges have taken the file
		if m.pledge != nil {
			earlier(m.pledge.until)
		}
		if m.trial != nil {
			earlier(m.trial.until)
		}
	}
	if m.fetch != nil {
		earlier(m.fetch.until)
	}
	if m.switching != nil {
		earlier(m.switching.until)
	}
	earlier(m.deafDeadline(now))
	if m.doubled(now) {
		earlier(m.double.heard.Add(doubleHold))
	}
	earlier(m.silenceDeadline(now))
	if !m.sought && m.vrrp.State() == vrrp.Backup {
		earlier(m.carries.Add(seekFor))
	}
	for _, s := range m.sweeps {
		earlier(s.at)
	}
	for _, n := range m.news {
		earlier(n.due)
	}
	for _, p := range m.peers {
		if p.alive(now) {
			earlier(p.heard.Add(aliveFor))
		}
	}
	return d
}

// Role tells what the node is.
func (m *Machine) Role() Role { return m.role }

// Sure tells whether this node is master beyond doubt, so that addresses that
// somebody took away may be put back.
func (m *Machine) Sure() bool { return m.holding && !m.fenced && !m.vrrp.Suspect() }

// Awake tells whether this node is not in doubt of its role, whichever it is, and
// not in the middle of taking a new file: what lacks then is of the plan before.
func (m *Machine) Awake() bool {
	return !m.fenced && !m.vrrp.Suspect() && m.adopting == nil && !m.replanned
}

func (m *Machine) do(a ...Action) { m.out = append(m.out, a...) }

func (m *Machine) record(kind, subject, from, to, reason string) {
	m.do(Record{Kind: kind, Subject: subject, From: from, To: to, Reason: brief(reason)})
}

// recordRefusal records what became of an operator's wish, if it is not done: that
// he asked stands there already.
func (m *Machine) recordRefusal(wish, to, err string) {
	if err != "" {
		m.record("operator", wish, "", to, "not done: "+err)
	}
}

// brief makes one line of a text that may have more, as the mistakes of a file
// have, and leaves out the excerpts of the file, which are indented.
func brief(text string) string {
	if !strings.Contains(text, "\n") {
		return text
	}
	lines := slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return l == "" || l[0] == ' ' })
	if n := len(lines) - 1; n > 0 {
		return fmt.Sprintf("%s (and %d more; harouter check tells all)", lines[0], n)
	}
	return strings.Join(lines, "")
}

// settle derives all that follows from the state as it is now, and does what
// differs from what was done before.
func (m *Machine) settle(now time.Time) {
	m.settleTimers(now)
	m.settlePeers(now)
	m.settleGuests(now)
	m.settleDeaf(now)
	m.settleSilence(now)
	m.settleElection(now)
	m.settleRole(now)
	m.settlePulse(now)
	m.settleFlows(now)
	m.settleNews(now)
	m.settleWish(now)
	m.settleMove(now)
	m.settleSwitches(now)
	m.settlePool(now)
	m.settleShares(now)
	m.settleDoomed(now)
	m.settleAgreement(now)
	m.settlePlan(now)
	m.settleSources()
	m.settleCrashes(now)
	m.settleAlarms(now)
	m.settleDouble(now)
	m.settleGuard(now)
	m.settlePublish(now)
	m.settleExit(now)
}

func (m *Machine) settleTimers(now time.Time) {
	if h := m.handoff; h != nil && !now.Before(h.until) {
		if h.flushing {
			m.flushed("no answer within "+flushLimit.String(), now)
		} else {
			m.endHandoff(h.to+" did not confirm within "+h.limit.String(), now)
		}
	}
	if t := m.taking; t != nil && t.await && !t.until.IsZero() {
		died := m.diedHandingOver()
		switch {
		case !now.Before(t.until):
			m.elect(vrrp.Demote{Reason: t.from + " did not give way"}, now)
		case !died.IsZero() && !now.Before(died):
			m.isGone(t.from + " died while it handed over")
		}
	}
	for id, f := range m.forwarded {
		if !now.Before(f.until) {
			delete(m.forwarded, id)
			m.do(Answer{ID: f.id, Error: f.to + " did not answer: is it still alive? See harouter status"})
		}
	}
	if !m.deactivate.IsZero() && !now.Before(m.deactivate) {
		m.setActive(false, false)
	}
	if !m.retry.IsZero() && !now.Before(m.retry) {
		m.retry, m.reapply = time.Time{}, true
	}
	for name, h := range m.health {
		h.Tick(now)
		if h.Verdict() != balancer.Down {
			delete(m.despite, name)
		}
	}
	for _, p := range m.peers {
		switch alive := p.alive(now); {
		case alive && !p.present:
			p.present, m.untwinned = true, true
		case !alive:
			switch {
			case p.present && p.state.Leaving:
				m.record("node", p.Name, p.state.Role.String(), "left", "as it said it would")
			case p.present:
				m.record("node", p.Name, p.state.Role.String(), "lost", "not heard on any path for "+aliveFor.String())
			}
			m.untwinned = m.untwinned || p.present
			p.present, p.told, p.state.Held = false, false, false
		}
	}
	m.sweeps = slices.DeleteFunc(m.sweeps, func(s sweep) bool {
		if now.Before(s.at) {
			return false
		}
		if !m.pooled(s.id) {
			m.deleteFlows(s.line)
		}
		return true
	})
}

// onLinks takes the state of all devices.
func (m *Machine) onLinks(ev Links, now time.Time) {
	for device, link := range ev.Devices {
		was, known := m.links[device]
		if known && was.Carrier != link.Carrier {
			m.record("node", device, carrier(was), carrier(link), "link event")
		}
		// Routes are lost when a link goes down, when its last address goes, and
		// with a device that was deleted and made anew.
		if link.Present && link.Carrier && (!was.Present || !was.Carrier || was.Index != link.Index) || !slices.Equal(m.permanent(was), m.permanent(link)) {
			m.reapply = true
		}
		m.links[device] = link
	}
	for device := range m.links { // what the file no longer names
		if _, looked := ev.Devices[device]; !looked && !m.uses(device) {
			delete(m.links, device)
		}
	}
	m.gateways = ev.Gateways
	m.untwinned = true
	m.linksKnown = true
	for _, u := range m.cfg.Balancer.Uplinks {
		if l, ok := m.links[u.Device]; ok {
			m.health[u.Name].Link(l.Carrier, now)
			if !l.Carrier {
				delete(m.vouched, u.Name)
			}
		}
	}
	m.noteLeases()
}

// uses tells whether the file gives this node a lan or an uplink on a device.
func (m *Machine) uses(device string) bool {
	return slices.ContainsFunc(m.cfg.Balancer.Lans, func(l balancer.Lan) bool { return l.Device == device }) ||
		slices.ContainsFunc(m.cfg.Balancer.Uplinks, func(u balancer.Uplink) bool { return u.Device == device })
}

func carrier(l Link) string {
	switch {
	case !l.Present:
		return "missing"
	case !l.Carrier:
		return "down"
	}
	return "up"
}

// lans counts the lans whose link carries. One that a reload added counts until
// its device was looked at, which is a moment later.
func (m *Machine) lans() int {
	n := 0
	for _, l := range m.cfg.Balancer.Lans {
		if link, known := m.links[l.Device]; link.Carrier || !known {
			n++
		}
	}
	return n
}

// deadLans counts the lans whose link is known not to carry. Of one that is new
// in the file nothing is known yet.
func (m *Machine) deadLans() int {
	n := 0
	for _, l := range m.cfg.Balancer.Lans {
		if link, known := m.links[l.Device]; known && !link.Carrier {
			n++
		}
	}
	return n
}

// virtual tells whether a is one of the cluster's addresses.
func (m *Machine) virtual(a netip.Addr) bool { return m.cfg.Balancer.IsVirtual(a) }

// permanent are the addresses of a link that are not the cluster's.
func (m *Machine) permanent(l Link) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(l.Addresses), func(p netip.Prefix) bool { return m.virtual(p.Addr()) })
}

// own returns the node's permanent addresses on a device: neither virtual nor
// of the 169.254 kind, which lead nowhere.
func (m *Machine) own(device string) []netip.Prefix {
	return m.cfg.Balancer.OwnOn(m.links[device].Addresses)
}
