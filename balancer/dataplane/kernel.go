package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Config says where to keep what was found before us.
type Config struct {
	StateDir string       // sysctl.json: the values before ours
	Log      *slog.Logger // nil: silent
}

// Kernel applies plans to the network namespace of this process.
type Kernel struct {
	cfg Config

	applying sync.Mutex // one Apply or Cleanup at a time
	nft      *nftables.Conn
	rules    *mdnetlink.Conn // for what the library reads badly
	routes   *netlink.Handle
	deaf     bool // this kernel's nftables cannot ask for listening sockets

	// The switch has a connection and a lock of its own, so that a takeover
	// never waits for a plan.
	switching  sync.Mutex
	flip       *nftables.Conn
	active     *bool     // as Activate said last; nil: never
	graceUntil time.Time // as Activate said last
}

// New opens what is needed; it changes nothing.
func New(cfg Config) (*Kernel, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Kernel{cfg: cfg}
	var err error
	if k.nft, err = openNft(); err != nil {
		return nil, err
	}
	if k.flip, err = openNft(); err != nil {
		return nil, err
	}
	if k.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return k, nil
}

// openNft raises the socket's buffers: with the default ones a transaction of
// some hundred messages fails although it was carried out.
func openNft() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(n *mdnetlink.Conn) error {
		return errors.Join(n.SetReadBuffer(8<<20), n.SetWriteBuffer(8<<20))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return c, nil
}

// commit carries out what is queued. After an error nothing is known of what
// was done, and the connection is opened anew.
func commit(c **nftables.Conn) error {
	err := (*c).Flush()
	if err == nil {
		return nil
	}
	return errors.Join(err, reopen(c))
}

// reopen replaces a connection, and forgets what was queued on it.
func reopen(c **nftables.Conn) error {
	fresh, err := openNft()
	if err != nil {
		return err
	}
	_ = (*c).CloseLasting()
	*c = fresh
	return nil
}

// SkippedError is a part of a plan that cannot be in the kernel now, such as a
// route over a device that is missing or down. The rest of the plan is in place;
// a later Apply puts the part there.
type SkippedError struct {
	Item   string // the route as a command's words
	Reason string
	soon   bool // a matter of moments
}

func (e *SkippedError) Error() string { return fmt.Sprintf("left out %s: %s", e.Item, e.Reason) }

// OnlySkipped tells whether an error of Apply says no more than that some parts
// were left out, which is the normal state while a device is missing.
func OnlySkipped(err error) bool {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case nil, *SkippedError:
		return true
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			if !OnlySkipped(part) {
				return false
			}
		}
		return true
	}
	return false
}

// Apply makes the kernel agree with the plan: it reads, compares and writes the
// difference, the nft table in one transaction. What cannot be there now is told
// as SkippedError and left out; all else is done. The takeover switch stays as
// Activate set it last.
func (k *Kernel) Apply(ctx context.Context, p balancer.Plan) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	// Routes before rules before marks: a packet that carries a mark must find
	// its way.
	failed := errors.Join(k.applySysctls(p.Sysctls), k.applyRoutes(p), k.applyRules(p))
	if err := k.applyTable(p); err != nil {
		return errors.Join(failed, err)
	}
	if err := k.settle(p.Active); err != nil {
		return errors.Join(failed, err)
	}
	// A backup's way may lead over an address that this node is about to give up.
	deadline := time.Now().Add(settleTime)
	for isSoon(failed) && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return errors.Join(failed, ctx.Err())
		case <-time.After(settleTime / 50):
		}
		failed = k.applyRoutes(p)
	}
	return failed
}

// settleTime is how long Apply waits for the virtual addresses to go.
const settleTime = time.Second

// isSoon tells whether an error is one part that was left out for a moment only.
func isSoon(err error) bool {
	var s *SkippedError
	return errors.As(err, &s) && s.soon && OnlySkipped(err)
}

// Prepare sets the plan's sysctls alone, so that the values from before are
// kept whatever the other parts of the program set later.
func (k *Kernel) Prepare(p balancer.Plan) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	return k.applySysctls(p.Sysctls)
}

// Cleanup takes everything of ours away; sysctls go back to what they were if
// they still hold our value. A second one does nothing.
func (k *Kernel) Cleanup(context.Context) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	return errors.Join(k.removeTable(), k.removeRules(), k.removeRoutes(), k.restoreSysctls())
}
