package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// Config says where to keep what was found before us.
type Config struct {
	StateDir string // sysctl.json: the values before ours
	Log      *slog.Logger
}

// Kernel applies plans to the network namespace of this process.
type Kernel struct {
	cfg Config

	applying sync.Mutex // one Apply or Cleanup at a time
	nft      *nftables.Conn
	routes   *netlink.Handle

	// The switch has a connection and a lock of its own, so that a takeover
	// never waits for a plan.
	switching sync.Mutex
	flip      *nftables.Conn
	active    *bool  // as Activate said last, nil never
	turns     uint64 // how often
	planned   bool   // our table is there
}

// New opens what is needed; it changes nothing.
func New(cfg Config) (*Kernel, error) {
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

// Apply makes the kernel agree with the plan. What cannot be there now (a route
// over a device that is missing) is told in the error and left out; all else is
// done. The takeover switch stays as Activate set it last.
func (k *Kernel) Apply(ctx context.Context, p balancer.Plan) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	k.switching.Lock()
	turns := k.turns
	if k.active != nil {
		p.Active = *k.active
	}
	k.switching.Unlock()

	// Tables before rules before marks: a packet that carries a mark must find
	// its way.
	failed := errors.Join(k.applySysctls(p.Sysctls), k.applyRoutes(p), k.applyRules(p))
	if err := k.applyTable(p); err != nil {
		return errors.Join(failed, err)
	}
	k.switching.Lock()
	k.planned = true
	changed := k.turns != turns
	k.switching.Unlock()
	if changed { // a takeover in the meantime: its word is the newer one
		failed = errors.Join(failed, k.again(ctx))
	}
	return failed
}

// Activate turns the takeover switch: whether new flows may go to uplinks.
// With grace, TCP in mid-stream without an entry is dropped for three seconds.
func (k *Kernel) Activate(ctx context.Context, active, grace bool) error {
	k.switching.Lock()
	defer k.switching.Unlock()
	k.active = &active
	k.turns++
	return k.turn(ctx, active, grace)
}

func (k *Kernel) again(ctx context.Context) error {
	k.switching.Lock()
	defer k.switching.Unlock()
	return k.turn(ctx, *k.active, false)
}

// Cleanup takes everything of ours away; sysctls go back to what they were if
// they still hold our value.
func (k *Kernel) Cleanup(context.Context) error {
	k.applying.Lock()
	defer k.applying.Unlock()
	k.switching.Lock()
	k.planned = false
	k.switching.Unlock()
	return errors.Join(k.removeTable(), k.removeRules(), k.removeRoutes(), k.restoreSysctls())
}
