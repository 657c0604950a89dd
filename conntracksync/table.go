package conntracksync

import (
	"net/netip"
	"slices"
	"time"
)

// Config is what a Table is made of.
type Config struct {
	Node string
	// Boot differs from one start of the daemon to the next.
	Boot uint64
	// Limit is how many flows are kept, own and others' (the kernel's
	// nf_conntrack_max, below 16 million).
	Limit int
	// Window is how long a flow waits to be told that is not established, and a
	// change of one that closes. 100 ms if it is 0.
	Window time.Duration
	// Hold is the time that flows of others get in the kernel's table; they are
	// renewed in time while their owner does not say that they ended. 1 h if 0.
	Hold time.Duration
	// Forget is after how long the flows of a peer go that is not connected and
	// not heard otherwise (Alive). 10 minutes if 0.
	Forget time.Duration
	// Timeouts are the kernel's own, for flows that this node takes over.
	Timeouts Timeouts
	// Protocols are those that are told; all if there is none.
	Protocols []Protocol
	// Ignore are networks whose flows are not told, by the source or the
	// destination of the first packet, or the source that it is given by
	// translation: this node's own addresses belong here,
	// not the virtual ones. Loopback, link-local and multicast always do.
	Ignore []netip.Prefix
	// Local are virtual addresses: connections that begin or end there without
	// translation are the router's own, and end with its role.
	Local []netip.Addr
}

const (
	defaultWindow = 100 * time.Millisecond
	defaultHold   = time.Hour
	defaultForget = 10 * time.Minute
	// digestEvery is how often a peer can compare its copy.
	digestEvery = 5 * time.Second
	// missingFor is how long the owner of a flow that is gone from our kernel's
	// table has to say that it ended, before it is installed again.
	missingFor = time.Second
	// settleAtOnce is how many flows get their own time at once after a takeover.
	settleAtOnce = Batch
)

// Whose a flow is, where it is no peer's.
const (
	mine   int16 = -1 - iota
	orphan       // found in the kernel's table at start, and nobody's so far
	nobody       // an empty slot, or one whose end is still to be told
)

// slot holds one flow. Its place is the number by which it is told.
type slot struct {
	flow
	owner  int16  // mine, orphan, nobody or the index of a peer
	queued queue  // where it waits to be told
	pins   uint32 // in how many queues it is
	told   bool   // mine, and the peers know of it
	gone   bool   // of a peer, and not in the kernel's table: it waits to be installed again
	seen   bool   // during a reading of the kernel's table
	assert bool   // mine, and a peer that thinks otherwise is to be told
	id     uint32 // of a peer: its number there
	kernel uint32 // mine: its number in the kernel, 0 if it is not known
	digest uint64 // of what was told
}

type queue uint8

const (
	idle queue = iota
	ready
	later
)

// due is a slot that waits for a time.
type due struct {
	at   time.Time
	slot uint32
}

// Table is what a node knows of its own flows and those of its peers. It
// decides what to tell and what to install; it does nothing itself. Feed it with
// what happened, then ask Work for what is to be done. It belongs to one
// goroutine.
type Table struct {
	config  Config
	role    Role
	slots   []slot
	free    []uint32
	index   map[Key]uint32
	rare    map[uint32]rarity
	peers   []*peer
	actions []Action

	readyQ           []uint32
	laterQ, missingQ []due
	ends             []uint32 // numbers whose end is to be told
	sums             [buckets]uint64
	own              int // flows that are mine
	tells            int // of these the peers know
	dumping          bool
	settle           int       // slots up to here may still need what SetTimeouts does, counting down
	renewed          time.Time // when the walk over others' flows was last here
	renewAt          int
	drops            map[string]int

	expected  map[name]*expected
	expectQ   []name              // to be told
	unexpectQ []endOf             // to be told that they ended
	helped    map[uint32]struct{} // flows whose sequence numbers a helper may move
	readAt    time.Time           // when they are read again; zero if none is
}

// NewTable makes an empty one.
func NewTable(c Config) *Table {
	if c.Window == 0 {
		c.Window = defaultWindow
	}
	if c.Hold == 0 {
		c.Hold = defaultHold
	}
	if c.Forget == 0 {
		c.Forget = defaultForget
	}
	c.Limit = min(c.Limit, maxID)
	return &Table{config: c, index: map[Key]uint32{}, rare: map[uint32]rarity{}, drops: map[string]int{},
		expected: map[name]*expected{}, helped: map[uint32]struct{}{}}
}

// Configure takes other settings for flows that are not known yet. Those that
// are known are told until they end.
func (t *Table) Configure(protocols []Protocol, ignore []netip.Prefix, local []netip.Addr) {
	t.config.Protocols, t.config.Ignore, t.config.Local = protocols, ignore, local
}

