package ha

import (
	"net/netip"
	"time"

	"harouter/balancer"
)

// Action is an output of the Machine: one of the types below. Actions are
// started in the order in which they are returned; those that touch addresses,
// the owner of the flows or the takeover switch are also finished in that order.
type Action interface{ haAction() }

type (
	// Advertise on every path at once and then each Interval.
	Advertise struct {
		Priority uint8
		Interval time.Duration
	}
	// Silence stops the repetition.
	Silence struct{}
	// Once sends one advert on every path, after all that was begun before it:
	// priority 0 is the farewell.
	Once struct{ Priority uint8 }
	// Activate sets the takeover switch of the kernel's rules; Grace begins
	// the three seconds in which TCP in mid-stream is dropped.
	Activate struct{ Active, Grace bool }
	// AddAddresses puts all virtual addresses on and announces them; answered
	// by Switched.
	AddAddresses struct{ Seq uint64 }
	// Ready is answered by Switched when all that was begun before it is done.
	Ready struct{ Seq uint64 }
	// RemoveAddresses takes them away; answered by Switched.
	RemoveAddresses struct{ Seq uint64 }
	// Announce repeats the announcement of what is held.
	Announce struct{}
	// ApplyPlan makes the kernel agree with Plan; answered by Applied. Only the
	// newest counts if several wait.
	ApplyPlan struct {
		Seq  uint64
		Plan balancer.Plan
	}
	// DeleteFlows ends all flows of an uplink, which may be in the file no more.
	DeleteFlows struct {
		Uplink string
		ID     int
		Mask   uint32 // balance.mark_mask when they were made
		Tell   bool   // the hosts of TCP flows, since their packets come to this node
	}
	// MoveFlows ends the flows that are not where their policy sends them now, so
	// that they begin anew there.
	MoveFlows struct {
		Strays balancer.Strays
		Mask   uint32
	}
	// DropAddresses ends the flows that have an address of this node which it lost.
	DropAddresses struct {
		Addresses []netip.Addr
		Tell      bool
	}
	// TakeFlows makes this node the owner of all flows; what follows waits until
	// those that it was told are in the kernel, one second at most.
	TakeFlows struct{ Term uint64 }
	// YieldFlows: another node is master, in this term or a later one.
	YieldFlows struct{ Term uint64 }
	// FlushFlows has a node confirm that it has all flows; answered by Flushed.
	FlushFlows struct {
		ID uint64
		To string
	}
	// WatchForwarding wants to hear of packets that are forwarded, as Forwarded.
	WatchForwarding struct{ For time.Duration }
	// Source tells the prober from where, and to which gateway, to probe.
	Source struct {
		Uplink  string
		Address netip.Addr // zero: no own address
		Gateway netip.Addr // zero: not known
		Now     bool       // probe at once
	}
	// Publish tells the other nodes this node's state.
	Publish struct{ State PeerState }
	// Send is a direct message to one node.
	Send struct {
		To      string
		Message Message
		Wide    bool // on every lan as well, not over gossip alone
	}
	// SendTo is a direct message to whoever has an address, the key, and this node in
	// its file.
	SendTo struct {
		To      netip.Addr
		Message Message
	}
	// Look asks hosts of a lan by ARP, again and again, whether they are reached;
	// each answer is a Reached. No hosts: no more.
	Look struct {
		Lan    string
		Hosts  []netip.Addr
		Source netip.Addr // own address in their network, zero: none
	}
	// Pulse asks again and again whether the machine of a node answers ARP, or ND
	// over IPv6, on Ways, the first being its address, and Others if it does not;
	// answered by Unanswered and Recovered. No node: nobody is asked.
	Pulse struct {
		Node   string
		Ways   []Way
		Others []Way
	}
	// Remember keeps the other nodes' addresses for the next start.
	Remember struct{ Addresses map[string][]netip.Addr }
	// Guard tells the guard what to do should this process die.
	Guard struct {
		Holding   bool
		PeerAlive bool
		Senders   []netip.Addr
		Heir      string // who is to be told first, "" nobody
		Will      []byte // and what: KindFenced; empty: nothing
	}
	// ReadFile reads and checks this node's configuration file, or Text, or the
	// present file with a node added or removed; answered by Checked.
	ReadFile struct {
		ID     uint64
		Text   []byte
		Add    *Joiner
		Remove string
		Cold   bool // all nodes have just started: what connections hang on may change too
	}
	// Adopt makes a file that was checked the one that runs; answered by
	// Reconfigured.
	Adopt struct {
		Text       []byte
		Generation uint64
		Trial      bool   // not to be kept over a restart
		Replace    string // the file on disk is overwritten if it has this hash; "" never
	}
	// Rest keeps over a restart whether this node is in maintenance; answered by
	// Rested.
	Rest struct {
		ID uint64
		On bool
	}
	// KeepSwitches keeps over a restart which uplinks are disabled by hand; with
	// an ID it is answered by SwitchesKept.
	KeepSwitches struct {
		ID       uint64
		Switches map[string]Switch
	}
	// Answer ends an operator's command.
	Answer struct {
		ID    uint64
		Error string // "" done
	}
	// Record is a line of the event log.
	Record struct {
		Kind, Subject, From, To, Reason string
	}
	// Exit ends the daemon.
	Exit struct {
		Keep  bool // addresses stay: the guard goes on listening
		Clean bool // everything of ours is to be removed
	}
)

func (Advertise) haAction()       {}
func (Silence) haAction()         {}
func (Once) haAction()            {}
func (Activate) haAction()        {}
func (AddAddresses) haAction()    {}
func (Ready) haAction()           {}
func (RemoveAddresses) haAction() {}
func (Announce) haAction()        {}
func (ApplyPlan) haAction()       {}
func (DeleteFlows) haAction()     {}
func (MoveFlows) haAction()       {}
func (DropAddresses) haAction()   {}
func (TakeFlows) haAction()       {}
func (YieldFlows) haAction()      {}
func (FlushFlows) haAction()      {}
func (WatchForwarding) haAction() {}
func (Source) haAction()          {}
func (Publish) haAction()         {}
func (Send) haAction()            {}
func (SendTo) haAction()          {}
func (Look) haAction()            {}
func (Pulse) haAction()           {}
func (Remember) haAction()        {}
func (Guard) haAction()           {}
func (ReadFile) haAction()        {}
func (Adopt) haAction()           {}
func (Rest) haAction()            {}
func (KeepSwitches) haAction()    {}
func (Answer) haAction()          {}
func (Record) haAction()          {}
func (Exit) haAction()            {}
