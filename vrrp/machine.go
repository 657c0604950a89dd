package vrrp

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// State is where the machine stands (RFC 9568 §6.4).
type State uint8

const (
	Initialize State = iota // stopped: no adverts are sent, those heard are ignored
	Backup
	Master
)

func (s State) String() string {
	switch s {
	case Initialize:
		return "initialize"
	case Backup:
		return "backup"
	case Master:
		return "master"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// MachineConfig holds what the election of one node needs to know of itself.
type MachineConfig struct {
	Version      Version       // zero: 3
	Priority     uint8         // effective priority, 1…254, or Owner
	Interval     time.Duration // own Advertisement_Interval, A
	Rank         netip.Addr    // breaks ties: the greater wins (RFC 9568 §6.4.3)
	Preempt      bool
	PreemptDelay time.Duration // counted from first hearing the lesser master
}

const (
	promoteGrace  = time.Second            // how long adverts of the node that handed over are ignored
	lastWords     = 50 * time.Millisecond  // how long adverts may wait in the sockets of both
	claimRepeat   = time.Second            // a Claim that got no answer is made again
	replyInterval = 10 * time.Millisecond  // at most one advert per this in answer to a lesser master
	comeRound     = 50 * time.Millisecond  // what a host that stood still takes until all of it runs again
	reannounceGap = 200 * time.Millisecond // at most one announcement per this in answer to a lesser master
)

// Machine elects: events and the time in, actions out. All links of a node
// share one. It reads no clock; Deadline says when it wants a Tick.
type Machine struct {
	cfg   MachineConfig
	state State
	hold  bool

	// Backup
	masterInterval time.Duration // learned from the master (RFC 9568 §6.1)
	down           time.Time     // Master_Down_Timer
	master         string        // speaker of the last advert that was obeyed
	masterPriority uint8
	masterUntil    time.Time // no other one that is not better is followed before
	rival          string    // another master that is heard and not followed
	rivalUntil     time.Time // as far as it goes on
	lesserSince    time.Time // since when a lesser master has been heard
	claimed        time.Time
	insist         bool
	discarded      time.Time // last advert of a lesser master that was not obeyed
	better         string    // the best of those heard that are not lesser
	betterPriority uint8
	betterUntil    time.Time // when it counts no longer

	// Master
	quiet       bool
	from        string // its adverts are ignored until fromUntil, or until they paused
	fromUntil   time.Time
	fromHeard   time.Time
	fromEvery   time.Duration // its interval
	yieldTo     string
	yieldUntil  time.Time
	replied     time.Time
	reannounced time.Time
	suspect     time.Time // listening until then after a long sleep
}

// NewMachine returns a machine in Initialize.
func NewMachine(cfg MachineConfig) *Machine {
	return &Machine{cfg: cfg, masterInterval: cfg.Interval}
}

// State tells the present state.
func (m *Machine) State() State { return m.state }

// Priority tells the effective priority.
func (m *Machine) Priority() uint8 { return m.cfg.Priority }

// Master names the speaker that is obeyed as master, "" if none is heard or
// this node is master itself.
func (m *Machine) Master() string {
	if m.state != Backup {
		return ""
	}
	return m.master
}

// Suspect tells whether a master is confirming its role after a long sleep.
func (m *Machine) Suspect() bool { return !m.suspect.IsZero() }

// Skew is Skew_Time for the learned interval.
func (m *Machine) Skew() time.Duration { return Skew(m.cfg.Version, m.cfg.Priority, m.masterInterval) }

// Skew is ((256 - priority) * A) / 256 (RFC 9568 §6.1); in version 2 A is a
// second there, whatever it is elsewhere (RFC 3768 §6.1).
func Skew(v Version, priority uint8, a time.Duration) time.Duration {
	if v == Version2 {
		a = time.Second
	}
	return time.Duration(256-int(priority)) * a / 256
}

// MasterDown is Master_Down_Interval, 3A+Skew (RFC 9568 §6.1).
func (m *Machine) MasterDown() time.Duration { return 3*m.masterInterval + m.Skew() }

// Deadline is when Tick is due; zero if nothing is pending.
func (m *Machine) Deadline() time.Time {
	switch m.state {
	case Backup:
		return m.down
	case Master:
		return m.suspect
	case Initialize:
	}
	return time.Time{}
}

// Handle takes one event at the time now and returns what is to be done, in order.
func (m *Machine) Handle(ev Event, now time.Time) []Action {
	switch ev := ev.(type) {
	case Start:
		if m.state != Initialize {
			return nil
		}
		m.masterInterval = m.cfg.Interval
		if m.cfg.Priority == Owner { // RFC 9568 §6.4.1
			return m.becomeMaster("started as the owner of the addresses", false)
		}
		return m.becomeBackup("started", now)
	case Stop:
		return m.stop(ev.Reason)
	case SetPriority:
		return m.setPriority(ev.Priority, now)
	case Configure:
		return m.configure(ev, now)
	case Hold:
		if m.hold != ev.On {
			m.hold = ev.On
			m.lesserSince = time.Time{}
		}
	case Tick:
		return m.tick(now)
	case Heard:
		switch m.state {
		case Backup:
			return m.heardInBackup(ev, now)
		case Master:
			return m.heardInMaster(ev, now)
		case Initialize:
		}
	case Promote:
		return m.promote(ev, now)
	case Confirm:
		if m.state == Master && m.quiet {
			m.quiet, m.fromHeard = false, now
			if until := now.Add(overlap(m.fromEvery)); until.Before(m.fromUntil) {
				m.fromUntil = until
			}
			return []Action{m.advertise()}
		}
	case Demote:
		if m.state == Master {
			out := append([]Action{Silence{}}, m.becomeBackup(ev.Reason, now)...)
			if until := now.Add(ev.Patience); m.down.Before(until) {
				m.down = until
			}
			return out
		}
	case Yield:
		if m.state == Master {
			m.yieldTo, m.yieldUntil = ev.To, ev.Until
			if ev.To == m.from { // handing back so soon: its adverts count again
				m.from = ""
			}
		}
	case Insist:
		m.insist = m.state == Backup
	case Wait:
		if m.state == Backup && m.down.Before(ev.Until) {
			m.down = ev.Until
		}
	case Lost:
		if m.state == Backup && m.master == ev.Speaker {
			if now.Before(m.rivalUntil) {
				m.master = ""
				return nil
			}
			return m.becomeMaster(ev.Reason, false)
		}
	case Overslept:
		return m.overslept(now)
	}
	return nil
}

func (m *Machine) advertise() Action {
	return Advertise{Priority: m.cfg.Priority, Interval: m.cfg.Interval}
}

// becomeBackup enters Backup and arms Master_Down_Timer (RFC 9568 §6.4.1, §6.4.3).
func (m *Machine) becomeBackup(reason string, now time.Time) []Action {
	m.state = Backup
	m.master, m.masterPriority, m.rivalUntil = "", 0, time.Time{}
	m.lesserSince, m.claimed, m.insist = time.Time{}, time.Time{}, false
	m.quiet, m.suspect, m.yieldTo = false, time.Time{}, ""
	m.down = now.Add(m.MasterDown())
	return []Action{Become{State: Backup, Reason: reason}}
}

// becomeMaster enters Master (RFC 9568 §6.4.2). The advert goes out first, so
// that no third node times out while addresses are being set; after a quiet
// promotion the addresses come first, the old master still advertises.
func (m *Machine) becomeMaster(reason string, quiet bool) []Action {
	m.state = Master
	m.quiet = quiet
	m.yieldTo, m.suspect = "", time.Time{}
	m.masterInterval = m.cfg.Interval
	if quiet {
		return []Action{Become{State: Master, Reason: reason}}
	}
	return []Action{m.advertise(), Become{State: Master, Reason: reason}}
}

func (m *Machine) stop(reason string) []Action {
	was := m.state
	m.state = Initialize
	m.suspect = time.Time{}
	switch was {
	case Master:
		return []Action{Silence{}, Farewell{}, Become{State: Initialize, Reason: reason}}
	case Backup:
		return []Action{Become{State: Initialize, Reason: reason}}
	case Initialize:
	}
	return nil
}

// setPriority never makes or unmakes an owner, nor says farewell: 0 and 255
// mean something else than a priority (RFC 9568 §5.2.4).
func (m *Machine) setPriority(p uint8, now time.Time) []Action {
	if p = min(max(p, 1), Owner-1); m.cfg.Priority == Owner || p == m.cfg.Priority {
		return nil
	}
	old := m.Skew()
	m.cfg.Priority = p
	switch m.state {
	case Master:
		if !m.quiet && !m.Suspect() {
			return []Action{m.advertise()}
		}
	case Backup:
		// Skew_Time follows the priority; what has passed stays passed.
		m.down = m.down.Add(m.Skew() - old)
		if m.down.Before(now) {
			m.down = now
		}
		m.lesserSince = time.Time{}
	case Initialize:
	}
	return nil
}

func (m *Machine) configure(c Configure, now time.Time) []Action {
	interval, version := m.cfg.Interval, m.cfg.Version
	m.cfg.Version = c.Version
	m.cfg.Interval, m.cfg.Rank, m.cfg.Preempt, m.cfg.PreemptDelay = c.Interval, c.Rank, c.Preempt, c.PreemptDelay
	if c.Interval == interval && c.Version == version {
		return nil
	}
	switch m.state {
	case Master:
		m.masterInterval = c.Interval
		if !m.quiet && !m.Suspect() {
			return []Action{m.advertise()}
		}
	case Backup:
		// The master tells its interval in each advert; a slower one is given
		// the time until then. In another version nobody is heard before all
		// speak it.
		if c.Interval > m.masterInterval || c.Version != version {
			m.masterInterval = max(c.Interval, m.masterInterval)
			m.down = now.Add(m.MasterDown())
		}
	case Initialize:
	}
	return nil
}

func (m *Machine) tick(now time.Time) []Action {
	switch m.state {
	case Backup:
		if now.Before(m.down) {
			return nil
		}
		reason := "no master was heard"
		switch {
		case m.master != "" && m.masterPriority == 0:
			reason = m.master + " left"
		case m.master != "" && m.masterPriority < m.cfg.Priority && now.Sub(m.discarded) < m.masterInterval*2:
			reason = fmt.Sprintf("preempted %s, which has the lower priority %d", m.master, m.masterPriority)
		case m.master != "":
			reason = m.master + " is not heard any more"
		}
		return m.becomeMaster(reason, false)
	case Master:
		if m.suspect.IsZero() || now.Before(m.suspect) {
			return nil
		}
		m.suspect = time.Time{}
		return []Action{m.advertise(), Reannounce{Reason: "nobody took over while this node slept"}}
	case Initialize:
	}
	return nil
}

// heardInBackup follows RFC 9568 §6.4.2.
func (m *Machine) heardInBackup(h Heard, now time.Time) []Action {
	if h.Priority == 0 {
		if h.Speaker == m.rival {
			m.rivalUntil = time.Time{}
		}
		if m.master != "" && m.master != h.Speaker {
			return nil // somebody left who was not the master
		}
		if now.Before(m.rivalUntil) {
			m.master = "" // the next advert of the other is followed
			return nil
		}
		// Not at once: several backups would jump together.
		m.master, m.masterPriority = h.Speaker, 0
		if down := now.Add(m.Skew()); down.Before(m.down) {
			m.down = down
		}
		return nil
	}
	lesser := h.Priority < m.cfg.Priority && m.cfg.Preempt && !m.hold
	until := now.Add(2 * cmp.Or(h.Interval, m.masterInterval)) // it is taken to go on
	if !m.follows(h, now) {
		m.rival, m.rivalUntil = h.Speaker, until
		if !lesser {
			m.notLesser(h, now)
			m.down = now.Add(m.MasterDown())
		}
		return nil
	}
	if h.Speaker != m.master {
		m.rival, m.rivalUntil = m.master, m.masterUntil
		m.lesserSince, m.claimed, m.insist = time.Time{}, time.Time{}, false
	}
	m.masterUntil = until
	if !lesser {
		m.notLesser(h, now)
		m.lesserSince, m.insist = time.Time{}, false
		m.obey(h, now)
		return nil
	}
	if m.lesserSince.IsZero() {
		m.lesserSince = now
	}
	if now.Sub(m.lesserSince) < m.cfg.PreemptDelay {
		m.obey(h, now)
		return nil
	}
	if m.insist || !h.Ours {
		m.master, m.masterPriority, m.discarded = h.Speaker, h.Priority, now
		return nil // discarded: Master_Down_Timer runs on
	}
	m.obey(h, now)
	if m.better != h.Speaker && now.Before(m.betterUntil) {
		return nil // a better master does not reach it, and would take the role from this node again
	}
	if m.claimed.IsZero() || now.Sub(m.claimed) >= claimRepeat {
		m.claimed = now
		return []Action{Claim{Master: h.Speaker}}
	}
	return nil
}

// follows tells whether the speaker of an advert is the master, of several that do
// not hear each other: the best, as long as it is heard. Else each advert would be
// another master's.
func (m *Machine) follows(h Heard, now time.Time) bool {
	return h.Speaker == m.master || m.master == "" || m.masterPriority == 0 || h.Priority > m.masterPriority || !now.Before(m.masterUntil)
}

// notLesser remembers the best of those that this node would not take the role
// from, also while another one is obeyed that does not hear it.
func (m *Machine) notLesser(h Heard, now time.Time) {
	if h.Priority < m.cfg.Priority {
		return
	}
	if h.Speaker == m.better || h.Priority >= m.betterPriority || !now.Before(m.betterUntil) {
		m.better, m.betterPriority, m.betterUntil = h.Speaker, h.Priority, now.Add(2*h.Interval)
	}
}

func (m *Machine) obey(h Heard, now time.Time) {
	m.master, m.masterPriority = h.Speaker, h.Priority
	if h.Interval > 0 {
		m.masterInterval = h.Interval
	}
	m.down = now.Add(m.MasterDown())
}

// heardInMaster follows RFC 9568 §6.4.3.
func (m *Machine) heardInMaster(h Heard, now time.Time) []Action {
	if h.Priority == 0 {
		if m.quiet || m.Suspect() {
			return nil
		}
		return []Action{m.advertise()}
	}
	if m.handsOver(h, now) {
		return nil
	}
	yields := m.yieldTo == h.Speaker && now.Before(m.yieldUntil)
	if yields || m.Suspect() || m.loses(h) {
		reason := fmt.Sprintf("%s is master with priority %d", h.Speaker, h.Priority)
		out := append([]Action{Silence{}}, m.becomeBackup(reason, now)...)
		m.notLesser(h, now)
		m.obey(h, now)
		return out
	}
	// A lesser master: answer at once (RFC 9568 §6.4.3) and set the ARP caches
	// right again, which it may have turned its way.
	var out []Action
	if !m.quiet && now.Sub(m.replied) >= replyInterval {
		m.replied = now
		out = append(out, m.advertise())
	}
	if now.Sub(m.reannounced) >= reannounceGap {
		m.reannounced = now
		out = append(out, Reannounce{Reason: fmt.Sprintf("%s advertised priority %d", h.Speaker, h.Priority)})
	}
	return out
}

// handsOver tells whether an advert is of the node that handed over to this one
// and has not stopped yet. Once it was silent, it is master anew.
func (m *Machine) handsOver(h Heard, now time.Time) bool {
	if m.from != h.Speaker || !now.Before(m.fromUntil) {
		return false
	}
	if !m.quiet && now.Sub(m.fromHeard) > 2*m.fromEvery {
		m.from = ""
		return false
	}
	m.fromHeard, m.fromEvery = now, h.Interval
	return true
}

// overlap is how long the node that handed over may need to hear that its
// successor serves: an advert that it missed, or the 150 ms that its loop may
// stand still (H), and what waits in the sockets.
func overlap(interval time.Duration) time.Duration {
	return max(3*interval, 150*time.Millisecond) + lastWords
}

func (m *Machine) loses(h Heard) bool {
	if h.Priority != m.cfg.Priority {
		return h.Priority > m.cfg.Priority
	}
	own := m.cfg.Rank
	if h.Against.IsValid() {
		own = h.Against
	}
	return h.Rank.Compare(own) > 0
}

func (m *Machine) promote(p Promote, now time.Time) []Action {
	if m.state != Backup {
		return nil
	}
	grace := promoteGrace
	if !p.Quiet { // it is silent by now: what still comes was on its way, or it is master anew
		grace = m.masterInterval + lastWords
	}
	m.from, m.fromUntil, m.fromHeard, m.fromEvery = p.From, now.Add(cmp.Or(p.For, grace)), now, m.masterInterval
	return m.becomeMaster(p.Reason, p.Quiet)
}

// listening is how long a master that slept listens for another one.
func listening(interval time.Duration) time.Duration {
	return interval + interval/4 + 10*time.Millisecond
}

// overslept makes a master listen before it acts again, and gives the master
// that a backup obeys the chance to be heard.
func (m *Machine) overslept(now time.Time) []Action {
	switch m.state {
	case Master:
		// Whoever took over in the meantime advertises every A.
		m.suspect, m.from = now.Add(listening(m.cfg.Interval)), "" // also the one that had just handed over
		return []Action{Silence{}}
	case Backup:
		// The master may have slept on the same host, and listens now.
		m.down = now.Add(max(m.MasterDown(), listening(m.masterInterval)+comeRound))
	case Initialize:
	}
	return nil
}
