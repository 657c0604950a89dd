package balancer

import (
	"net/netip"
	"slices"
	"time"
)

// Uplink is an ISP line as the file describes it.
type Uplink struct {
	Name    string
	ID      int // 1…63: mark and table follow from it
	Device  string
	Gateway netip.Addr     // zero: found out, or none (point-to-point)
	Virtual []netip.Prefix // addresses of the cluster there; none: the device's own are used
	// MACDevice is the device with the virtual MAC, which carries them; "" Device
	// does. It is up only while this node holds them.
	MACDevice string
	MAC       string // of MACDevice
	// MACDevice6 is the like for the addresses of IPv6.
	MACDevice6, MAC6 string

	Weight  int  // 0…255
	Tier    int  // 1…16, the lowest that is usable counts
	Metered bool // its traffic costs: no race runs over it
	// Speed is what the line can carry, 0 where that is not known.
	Speed Load
}

// Lan is a network whose traffic is balanced.
type Lan struct {
	Name    string
	Device  string
	Virtual []netip.Prefix
	// These are as those of an uplink.
	MACDevice, MAC   string
	MACDevice6, MAC6 string
}

// devices are those that packets of a link may come from, and leave by.
func (l Lan) devices() []string { return devices(l.Device, l.MACDevice, l.MACDevice6) }

// devices are as those of a lan.
func (u Uplink) devices() []string { return devices(u.Device, u.MACDevice, u.MACDevice6) }

func devices(names ...string) []string {
	return slices.DeleteFunc(names, func(d string) bool { return d == "" })
}

// Policy says which uplinks get new flows, and how; the first that matches does.
// The last one is "default", which takes everything, the nodes' own traffic too.
type Policy struct {
	Name  string
	Match Match
	// Router: it is for the nodes' own traffic, and for no other.
	Router bool
	// Hours in which it holds, none: always; and in which it does not.
	Hours, NotHours []Hours
	Method          Method
	Uplinks         []string       // none: all, in the file's order
	Weights         map[string]int // instead of the uplinks' own
	Bypass          bool           // not balanced and not translated: the main table leads
	WhenNone        WhenNone
	Persistence     PersistenceKey
	Learned         time.Duration // how long a place that Persistence found is kept, 0: by hash alone; or a winner of FastestResponse
	Hold            bool          // FastestResponse: the first packet waits for the race
	// Move: flows on an uplink that has no share any more are ended once a better
	// one is back.
	Move bool

	Overflow OverflowLimits
	Margin   LatencyMargin
}

// OverflowLimits say when the next uplink is used: from Enter on, 0…1 of the
// speed in either direction, until the load was below Leave for Hold.
type OverflowLimits struct {
	Enter, Leave float64
	Hold         time.Duration
}

// LatencyMargin is by how much, in percent and in time, another uplink must be
// quicker, and in how many of its probe rounds in a row.
type LatencyMargin struct {
	Percent int
	Time    time.Duration
	Rounds  int
}

// WhenNone is what happens to traffic of a policy none of whose uplinks is usable.
type WhenNone uint8

// The next policy that matches takes it, nobody does, or any uplink. Behind the
// last policy there is no next one: it keeps its uplinks (DESIGN.md §5 row 9).
const (
	NoneNext WhenNone = iota
	NoneDrop
	NoneAny
)

func (w WhenNone) String() string { return [...]string{"next", "drop", "any"}[w] }

// PersistenceKey is what must be equal for flows to take the same uplink.
type PersistenceKey uint8

// The keys of Persistence.
const (
	BySourceDestination PersistenceKey = iota
	BySource
	ByDestination
)

func (k PersistenceKey) String() string {
	return [...]string{"source-destination", "source", "destination"}[k]
}

// Shares are weights that were measured, by policy and uplink: where a policy
// has an entry they stand for those of the file and for tiers. They reach all
// nodes by the master's word, so that all have the same slots.
type Shares map[string]map[string]float64

// Config is the file's part of a Plan.
type Config struct {
	Uplinks      []Uplink
	Lans         []Lan
	Policies     []Policy
	Networks     []Network // reached another way than over the uplinks
	Forwards     []Forward
	Firewall     Firewall
	ClampMSS     bool   // the segment size of TCP is fitted to the way over an uplink
	MarkMask     uint32 // bits of the packet mark that are ours, one run
	TableBase    int    // table of the node's own traffic; TableBase+id of each uplink
	RulePriority int    // rules from here to +999
	Nodes        []netip.Addr
	// NoAccept: what is sent to a virtual address itself is dropped, unless this
	// node began it (Accept_Mode of RFC 9568 §6.1).
	NoAccept bool
	// NoReset: hosts of lans are not told that a TCP connection of theirs is gone;
	// what comes of it is dropped.
	NoReset bool
}

// Input is what is known now and not in the file.
type Input struct {
	Usable   map[string]bool           // uplinks that get new flows, by the master's word
	Verdicts map[string]Verdict        // the master's
	Holding  bool                      // the virtual addresses are on this node: its own traffic may use them
	Active   bool                      // this node takes new flows: it is master, or was until a moment ago
	Own      map[string][]netip.Addr   // this node's permanent addresses, by uplink
	OwnLan   map[string][]netip.Prefix // this node's permanent prefixes, by lan
	Gateways map[string]netip.Addr     // found for uplinks without a configured one; 0.0.0.0: point-to-point, needs none
	Master   netip.Addr                // on a backup: the master's node address
	Closed   map[string]bool           // policies whose time it is not, see Config.Closed
	Shares   Shares                    // measured weights
}

// Mark is the value of the packet mark, within mask, that stands for an id.
func Mark(id int, mask uint32) uint32 {
	if mask == 0 {
		return 0
	}
	for mask&1 == 0 {
		mask >>= 1
		id <<= 1
	}
	return uint32(id)
}

func (c *Config) mark(u Uplink) uint32 { return Mark(u.ID, c.MarkMask) }

func (c *Config) table(u Uplink) int { return c.TableBase + u.ID }

func (c *Config) gateway(u Uplink, in Input) netip.Addr {
	if u.Gateway.IsValid() {
		return u.Gateway
	}
	return in.Gateways[u.Name]
}

// members are a policy's uplinks in its own order.
func (c *Config) members(p Policy) []Uplink {
	if len(p.Uplinks) == 0 {
		return c.Uplinks
	}
	var out []Uplink
	for _, name := range p.Uplinks {
		for _, u := range c.Uplinks {
			if u.Name == name {
				out = append(out, u)
			}
		}
	}
	return out
}
