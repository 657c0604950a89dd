package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Sessions is one session with each other node, as far as they can be reached.
type Sessions struct {
	node      string
	handler   Handler
	other     func(string) (*tls.Config, func(context.Context, net.Conn))
	heard     func(node string)
	portTaken func(netip.AddrPort, string)
	log       *slog.Logger
	counters  counters
	door      *door

	mu      sync.Mutex // of Configure
	roster  atomic.Pointer[roster]
	changed chan struct{}

	// These differ in tests only.
	listen  func(context.Context, netip.AddrPort) (net.Listener, error)
	connect func(context.Context, way) (net.Conn, error)
	pace    func() (pause func(time.Duration), end func())
}

// New checks the configuration. Nothing is opened before Run.
func New(cfg Config) (*Sessions, error) {
	r, err := newRoster(cfg)
	if err != nil {
		return nil, err
	}
	s := &Sessions{
		node: cfg.Node, handler: cfg.Handler, other: cfg.Other, heard: cfg.Heard, portTaken: cfg.Taken, log: cfg.Log, door: newDoor(), changed: make(chan struct{}, 1),
		counters: counters{tell: cfg.Drop, n: map[Reason]uint64{}, told: map[Reason]*allowance{}},
		listen:   listen, connect: connect, pace: pace,
	}
	if s.heard == nil {
		s.heard = func(string) {}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.portTaken == nil {
		s.portTaken = func(netip.AddrPort, string) {}
	}
	for name := range cfg.Peers {
		r.links[name] = newLink(s, name)
	}
	s.roster.Store(r)
	return s, nil
}

// String names the task.
func (s *Sessions) String() string { return "state sync" }

// Configure takes other addresses, peers, keys, and another Queue (for new
// sessions). The node's name, Frames, Handler, Other, Heard, Drop, Taken and Log
// stay as New got
// them. A session goes on if its two addresses and the other side's key are
// still configured.
func (s *Sessions) Configure(cfg Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cfg.Node != s.node {
		return fmt.Errorf("set up state sync: the node %s cannot become %s while it runs", s.node, cfg.Node)
	}
	cfg.Handler, cfg.Frames = s.handler, s.roster.Load().cfg.Frames
	r, err := newRoster(cfg)
	if err != nil {
		return err
	}
	for name := range cfg.Peers {
		if r.links[name] = s.roster.Load().links[name]; r.links[name] == nil {
			r.links[name] = newLink(s, name)
		}
	}
	s.roster.Store(r)
	for _, l := range r.links {
		l.recheck()
		poke(l.changed)
	}
	poke(s.changed)
	return nil
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run keeps the port open and a session with each node until ctx ends, then
// says goodbye. It waits for the Handler. Once at most; its error is always nil.
func (s *Sessions) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	listening := map[netip.AddrPort]context.CancelFunc{}
	linked := map[*link]context.CancelCauseFunc{}
	former := map[string]*link{} // by name: the next one waits for its end
	for {
		r := s.roster.Load()
		for at, stop := range listening {
			if !slices.ContainsFunc(r.cfg.Addresses, func(a netip.AddrPort) bool { return plain(a) == at }) {
				stop()
				delete(listening, at)
			}
		}
		for l, stop := range linked {
			if r.links[l.node] != l {
				stop(errRemoved)
				delete(linked, l)
				former[l.node] = l
			}
		}
		for _, at := range r.cfg.Addresses {
			at = plain(at)
			if listening[at] == nil {
				ctx, stop := context.WithCancel(ctx)
				listening[at] = stop
				wg.Go(func() { s.listenOn(ctx, at) })
			}
		}
		for _, l := range r.links {
			if linked[l] == nil {
				ctx, stop := context.WithCancelCause(ctx)
				linked[l] = stop
				before := former[l.node]
				delete(former, l.node)
				wg.Go(func() {
					if before != nil {
						<-before.ended
					}
					l.run(ctx)
				})
			}
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			for _, stop := range listening {
				stop()
			}
			for _, stop := range linked {
				stop(ctx.Err())
			}
			return nil
		}
	}
}

// Send queues a frame of at most MaxFrame bytes for a node, and copies it. It
// never blocks. False means that it will not arrive: there is no session, or
// the queue was full and all of it was dropped (Handler.Overflow), or is still
// to be told so. Frames come in order and once.
func (s *Sessions) Send(node string, frame []byte) bool { return s.send(node, kindData, frame) }

// Restart ends the session with a node, if there is one, and begins another:
// what the two understood of each other is void. The error is that of Down. One
// that comes again and again is tried at longer and longer intervals.
func (s *Sessions) Restart(node string, reason Reason, err error) {
	if session := s.session(node); session != nil {
		session.farewell(byeAgain, &fault{reason, err})
	}
}

// SendUrgent is Send for a small frame that overtakes all that is queued on
// either side and was sent by Send. Urgent frames keep their order. At most
// 64 KiB of them may wait; more is an overflow.
func (s *Sessions) SendUrgent(node string, frame []byte) bool {
	return s.send(node, kindUrgent, frame)
}

func (s *Sessions) send(node string, k kind, frame []byte) bool {
	session := s.session(node)
	if session == nil {
		return false
	}
	if len(frame) > MaxFrame {
		s.log.Error("a frame for state sync is too long, and was not sent", "node", node, "bytes", len(frame), "allowed", MaxFrame)
		return false
	}
	switch session.out.send(k, frame) {
	case sentYes:
		return true
	case sentOverflow:
		s.counters.count(ReasonOverflow, session.remote.Addr())
		s.log.Info("state sync overflows", "node", node)
		session.in.signal()
	case sentNo:
	}
	return false
}

func (s *Sessions) session(node string) *session {
	if l := s.roster.Load().links[node]; l != nil {
		return l.session.Load()
	}
	return nil
}

// Barrier returns nil once all frames for which Send and SendUrgent returned
// true before were received and handled: the other side's Handler has returned
// from them. Else an error: ctx ended, or the session, or frames were dropped.
func (s *Sessions) Barrier(ctx context.Context, node string) error {
	session := s.session(node)
	if session == nil {
		return fmt.Errorf("wait for %s to handle all: there is no session with it", node)
	}
	reached, err := session.out.barrier(time.Now())
	if err == nil {
		select {
		case err = <-reached:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("wait for %s to handle all: %w", node, err)
	}
	return nil
}

// Lag tells how far a node is behind; false without a session.
func (s *Sessions) Lag(node string) (Lag, bool) {
	session := s.session(node)
	if session == nil {
		return Lag{}, false
	}
	return session.out.lag(time.Now()), true
}

// Counters returns how often what was refused, since New.
func (s *Sessions) Counters() map[Reason]uint64 { return s.counters.all() }

// Peers returns the nodes with which there is a session, sorted.
func (s *Sessions) Peers() []string {
	var up []string
	for name, l := range s.roster.Load().links {
		if l.session.Load() != nil {
			up = append(up, name)
		}
	}
	slices.Sort(up)
	return up
}

// refused counts a fault if it is one to count.
func (s *Sessions) refused(f *fault, source netip.Addr) {
	if f.reason.counted() {
		s.counters.count(f.reason, source)
	}
}
