package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip is this node's part in the talk of its cluster. Its methods may be
// called from any goroutine, before Run, during it and after it.
type Gossip struct {
	cfg   Config
	log   *slog.Logger
	self  netip.AddrPort
	peers map[string]*peer // never changes

	payload atomic.Pointer[[]byte] // what Publish gave last
	states  atomic.Uint64          // snapshots numbered so far
	told    atomic.Uint64          // direct messages numbered so far
	life    atomic.Uint64          // this run, as others know it
	list    atomic.Pointer[memberlist.Memberlist]

	mu       sync.Mutex // the receiving side, and the order of Handler's events
	lives    []uint64   // all values that life had
	counters map[string]uint64
	lastDrop map[string]time.Time
	done     bool // Run has ended: no more events
}

// New returns a Gossip that does nothing until Run.
func New(cfg Config) *Gossip {
	g := &Gossip{
		cfg:      cfg,
		log:      cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		self:     netip.AddrPortFrom(cfg.Address.Unmap(), uint16(cfg.Port)),
		peers:    map[string]*peer{},
		counters: map[string]uint64{DropKey: 0, DropGarbage: 0, DropSender: 0},
		lastDrop: map[string]time.Time{},
	}
	g.begin(uint64(time.Now().UnixNano()))
	for name, a := range cfg.Peers {
		g.peers[name] = newPeer(name, netip.AddrPortFrom(a.Unmap(), uint16(cfg.Port)))
	}
	return g
}

// String names the task.
func (g *Gossip) String() string { return "gossip" }

// Run takes part until ctx ends, then leaves, which takes a second at most. It
// waits for an address that is not on this machine yet; it returns an error
// for a port that is taken, and for a Config that cannot work.
func (g *Gossip) Run(ctx context.Context) error {
	if err := g.cfg.check(); err != nil {
		return err
	}
	t, err := g.listen(ctx)
	if t == nil {
		return err
	}
	settings, err := g.library(t)
	if err != nil {
		return errors.Join(err, t.Shutdown())
	}
	list, err := memberlist.Create(settings)
	if err != nil {
		return errors.Join(fmt.Errorf("start memberlist: %w", err), t.Shutdown())
	}
	g.list.Store(list)
	var wg sync.WaitGroup
	for _, p := range g.peers {
		wg.Go(func() { g.tend(ctx, p) })
		wg.Go(func() { g.deliver(ctx, p) })
	}
	<-ctx.Done()
	wg.Wait()
	if err := list.Leave(leaveWithin); err != nil {
		g.log.Debug("leave", "error", err)
	}
	g.list.Store(nil)
	g.mu.Lock()
	g.done = true
	g.mu.Unlock()
	return list.Shutdown()
}

// listen opens the sockets. Both results are nil if ctx ended before.
func (g *Gossip) listen(ctx context.Context) (*transport, error) {
	seals, err := newSeals(g.cfg.ClusterLabel, g.cfg.Keys)
	if err != nil {
		return nil, err
	}
	t := &transport{local: g.self, nodes: map[netip.Addr]bool{}, seals: seals, drop: g.drop, log: g.log}
	for _, p := range g.peers {
		t.nodes[p.at.Addr()] = true
	}
	for waiting := false; ; {
		err := t.listen(ctx)
		switch {
		case err == nil:
			g.log.Info("gossip listens", "address", g.self)
			return t, nil
		case ctx.Err() != nil:
			return nil, nil
		case errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("listen for gossip on %s: another program has this port; stop it, or give ports.gossip another value in every node's file: %w", g.self, err)
		case !notYet(err):
			return nil, err
		case !waiting:
			g.log.Warn("waiting for this node's address to be set on a device of this machine", "address", g.self.Addr())
			waiting = true
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(bindEvery):
		}
	}
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
	for _, p := range g.peers {
		p.wake()
	}
}

// Members returns the names of the nodes that are members now, sorted, this
// one included while Run runs.
func (g *Gossip) Members() []string {
	if g.list.Load() == nil {
		return nil
	}
	names := []string{g.cfg.Node}
	for name, p := range g.peers {
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

// member tells of a node that came or went.
func (g *Gossip) member(name string, up bool) {
	p, ok := g.peers[name]
	if !ok { // this node
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.up.Swap(up) != up {
		g.tell(Member{Node: name, Up: up})
	}
	p.wake()
}

// tell hands an event over; mu is held, so events keep their order.
func (g *Gossip) tell(e Event) {
	if !g.done {
		g.cfg.Handler(e)
	}
}