// Resize changes Config.Limit. What is known already stays.
func (t *Table) Resize(limit int) { t.config.Limit = min(limit, maxID) }

// Told is how many of this node's own flows the peers were told.
func (t *Table) Told() int { return t.tells }

// Drops is how many flows or frames were not taken, by reason: table_size,
// expectations.
func (t *Table) Drops() map[string]int { return t.drops }

// Len is how many flows are this node's own, and how many there are in all.
func (t *Table) Len() (own, all int) { return t.own, len(t.index) }

// concerns reports whether a flow is told to others at all.
func (t *Table) concerns(f *Flow) bool {
	if len(t.config.Protocols) > 0 {
		p := f.Original.Protocol
		if p == ICMPv6 {
			p = ICMP
		}
		if !slices.Contains(t.config.Protocols, p) {
			return false
		}
	}
	if slices.Contains(t.config.Local, f.Original.Source) || f.Status&DestNAT == 0 && slices.Contains(t.config.Local, f.Original.Destination) {
		return false
	}
	if f.Status&SourceNAT != 0 && t.ignores(f.Reply.Destination) {
		return false // bound to a lease of this node
	}
	for _, a := range [...]netip.Addr{f.Original.Source, f.Original.Destination} {
		if a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return false
		}
		if t.ignores(a) {
			return false
		}
	}
	return true
}

func (t *Table) ignores(a netip.Addr) bool {
	return slices.ContainsFunc(t.config.Ignore, func(p netip.Prefix) bool { return p.Contains(a) })
}

// add makes a slot for a flow that is not there yet.
func (t *Table) add(f *flow, r *rarity, owner int16) (uint32, bool) {
	if len(t.index) >= t.config.Limit {
		t.drops["table_size"]++
		return 0, false
	}
	var i uint32
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if len(t.slots) >= maxID {
			t.drops["table_size"]++
			return 0, false
		}
		i = uint32(len(t.slots))
		t.slots = append(t.slots, slot{})
	}
	t.slots[i] = slot{flow: *f, owner: owner, seen: t.dumping}
	t.index[f.key] = i
	t.setRarity(i, r)
	if owner == mine {
		t.own++
	}
	return i, true
}

func (t *Table) setRarity(i uint32, r *rarity) {
	t.slots[i].rare = *r != rarity{}
	if t.slots[i].rare {
		t.rare[i] = *r
	} else if len(t.rare) > 0 {
		delete(t.rare, i)
	}
	if r.helper != "" && t.slots[i].key.protocol == TCP {
		t.helped[i] = struct{}{}
	} else if len(t.helped) > 0 {
		delete(t.helped, i)
	}
}

func (t *Table) rarity(i uint32) *rarity {
	var r rarity
	if t.slots[i].rare {
		r = t.rare[i]
	}
	return &r
}

// drop takes a flow out of the table. Its slot is free when nothing waits for it.
func (t *Table) drop(i uint32) {
	s := &t.slots[i]
	if len(t.expected) > 0 && s.rare && t.rare[i].helper != "" {
		t.dropExpectations(s.key)
	}
	t.disown(i)
	delete(t.index, s.key)
	t.setRarity(i, &rarity{})
	*s = slot{owner: nobody, pins: s.pins}
	t.pin(i, 0)
}

// pin counts in how many queues a slot is.
func (t *Table) pin(i uint32, n int) {
	s := &t.slots[i]
	s.pins = uint32(int(s.pins) + n)
	if s.owner == nobody && s.pins == 0 {
		t.free = append(t.free, i)
	}
}

// disown ends that a flow is mine: those who know of it will be told.
func (t *Table) disown(i uint32) {
	s := &t.slots[i]
	if s.owner != mine {
		return
	}
	t.own--
	s.owner = nobody
	if s.told {
		s.told = false
		t.tells--
		t.sums[s.key.bucket()] -= s.digest
		t.ends = append(t.ends, i)
		s.pins++
	}
}

// claim makes a flow mine that was not.
func (t *Table) claim(i uint32) {
	s := &t.slots[i]
	t.overrule(s)
	s.owner, s.told, s.id, s.kernel = mine, false, 0, 0
	t.own++
}

// full is the flow in a slot, with that time.
func (t *Table) full(i uint32, timeout uint32) Flow {
	f := unpack(&t.slots[i].flow, t.rarity(i))
	f.Timeout = timeout
	return f
}

// lifetime is the time for a flow of this node.
func (t *Table) lifetime(i uint32) uint32 {
	return t.config.Timeouts.of(&t.slots[i].flow, t.rarity(i))
}

// holdFor is the time for a flow of another.
func (t *Table) holdFor() uint32 { return uint32(t.config.Hold / time.Second) }
