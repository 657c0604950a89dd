package wire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

// Link is a lan that carries adverts.
type Link struct {
	Name, Device string
	Addresses    []netip.Addr // virtual addresses, listed in the adverts sent there; none: the sender's own
}

// Config says where adverts go and come from.
type Config struct {
	VRID             uint8
	Version          vrrp.Version // zero: 3
	Checksum         vrrp.Checksum
	Interval         time.Duration // A, told in farewells
	Links            []Link
	Local            netip.Addr    // own node address: unicast adverts go from and come to it
	Peers            []netip.Addr  // the other nodes' addresses
	UnicastAddresses []netip.Addr  // listed in unicast adverts; none: Local
	UnicastOnly      bool          // nothing is sent to or taken from the group
	Lease            time.Duration // the sender goes silent this long after the last Renew
	Virtual          []netip.Addr  // never a source address
	Receive          func(Received)
	Log              *slog.Logger
}

// Transport is a Task: receive sockets, the sender thread, and a keeper that
// follows devices and addresses.
type Transport struct {
	cfg   Config
	start time.Time
	kick  chan struct{} // for the keeper
	own   atomic.Pointer[map[netip.Addr]bool]

	lease  atomic.Int64          // nanoseconds after start of the last Renew
	burst  atomic.Pointer[burst] // what the sender repeats
	once   chan request          // what it sends once
	wake   *os.File              // an eventfd, ends its sleep
	wakeFD int                   // the same; wake.Fd would make it block
	quit   atomic.Bool           // ends it

	// mu is held for moments only, never during a system call: Advertise and
	// Silence take it, and they may not wait.
	mu    sync.Mutex
	order order
	paths []*path // fixed; where each leads changes
	drops map[string]uint64
}

// New checks the configuration; it opens no socket yet.
func New(cfg Config) (*Transport, error) {
	if cfg.Version == 0 {
		cfg.Version = vrrp.Version3
	}
	if cfg.VRID == 0 {
		return nil, errors.New("set up VRRP: virtual router id 0")
	}
	if err := vrrp.CheckInterval(cfg.Version, cfg.Interval); err != nil {
		return nil, fmt.Errorf("set up VRRP: %w", err)
	}
	if cfg.Lease <= 0 {
		return nil, fmt.Errorf("set up VRRP: lease %v", cfg.Lease)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("set up VRRP: open an eventfd: %w", err)
	}
	t := &Transport{
		cfg: cfg, start: time.Now(), kick: make(chan struct{}, 1), once: make(chan request, 8),
		wake: os.NewFile(uintptr(fd), "wake"), wakeFD: fd, drops: map[string]uint64{},
	}
	t.own.Store(&map[netip.Addr]bool{})
	if !cfg.UnicastOnly {
		for _, l := range cfg.Links {
			t.paths = append(t.paths, newPath("lan "+l.Name, l.Device, vrrp.Group4, l.Addresses))
		}
	}
	for _, p := range cfg.Peers {
		if cfg.Local.Is4() && p.Is4() {
			t.paths = append(t.paths, newPath("peer "+p.String(), "", p, cfg.UnicastAddresses))
		}
	}
	// What no advert can list would otherwise show when it is needed first.
	for _, p := range t.paths {
		if _, err := t.advert(0, cfg.Interval, p, p.dst).Append(nil, p.dst, p.dst, cfg.Checksum); err != nil {
			return nil, fmt.Errorf("set up VRRP for %s: %w", p.name, err)
		}
	}
	return t, nil
}

func (t *Transport) String() string { return "vrrp" }

// Run opens the sockets, keeps them open and sends, until ctx ends. The error
// says that no raw socket can be had.
func (t *Transport) Run(ctx context.Context) error {
	defer func() {
		for _, p := range t.paths {
			p.close()
		}
	}()
	for _, p := range t.paths {
		if err := p.open(); err != nil {
			return err
		}
	}
	if len(t.cfg.Peers) > 0 && !t.cfg.Local.Is4() {
		t.cfg.Log.Warn("no unicast adverts: they need an IPv4 node address", "address", t.cfg.Local)
	}
	t.quit.Store(false)
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		t.runSender()
	}()
	err := t.keep(ctx)
	t.quit.Store(true)
	t.rouse()
	<-sender
	return err
}

// LinkChanged tells of an event on a device or its addresses: all are looked
// at again. It never blocks.
func (t *Transport) LinkChanged(string) { t.poke() }

func (t *Transport) poke() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// Renew tells the sender that the deciding loop lives. It costs next to nothing.
func (t *Transport) Renew() { t.lease.Store(int64(time.Since(t.start))) }

// Counters returns how many packets were refused here, by reason.
func (t *Transport) Counters() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.drops)
}

func (t *Transport) receive(r Received) {
	if r.Drop != "" {
		t.mu.Lock()
		t.drops[string(r.Drop)]++
		t.mu.Unlock()
	}
	t.cfg.Receive(r)
}
