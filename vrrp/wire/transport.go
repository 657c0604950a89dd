package wire

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Transport is a Task: receive sockets, the sender thread, and a keeper that
// follows devices and addresses.
type Transport struct {
	hand    func(Received)
	log     *slog.Logger
	start   time.Time
	kick    chan struct{} // for the keeper
	changes chan change   // for the keeper
	terms   atomic.Pointer[terms]
	open    atomic.Pointer[[]syscall.RawConn] // what is received from

	lease  atomic.Int64          // nanoseconds after start of the last Renew
	burst  atomic.Pointer[burst] // what the sender repeats
	once   chan request          // what it sends once
	wake   *os.File              // an eventfd, ends its sleep
	wakeFD int                   // the same; wake.Fd would make it block
	quit   atomic.Bool           // ends it

	// mu is held for moments only, never during a system call: Advertise and
	// Silence take it, and they may not wait.
	mu     sync.Mutex
	order  order
	prompt uint64        // counts the changes of the configuration
	ended  chan struct{} // closed when Run has ended; nil: it does not run
	drops  map[string]uint64
	gate   gate
	// While Run runs, the keeper alone changes these, and reads them without mu.
	cfg   Config
	paths []*path

	spare []*path // the keeper's: ways that are used no more, for their sockets
}

// New checks the configuration; it opens no socket yet.
func New(cfg Config) (*Transport, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("set up VRRP: open an eventfd: %w", err)
	}
	t := &Transport{
		cfg: cfg, paths: cfg.paths(), hand: cfg.Receive, log: cfg.Log, start: time.Now(),
		kick: make(chan struct{}, 1), once: make(chan request, 8), changes: make(chan change),
		wake: os.NewFile(uintptr(fd), "wake"), wakeFD: fd, drops: map[string]uint64{},
	}
	return t, nil
}

func (t *Transport) String() string { return "vrrp" }

// Run opens the sockets, keeps them open and sends, until ctx ends. The error
// says that no raw socket can be had.
func (t *Transport) Run(ctx context.Context) error {
	ended := make(chan struct{})
	t.mu.Lock()
	t.ended = ended
	t.mu.Unlock()
	defer func() {
		for _, p := range t.paths {
			p.close()
		}
		for _, p := range t.spare {
			p.close()
		}
		t.spare = nil
		t.mu.Lock()
		t.ended = nil
		t.mu.Unlock()
		close(ended)
	}()
	for _, p := range t.paths {
		if err := p.open(); err != nil {
			return err
		}
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
	t.mu.Lock()
	pass := t.gate.pass(&r)
	if r.Drop != "" {
		t.drops[string(r.Drop)]++
	}
	t.mu.Unlock()
	if pass {
		t.hand(r)
	}
}
