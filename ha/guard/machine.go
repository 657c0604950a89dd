package guard

import (
	"fmt"
	"time"
)

const (
	// longestHang keeps nonsense in a State from overflowing a deadline; the
	// protocols' own limit is about ten minutes.
	longestHang = time.Hour
	// looks is how often the guard looks at the heartbeat within Hang, while none
	// comes. After one it may rest for restLooks of that: two are left then to
	// tell a daemon that hangs from a machine that stood still.
	looks     = 5
	restLooks = 3
)

// phase is where the guard stands.
type phase uint8

const (
	watching phase = iota // the daemon lives
	alone                 // it does not, nor does a peer: addresses stay, adverts are listened for
	fencing               // addresses are being taken away
	fenced                // they are, and the daemon hangs
	over                  // the guard ends
)

func (p phase) String() string {
	switch p {
	case watching:
		return "watching"
	case alone:
		return "alone"
	case fencing:
		return "fencing"
	case fenced:
		return "fenced"
	case over:
		return "over"
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// machine decides. It is pure: events and a clock reading (CLOCK_MONOTONIC) go
// in, actions come out, deadline says when it wants a tick.
//
//	           hang, a peer lives              all taken away, daemon hangs
//	watching ───────────────────────► fencing ──────────────────────────────► fenced
//	  │  ▲     death, a peer lives       ▲  └─► over, if the daemon is dead      │
//	  │  └───────────────────────────────┼─── the daemon sends a State ──────────┘
//	  │ hang or death, no peer           │ first advert
//	  └───────────────────────────────► alone
//	     ◄─── a hanging daemon beats ───┘  └─► over, when a new daemon takes over
//
// Death is told twice: dying, at once, begins the fence, and gone, when no thread
// of the daemon is left, ends it.
type machine struct {
	phase    phase
	state    State
	gone     bool // the daemon is dead or has left; it will not come back here
	dying    bool // it has been killed, but one of its threads may still be adding an address
	again    bool // it was not gone when the fence began: take away once more
	finish   bool // SIGTERM came: do not stay behind alone
	asked    bool // a takeover waits for the end of the fence, or of the daemon
	returned bool // the daemon sent a State while it was being fenced

	lastBeat time.Duration
	silentAt time.Duration // the daemon hangs if no beat comes until then
	look     time.Duration // when the guard wants to look again

	fence fence
}

func (m *machine) step(now time.Duration, ev event) []action {
	if m.phase == over {
		return nil
	}
	switch ev := ev.(type) {
	case gotState:
		return m.onState(now, ev.State)
	case beat:
		return m.onBeat(now, ev.At)
	case dying:
		return m.onDying(now)
	case gone:
		return m.onGone(now)
	case retire:
		m.gone = true
		if m.phase == fencing {
			return nil // half a fence is worse than a whole one
		}
		return m.end(nil)
	case release:
		return m.onRelease()
	case heard:
		if m.phase != alone || !m.state.valid(ev.Heard) {
			return nil
		}
		return m.onOther(now)
	case takeOver:
		return m.onTakeOver()
	case told:
		m.finish = true
		if m.phase == alone && m.gone {
			return m.end(nil)
		}
		return nil
	case removed:
		m.fence.removing = false
		as := m.onRemoved(now, ev.Err)
		return append(as, m.fenceDone(now)...)
	case sent:
		m.fence.sending = max(m.fence.sending-1, 0)
		return m.fenceDone(now)
	case tick:
		return m.onTick(now)
	}
	return nil
}

// deadline says when the machine wants a tick, if at all.
func (m *machine) deadline() (time.Duration, bool) {
	switch m.phase {
	case watching:
		if !m.timed() {
			return 0, false
		}
		return min(m.look, m.silentAt), true
	case alone: // a beat of a hanging daemon wakes nobody
		return m.look, !m.gone
	case fencing:
		return m.fence.deadline()
	}
	return 0, false
}

// timed reports whether a hang would matter: a backup has nothing to lose.
func (m *machine) timed() bool { return m.state.Holding && m.state.Hang > 0 }

func (m *machine) onState(now time.Duration, s State) []action {
	if m.gone {
		return nil // it left; what is still on the way no longer counts
	}
	s.Hang = min(s.Hang, longestHang)
	m.state = s
	m.silentAt, m.look = now+s.Hang, now+s.Hang/looks
	switch m.phase {
	case fencing:
		m.returned = true
	case fenced:
		m.phase = watching
	case alone:
		m.phase = watching
		return []action{unlisten{}}
	}
	return nil
}

func (m *machine) onBeat(now, at time.Duration) []action {
	at = min(at, now)
	if at <= m.lastBeat {
		return nil
	}
	m.lastBeat = at
	m.silentAt = max(m.silentAt, at+m.state.Hang)
	if m.phase == alone && !m.gone { // the hanging daemon is back, nobody took its place
		m.phase = watching
		m.look = now + m.state.Hang/looks
		return []action{unlisten{}}
	}
	return nil
}

func (m *machine) onGone(now time.Duration) []action {
	if m.gone {
		return nil // after a release
	}
	m.gone = true
	switch m.phase {
	case watching:
		return m.lost(now)
	case fenced:
		if m.dying {
			return m.take(now, farewell{})
		}
		return m.end(nil)
	case fencing: // ends by itself
		m.again = m.dying
	case alone:
		if m.finish || m.asked {
			return m.end(nil)
		}
	}
	return nil
}

// onDying gains the time until onGone for the fence; nothing else is urgent.
func (m *machine) onDying(now time.Duration) []action {
	if m.gone || m.dying {
		return nil
	}
	m.dying = true
	if m.phase == watching && m.state.Holding && m.state.PeerAlive {
		return m.take(now, farewell{m.state.Words, m.state.Farewell})
	}
	return nil
}

// lost is the daemon's death or hang.
func (m *machine) lost(now time.Duration) []action {
	switch {
	case !m.state.Holding: // a hang is not timed then
		return m.end(nil)
	case !m.state.PeerAlive:
		return m.stay()
	}
	as := m.take(now, farewell{m.state.Words, m.state.Farewell})
	if !m.gone && !m.dying {
		as = append(as, tellFence{})
	}
	return as
}

// stay leaves the addresses where they are and listens. A router that is not ours
// is told not to wait: its first advert takes them away, and if there is none
// nothing changes.
func (m *machine) stay() []action {
	if m.gone && (m.finish || m.asked) {
		return m.end(nil)
	}
	m.phase = alone
	as := []action{listen{State: m.state}}
	if m.state.Foreign && len(m.state.Farewell) > 0 {
		m.fence.sending++
		as = append(as, send{farewell{Frames: m.state.Farewell}})
	}
	return as
}

// onOther: another node is master. No farewell then: the successor needs no
// hint, and a third node that is its backup would read our priority 0 as a
// reason to take over from it.
func (m *machine) onOther(now time.Duration) []action {
	as := append(m.take(now, farewell{}), unlisten{})
	if !m.gone {
		as = append(as, tellFence{})
	}
	return as
}

func (m *machine) onRelease() []action {
	m.gone = true
	as := []action{tellLeft{}}
	switch {
	case m.phase == watching && m.state.Holding:
		return append(as, m.stay()...)
	case m.phase == watching, m.phase == fenced, m.phase == alone && m.finish:
		return append(as, m.end(nil)...)
	}
	return as // alone goes on listening, fencing ends by itself
}

func (m *machine) onTakeOver() []action {
	switch {
	case !m.gone && !m.dying:
		return []action{refuse{}}
	case !m.gone || m.phase == fencing:
		m.asked = true
		return nil
	}
	m.asked = true
	return m.end(nil)
}

func (m *machine) onTick(now time.Duration) []action {
	if d, ok := m.deadline(); !ok || now < d {
		return nil
	}
	switch m.phase {
	case watching:
		return m.onLook(now)
	case alone:
		m.look = now + m.state.Hang/looks
	case fencing:
		return m.onFenceTime(now)
	}
	return nil
}

// onLook decides about a hang. Only time in which the guard itself ran counts:
// when it overslept, the whole machine stood still (a frozen VM) and the
// daemon could not beat either.
func (m *machine) onLook(now time.Duration) []action {
	late := now - min(m.look, m.silentAt)
	switch {
	case late > m.state.Hang/2:
		m.silentAt = now + m.state.Hang
	case late > m.state.Hang/looks:
		m.silentAt += late
	}
	m.look = max(now+m.state.Hang/looks, m.lastBeat+m.state.Hang/looks*restLooks)
	if now < m.silentAt {
		return nil
	}
	return m.lost(now)
}

// end is the guard's last step.
func (m *machine) end(problem error) []action {
	var as []action
	if m.phase == alone {
		as = append(as, unlisten{})
	}
	m.phase = over
	if m.asked {
		as = append(as, answer{State: m.state})
	}
	return append(as, exit{Problem: problem})
}
