package ha

import (
	"cmp"
	"net/netip"
	"time"

	"harouter/balancer"
)

// Node is one router of the cluster as the file names it.
type Node struct {
	Name     string
	Address  netip.Addr // first address: gossip, unicast adverts, breaks ties
	Priority uint8      // configured, 1…254
	// Via is the first IPv4 address where Address is none, by which a backup
	// without a way out goes through this node; zero: there is no such address.
	Via netip.Addr
}

// Config is what the machine needs to know; it never sees the file.
type Config struct {
	Cluster string
	Node    string // own name, one of Nodes
	Version string // of this program
	Hash    string // of the file's bytes
	Nodes   []Node // in the file's order

	Text        []byte // the file
	Generation  uint64 // how often the cluster agreed on a new file
	Maintenance bool   // at start: an operator keeps this node out
	// Switches, at start: what operators said of uplinks.
	Switches map[string]Switch
	Refused  string   // at start: hash of a file that was on trial and that nobody kept
	Crashes  int      // at start: lives within CrashWindow that ended without an Exit
	Will     [32]byte // random, another one at each start; zero: the guard says no word

	VRID  uint8            // of unicast adverts
	VRIDs map[string]uint8 // of those on links, by name; none: VRID
	// OneHolder: at no moment may two nodes hold the addresses, since both would
	// use one MAC.
	OneHolder    bool
	VRRPVersion  uint8
	Advertise    time.Duration // A
	Preempt      bool
	PreemptDelay time.Duration
	Foreign      []netip.Addr // routers that take part and are not harouter
	Hello        bool         // the nodes greet each other on each lan
	Check        CheckConfig

	Sync            bool          // flows are replicated
	SyncTimeout     time.Duration // how long a better node waits for its flow table before the alarm unsynced
	PreemptUnsynced bool          // and then claims the role all the same

	Balancer balancer.Config
	Probes   map[string]balancer.ProbeConfig // by uplink
	// Known are addresses that the other nodes told in an earlier life.
	Known map[string][]netip.Addr
}

// Lease is H of DESIGN.md §5: how long adverts repeat, and how long the guard
// waits, without a word of the deciding loop.
func Lease(advertise time.Duration) time.Duration {
	return max(advertise*5/2, 150*time.Millisecond)
}

// sleepLimit is how long this process may not run before its role is doubtful:
// from then on another node may have taken over, or the guard acted. It must
// not exceed Lease, after which the adverts have stopped.
func sleepLimit(advertise time.Duration) time.Duration {
	return max(advertise*5/2, 50*time.Millisecond)
}

// restLimit is how long the loop rests at most. It must be well below both
// limits, or a loop with nothing to do would think that it overslept.
func restLimit(advertise time.Duration) time.Duration {
	return min(Lease(advertise)/3, sleepLimit(advertise)/2)
}

const (
	aliveFor      = 1500 * time.Millisecond // a node not heard on any path for this long is not alive
	publishEvery  = time.Second             // measured values are told this often, changes at once
	handoffLimit  = time.Second             // a hand-over that takes longer is off
	gonePatience  = 500 * time.Millisecond  // for a master to give way to a successor that is ready, and that one to be heard
	forwardLimit  = 8 * time.Second         // a command given on another node
	lingerFor     = time.Second             // after a hand-over the old master goes on taking new flows until so long no packet came
	lingerMost    = 5 * time.Second         // and so long at most
	leaveWithin   = 7 * time.Second         // from the wish to leave to the end of that
	retryAfter    = 5 * time.Second         // a plan that could not be applied whole
	sweepAfter    = time.Second             // second deletion of a dead uplink's flows
	claimPatience = 3                       // unanswered claims before a node insists
	alarmHold     = 8 * time.Second         // an alarm that counts events lasts this long after the last

	carrierWait = 75 * time.Millisecond // for the proof that an uplink still works elsewhere
	askAfter    = 10 * time.Millisecond // for the ports of equipment that goes down one after the other
	proofSlack  = 30 * time.Millisecond // of that for all but the round trip of a probe
	sureAfter   = time.Second           // a node that is fitter for this long is fitter
	moveAgain   = 5 * time.Minute       // an uplink that moved the role does not move it again before
)

// vrid is the number of our virtual router on a lan, "" unicast.
func (c *Config) vrid(lan string) uint8 { return cmp.Or(c.VRIDs[lan], c.VRID) }

func (c *Config) node(name string) (Node, bool) {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}
