package gossip

import (
	"cmp"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is this node's part in the talk of its cluster. Its methods may be
// called from any goroutine, before Run, during it and after it.
type Gossip struct {
	node    string
	handler func(Event)
	log     *slog.Logger
	roster  atomic.Pointer[roster] // replaced whole by Configure
	changed chan struct{}          // the roster was

	payload atomic.Pointer[[]byte] // what Publish gave last
	states  atomic.Uint64          // snapshots numbered so far
	told    atomic.Uint64          // direct messages numbered so far
	life    atomic.Uint64          // this run, as others know it
	list    atomic.Pointer[memberlist.Memberlist]
	way     atomic.Pointer[transport] // of list

	mu       sync.Mutex      // the receiving side, and the order of Handler's events
	lives    []uint64        // all values that life had
	follows  *delegate       // whose word on members counts
	members  map[string]bool // by its word
	counters map[string]uint64
	lastDrop map[string]time.Time
	done     bool // Run has ended: no more events
}

// New returns a Gossip that does nothing until Run.
func New(cfg Config) *Gossip {
	g := &Gossip{
		node:     cfg.Node,
		handler:  cfg.Handler,
		log:      cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		changed:  make(chan struct{}, 1),
		counters: map[string]uint64{DropKey: 0, DropGarbage: 0, DropSender: 0},
		lastDrop: map[string]time.Time{},
	}
	g.begin(uint64(time.Now().UnixNano()))
	g.roster.Store(newRoster(cfg, nil))
	return g
}

// String names the task.
func (g *Gossip) String() string { return "gossip" }

// Configure changes the addresses, port, peers, cluster label and keys to those
// of cfg; node, handler and log stay. What is the same in both goes on
// undisturbed: sockets stay open, members stay members. A peer that is no
// longer named is forgotten (Member, down) and its packets are dropped as those
// of a stranger. Another label or other keys end all memberships and begin them
// anew. The error says what of cfg cannot work; then nothing has changed. It
// does not wait for sockets: they are opened and closed by Run a moment later.
func (g *Gossip) Configure(cfg Config) error {
	cfg.Node, cfg.Handler, cfg.Log = g.node, g.handler, g.log
	if err := cfg.check(); err != nil {
		return err
	}
	for old := g.roster.Load(); !g.roster.CompareAndSwap(old, newRoster(cfg, old)); old = g.roster.Load() {
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
	return nil
}

// Publish makes payload the snapshot of this node: it goes to all members at
// once, again every 300 ms, and to every node that joins. It does not block;
// of several in a row the last is what counts. The slice must not be changed
// afterwards. An empty one, and one of more than 512 KiB, is not published.
func (g *Gossip) Publish(payload []byte) {
	if len(payload) == 0 || len(payload) > maxPayload {
		g.log.Error("state not published", "bytes", len(payload), "limit", maxPayload)
		return
	}
	g.payload.Store(&payload)
	for _, p := range g.roster.Load().peers {
		p.wake()
	}
}

// Members returns the names of the nodes that are members now, sorted, this
// one included while Run runs.
func (g *Gossip) Members() []string {
	if g.list.Load() == nil {
		return nil
	}
	names := []string{g.node}
	for name, p := range g.roster.Load().peers {
		if p.up.Load() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Counters returns how much was refused since New, by reason.
func (g *Gossip) Counters() map[string]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.counters)
}

const dropEvery = 100 * time.Millisecond

// drop counts what was refused and tells of it.
func (g *Gossip) drop(reason string, source netip.Addr) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counters[reason]++
	if now.Sub(g.lastDrop[reason]) >= dropEvery {
		g.lastDrop[reason] = now
		g.tell(Drop{Reason: reason, Source: source})
	}
}

// follow begins with no members. From a memberlist that has ended a word may
// still come.
func (g *Gossip) follow(d *delegate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.follows, g.members = d, map[string]bool{}
}

// member notes that memberlist found a node or lost it, and tells of it.
func (g *Gossip) member(d *delegate, name string, up bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d != g.follows {
		return
	}
	g.members[name] = up
	if p := g.roster.Load().peers[name]; p != nil { // else this node, or one that was removed
		g.setUp(p, up)
	}
}

// greet makes a peer up that memberlist knew before Configure brought it.
func (g *Gossip) greet(p *peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.setUp(p, g.members[p.name])
}

// forget makes a peer down that is no longer named.
func (g *Gossip) forget(p *peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if again := g.roster.Load().peers[p.name]; again != nil && again != p && again.up.Load() {
		p.up.Store(false) // it was named again, and told of as up
	}
	g.setUp(p, false)
}

// setUp tells of a change; mu is held.
func (g *Gossip) setUp(p *peer, up bool) {
	if p.up.Swap(up) != up {
		g.tell(Member{Node: p.name, Up: up})
	}
	p.wake()
}

// tell hands an event over; mu is held, so events keep their order.
func (g *Gossip) tell(e Event) {
	if !g.done {
		g.handler(e)
	}
}
