package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"harouter/conntracksync"
)

// Kernel is the open connection table of this machine.
type Kernel interface {
	// Do carries out Install, Update, SetTimeouts, Remove, Expect, Unexpect and
	// Read, and tells how many flows or expectations were refused, and which flows
	// since another one has their place.
	Do(ctx context.Context, a conntracksync.Action) (refused int, taken []conntracksync.Flow, err error)
	// Dump calls each for every flow, which is only lent, and then expected for
	// every expectation; after restart from the beginning.
	Dump(ctx context.Context, restart func(), each func(*conntracksync.Flow), expected func(*conntracksync.Expectation)) error
	// Listen calls the functions of Hear until ctx ends.
	Listen(ctx context.Context) error
	// Close ends it, after Listen if that was called.
	Close() error
}

// Hear are the functions that a Kernel calls, one at a time, from the moment at
// which it is open.
type Hear struct {
	Event   func(*conntracksync.Event) // only lent
	Idle    func()                     // all that was waiting has been told
	Overrun func()                     // events got lost
}

// Sessions are those with the other nodes.
type Sessions interface {
	// Send queues a frame and copies it. It never blocks. False: it will not
	// arrive, and the session starts over.
	Send(node string, frame []byte) bool
	// Restart ends a session in which the peers do not understand each other.
	Restart(node string, err error)
	// Barrier returns nil when all that was sent is handled on the other side.
	Barrier(ctx context.Context, node string) error
	// Behind is the age of what the other side has still to handle; false
	// without a session.
	Behind(node string) (time.Duration, bool)
}

// Settings are what a reload can change.
type Settings struct {
	Enabled   bool
	Protocols []conntracksync.Protocol // those that are told; none: all
	Ignore    []netip.Prefix           // networks whose flows are not told, this node's own addresses among them
	Local     []netip.Addr             // virtual addresses: connections that end there are the router's own
}

// Config is what New needs. Report, Heard, Limit and Log may be nil.
type Config struct {
	Node  string
	Boot  uint64          // differs from one start of the daemon to the next
	Ready <-chan struct{} // closed when NAT is set up: without, the kernel translates nothing that is installed
	// Open opens the kernel's table, with its size in flows and its timeouts.
	Open     func(Hear) (k Kernel, size int, timeouts conntracksync.Timeouts, err error)
	Sessions Sessions
	Settings Settings
	// Report is told when the state with a peer changes. It may wait.
	Report func(node string, state conntracksync.PeerState)
	// Heard tells when a node without a session was heard last, by whatever; the
	// flows of one that lives are kept. Nil: nobody is.
	Heard func(ctx context.Context, node string) time.Time
	// Limit is told how many flows a node can hold, when that changes.
	Limit func(node string, flows int)
	Log   *slog.Logger
}

// Replica keeps the connections of all nodes on each.
type Replica struct {
	cfg    Config
	ask    chan func(*owner) // for the goroutine that owns the table
	frames chan func(*owner) // what peers bring
	heard  chan batch
	empty  chan []conntracksync.Event // batches to be filled again
	ended  chan struct{}
}

// asks is how many calls may wait before a further one does too.
const asks = 64

// New makes one. Nothing is opened before Run.
func New(cfg Config) *Replica {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Report == nil {
		cfg.Report = func(string, conntracksync.PeerState) {}
	}
	if cfg.Heard == nil {
		cfg.Heard = func(context.Context, string) time.Time { return time.Time{} }
	}
	if cfg.Limit == nil {
		cfg.Limit = func(string, int) {}
	}
	return &Replica{
		cfg: cfg, ask: make(chan func(*owner), asks), frames: make(chan func(*owner)),
		heard: make(chan batch, queued), empty: make(chan []conntracksync.Event, queued+2), ended: make(chan struct{}),
	}
}

// String names the task.
func (r *Replica) String() string { return "replication of flows" }

var errEnded = errors.New("the replication of flows is ending")

// tell has the owner of the table do something, and waits until it is done.
func (r *Replica) tell(ctx context.Context, queue chan<- func(*owner), do func(*owner)) error {
	done := make(chan struct{})
	select {
	case queue <- func(o *owner) { defer close(done); do(o) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
		return errEnded
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
		return errEnded
	}
}

// Take makes this node the owner of all flows in a term, and returns when all
// that was received is in the kernel.
func (r *Replica) Take(ctx context.Context, term uint64) error {
	if err := r.tell(ctx, r.ask, func(o *owner) { o.take(ctx, term) }); err != nil {
		return fmt.Errorf("take over the flows: %w", err)
	}
	return nil
}

// Yield says that this node is no master any more; term, the highest that is known,
// is only noted. It returns at once.
func (r *Replica) Yield(term uint64) { r.say(func(o *owner) { o.yield(term) }) }

// Flush returns when another node has all flows that this one knows.
func (r *Replica) Flush(ctx context.Context, node string) error {
	var synced chan error
	if err := r.tell(ctx, r.ask, func(o *owner) { synced = o.flush(node) }); err != nil {
		return fmt.Errorf("bring the flows to %s: %w", node, err)
	}
	select {
	case err := <-synced:
		if err != nil {
			return fmt.Errorf("bring the flows to %s: %w", node, err)
		}
	case <-ctx.Done():
		return fmt.Errorf("bring the flows to %s, which is not in sync: %w", node, ctx.Err())
	case <-r.ended:
		return errEnded
	}
	if err := r.cfg.Sessions.Barrier(ctx, node); err != nil {
		return fmt.Errorf("bring the flows to %s: %w", node, err)
	}
	return nil
}

// Configure takes other settings, soon. What is told already stays told until it
// ends; what was not is told now. Sessions end when it is turned off: nothing is
// taken from them until it is on again.
func (r *Replica) Configure(s Settings) { r.say(func(o *owner) { o.configure(s) }) }

// Resize says that the kernel's table holds so many flows now.
func (r *Replica) Resize(flows int) { r.say(func(o *owner) { o.resize(flows) }) }

// say has the owner do something in the order of the calls, and does not wait.
func (r *Replica) say(do func(*owner)) {
	select {
	case r.ask <- do:
	case <-r.ended:
	}
}
