package ha

import (
	"net/netip"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

// Event is an input of the Machine: one of the types below.
type Event interface{ haEvent() }

// Link is the state of one device.
type Link struct {
	Present bool
	// Index is the kernel's number of the device, 0 if it is missing. Another
	// one under the same name is another device, and has lost all routes.
	Index     int
	Point     bool // a line between two points
	Carrier   bool
	Addresses []netip.Prefix
}

type (
	// Tick says that Deadline may have passed.
	Tick struct{}
	// Overslept: the process did not run for longer than it may.
	Overslept struct{ For time.Duration }
	// Links reports all devices of the file, by device name, and the gateways
	// found for uplinks that look for theirs.
	Links struct {
		Devices  map[string]Link
		Gateways map[string]netip.Addr // by uplink
	}
	// Found: virtual addresses of a former self are on the devices at start.
	Found struct{ Addresses int }
	// Advert is a well-formed advert from a socket.
	Advert struct {
		Link   string // "" unicast
		Source netip.Addr
		Advert vrrp.Advert
	}
	// Dropped: a socket refused a packet, for a named reason.
	Dropped struct {
		Part   string // vrrp, gossip, sync
		Reason string
		Source netip.Addr // zero if not known
	}
	// PeerTold is a node's state, from gossip or from a greeting on a lan.
	PeerTold struct {
		State PeerState
		Lan   string // "" gossip
	}
	// PeerSeen is a sign of life of a node (membership, state sync, a greeting).
	PeerSeen struct {
		Node string
		Lan  string // on which it was greeted; "" anywhere else
	}
	// PeerLost: membership declared the node dead or it left.
	PeerLost struct{ Node string }
	// Told is a direct message of another node.
	Told struct {
		From    string
		Message Message
		Lan     string // on which it came; "" gossip
	}
	// Hosts names hosts that this node spoke with lately on a lan, the last first.
	Hosts struct {
		Lan  string
		Seen []netip.Addr
	}
	// Asked: the hosts of a Look were asked once more.
	Asked struct{ Lan string }
	// Reached: one of them answered.
	Reached struct{ Lan string }
	// Unanswered: the machine of the node of a Pulse answered nothing on any way.
	Unanswered struct {
		Node      string
		At        time.Time     // when that was found
		For       time.Duration // since the first question that was not answered
		Rounds    int           // of questions on all ways that had the time to be answered
		Witnessed int           // of these: a third party answered on a device where the node had
		Devices   int           // on which it had answered until then
		Direct    bool          // its address is one of these ways
	}
	// Recovered: it answers again.
	Recovered struct {
		Node  string
		After time.Duration // since the first question that was not answered
	}
	// Probed is one round of probes on one uplink.
	Probed struct{ Round balancer.Round }
	// CheckRan is one run of the command of Config.Check.
	CheckRan struct {
		Command []string
		Failed  string // why it was bad, "" it was good
	}
	// Loads tells what passed over the uplinks since the event before, by name.
	Loads struct{ Uplinks map[string]balancer.Load }
	// SwitchesKept: the KeepSwitches with this ID is done, or Err.
	SwitchesKept struct {
		ID  uint64
		Err error
	}
	// Switched: the addresses step Seq is done.
	Switched struct {
		Seq uint64
		Err error
	}
	// Applied: the plan step Seq is done.
	Applied struct {
		Seq uint64
		Err error
	}
	// Synced tells how far the flow table agrees with that of another node,
	// whenever that changes; off until then.
	Synced struct {
		Node  string
		State SyncState
	}
	// Flushed: the node of the FlushFlows with this ID has all flows, or Err.
	Flushed struct {
		ID  uint64
		Err error
	}
	// Forwarded: packets went through this node since it was looked at last.
	Forwarded struct{}
	// Fenced: the guard took the addresses away while this process hung.
	Fenced struct{}
	// Checked is a file that was read, or made, and checked for this node.
	Checked struct {
		ID   uint64
		Text []byte
		Hash string
		Err  string // a sentence; "" it is fit for this node
	}
	// Rested: what the Rest with this ID wants is kept over a restart, or Err.
	Rested struct {
		ID  uint64
		Err error
	}
	// FileSeen tells what stands in the configuration file on this node's disk.
	FileSeen struct {
		Hash string // "" there is none
		Err  string // why it is no file that this node could run
	}
	// Reconfigured: Config took effect in all the edges. With Err nothing did.
	Reconfigured struct {
		Config Config
		Err    error
	}
	// Repaired: something that another program took away was put back.
	Repaired struct {
		Kind string // address, rule, route, table, sysctl
		What string
	}
	// Condition is a cause of an alarm that an edge sees begin and end.
	Condition struct {
		Code, Subject, Text string
		On                  bool
	}
	// Command is an operator's; the answer goes out as an Answer with its ID.
	Command struct {
		ID   uint64
		Verb Verb
		Args Args
	}
)

// Verb is what an operator asks the machine to do.
type Verb uint8

const (
	VerbFailover Verb = iota + 1 // hand over to another node and hold it there
	VerbAuto                     // end such a hold
	VerbStop                     // leave; with no live peer addresses stay
	VerbClean                    // leave and take everything of ours away
	VerbReload                   // the file was changed: agree on it with all nodes
	VerbRest                     // maintenance on
	VerbServe                    // maintenance off
	VerbAddNode                  // put one more node into the file
	VerbForget                   // take this node out of the file
	VerbEnable                   // an uplink, on all nodes
	VerbDisable
)

// Args belong to some of the verbs.
type Args struct {
	To    string        // failover: target node, "" any
	Trial time.Duration // reload: back to what was after this, unless kept
	Add   *Joiner       // add-node

	Uplink string // enable, disable
}

// Joiner is a node that is to be added to the file.
type Joiner struct {
	Name      string
	Addresses []netip.Addr
	Priority  uint8 // 0: chosen below the others'
	Devices   map[string]string
}

func (Tick) haEvent()         {}
func (Overslept) haEvent()    {}
func (Links) haEvent()        {}
func (Found) haEvent()        {}
func (Advert) haEvent()       {}
func (Dropped) haEvent()      {}
func (PeerTold) haEvent()     {}
func (PeerSeen) haEvent()     {}
func (PeerLost) haEvent()     {}
func (Told) haEvent()         {}
func (Hosts) haEvent()        {}
func (Asked) haEvent()        {}
func (Reached) haEvent()      {}
func (Unanswered) haEvent()   {}
func (Recovered) haEvent()    {}
func (Probed) haEvent()       {}
func (CheckRan) haEvent()     {}
func (Loads) haEvent()        {}
func (SwitchesKept) haEvent() {}
func (Switched) haEvent()     {}
func (Applied) haEvent()      {}
func (Synced) haEvent()       {}
func (Flushed) haEvent()      {}
func (Forwarded) haEvent()    {}
func (Fenced) haEvent()       {}
func (Checked) haEvent()      {}
func (Rested) haEvent()       {}
func (FileSeen) haEvent()     {}
func (Reconfigured) haEvent() {}
func (Repaired) haEvent()     {}
func (Condition) haEvent()    {}
func (Command) haEvent()      {}
