package vrrp

import (
	"net/netip"
	"time"
)

// Event is an input of the Machine: one of the types below.
type Event interface{ vrrpEvent() }

type (
	// Start enters Backup and listens for 3A+Skew.
	Start struct{}
	// Stop leaves the election; a master says farewell with priority 0.
	Stop struct{ Reason string }
	// Tick says that Deadline may have passed.
	Tick struct{}
	// Heard is a valid advert of another speaker.
	Heard struct {
		Speaker  string     // node name, or the address of a foreign router
		Rank     netip.Addr // what ties are decided by
		Against  netip.Addr // own address that Rank is compared with; zero: MachineConfig.Rank
		Priority uint8
		Interval time.Duration
		Ours     bool // the speaker is a node that can be asked to hand over
	}
	// SetPriority changes the effective priority, within 1…254; that of an owner
	// stays.
	SetPriority struct{ Priority uint8 }
	// Configure replaces the settings, the effective priority aside. The state
	// stays; a master tells a changed interval at once.
	Configure struct {
		Version      Version // zero: 3
		Interval     time.Duration
		Rank         netip.Addr
		Preempt      bool
		PreemptDelay time.Duration
	}
	// Hold forbids, or allows again, to preempt the master that is heard: an
	// operator put it there.
	Hold struct{ On bool }
	// Promote makes a backup master at the word of the present master.
	Promote struct {
		From   string        // the present master; its adverts are ignored for a while
		Quiet  bool          // no advert before Confirm: addresses first (hand-over)
		For    time.Duration // for so long; 0: a second, A and 50 ms if not quiet
		Reason string
	}
	// Confirm ends the quiet of a Promote: the addresses are in place.
	Confirm struct{}
	// Demote makes a master a backup without a farewell: a successor is in place,
	// or about to be, and has Patience at least to be heard.
	Demote struct {
		Reason   string
		Patience time.Duration
	}
	// Yield prepares a master to give way to one speaker even if that is lesser.
	Yield struct {
		To    string
		Until time.Time
	}
	// Insist ends the politeness towards a lesser master that was asked to hand
	// over and does not: its adverts no longer keep this node down.
	Insist struct{}
	// Wait puts Master_Down_Timer off until then, if it would run out before: a
	// better backup is known to live, and goes first.
	Wait struct{ Until time.Time }
	// Lost says that the master that is obeyed is dead beyond doubt: nothing need
	// be waited for.
	Lost struct{ Speaker, Reason string }
	// Overslept says that this process did not run for longer than it may: the
	// role is to be confirmed by listening before anything is done with it.
	Overslept struct{}
)

func (Start) vrrpEvent()       {}
func (Stop) vrrpEvent()        {}
func (Tick) vrrpEvent()        {}
func (Heard) vrrpEvent()       {}
func (SetPriority) vrrpEvent() {}
func (Configure) vrrpEvent()   {}
func (Hold) vrrpEvent()        {}
func (Promote) vrrpEvent()     {}
func (Confirm) vrrpEvent()     {}
func (Demote) vrrpEvent()      {}
func (Yield) vrrpEvent()       {}
func (Insist) vrrpEvent()      {}
func (Wait) vrrpEvent()        {}
func (Lost) vrrpEvent()        {}
func (Overslept) vrrpEvent()   {}

// Action is an output of the Machine: one of the types below. Actions are to
// be done in the order in which they are returned.
type Action interface{ vrrpAction() }

type (
	// Become tells the new state. Entering Master means: addresses on, announced.
	Become struct {
		State  State
		Reason string
	}
	// Advertise: send on every path at once and repeat each Interval.
	Advertise struct {
		Priority uint8
		Interval time.Duration
	}
	// Silence: stop repeating.
	Silence struct{}
	// Farewell: one advert of priority 0 on every path (RFC 9568 §6.4.3).
	Farewell struct{}
	// Reannounce: gratuitous ARP again, since another master was heard.
	Reannounce struct{ Reason string }
	// Claim: ask the lesser master to hand over; PreemptDelay is over.
	Claim struct{ Master string }
)

func (Become) vrrpAction()     {}
func (Advertise) vrrpAction()  {}
func (Silence) vrrpAction()    {}
func (Farewell) vrrpAction()   {}
func (Reannounce) vrrpAction() {}
func (Claim) vrrpAction()      {}
