package config

import (
	"net/netip"
	"time"

	"harouter/balancer"
)

// Policy says which traffic goes over which uplinks, and how.
type Policy struct {
	Name          string
	Match         Match
	Method        Method
	Uplinks       []string       // none: all, in the order of the file
	Weights       map[string]int // by uplink, instead of its own
	Bypass        bool           // not balanced: the main table decides
	Persistence   Persistence
	Overflow      Overflow
	LatencyMargin LatencyMargin
	Race          Race
	WhenNone      WhenNone
	OnRecovery    OnRecovery
}

// Method is how new flows are spread.
type Method string

// The eight methods.
const (
	MethodWeighted        Method = "weighted"
	MethodPriority        Method = "priority"
	MethodOverflow        Method = "overflow"
	MethodPersistence     Method = "persistence"
	MethodLeastUsed       Method = "least-used"
	MethodLowestLatency   Method = "lowest-latency"
	MethodEnforced        Method = "enforced"
	MethodFastestResponse Method = "fastest-response"
)

// Match is true for what has, for each key that is set, one of its values, or any
// where all are behind a not, and none of those behind a not. Without a key it is
// true for everything.
type Match struct {
	Lan              []Term[string]
	Source           []Term[Network]
	Destination      []Term[Network]
	Protocol         []Term[uint8]
	SourcePorts      []Term[PortRange]
	DestinationPorts []Term[PortRange]
	DSCP             []Term[uint8]
	MAC              []Term[MAC]
	Time             []Term[balancer.Hours] // in the time zone of the node
	Router           bool                   // the router's own traffic
}

// Term is a value, or with Not everything but it.
type Term[T any] struct {
	Not   bool
	Value T
}

// MAC is an Ethernet address.
type MAC [6]byte

// Network is a prefix, or the file beside the config that lists prefixes.
type Network struct {
	Prefix netip.Prefix
	File   string
	Listed []netip.Prefix // what stands in the file
}

// PortRange is from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Persistence keeps what belongs together on one uplink.
type Persistence struct {
	By      PersistenceKey
	Learned bool
	Timeout time.Duration
}

// PersistenceKey is what must be equal.
type PersistenceKey string

// The keys of persistence.
const (
	BySourceDestination PersistenceKey = "source-destination"
	BySource            PersistenceKey = "source"
	ByDestination       PersistenceKey = "destination"
)

// Overflow is the load at which the next uplink is used.
type Overflow struct {
	Enter, Leave Fraction
	Hold         time.Duration
}

// LatencyMargin is by how much, and how long, another uplink must be faster.
type LatencyMargin struct {
	Percent int
	Time    time.Duration
	Rounds  int
}

// Race is how the fastest response is found.
type Race string

// RaceLearn races in the background, RaceHold holds the first packet.
const (
	RaceLearn Race = "learn"
	RaceHold  Race = "hold"
)

// WhenNone is what happens when no uplink of a policy is usable.
type WhenNone string

// Try the next policy, drop, or take any uplink.
const (
	NoneNext WhenNone = "next"
	NoneDrop WhenNone = "drop"
	NoneAny  WhenNone = "any"
)

// OnRecovery is what happens to flows when a better uplink returns.
type OnRecovery string

// Flows stay, or move.
const (
	RecoveryKeep OnRecovery = "keep"
	RecoveryMove OnRecovery = "move"
)
