package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// How long a ticket is valid.
const (
	DefaultTTL = time.Hour
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
)

// Bounds of connections.
const (
	maxConns     = 16
	maxPerSource = 4
	helloWithin  = 10 * time.Second // from connecting to the end of the request
	giveWithin   = 30 * time.Second // to make the bundle, the wait for another one's included
	writeWithin  = 10 * time.Second
)

// Reasons for which something is refused: also status keys and metric labels.
const (
	DropConnections = "connections" // too many at once, in total or of one source
	DropTLS         = "tls"         // no TLS 1.3, no join, or a client that refuses our certificate
	DropTimeout     = "timeout"     // too slow
	DropLength      = "length"      // a request that is too long or cut off
	DropGarbage     = "garbage"     // a request that is none
	DropVersion     = "version"     // a newer protocol than ours
	DropTicket      = "ticket"      // a wrong secret
	DropUsed        = "used"        // a ticket that is used, busy, old or void
	DropDelay       = "delay"       // too soon after a wrong secret
)

// Config is what a Server needs. Event, Drop and Log may be nil.
type Config struct {
	Seed      [32]byte         // of the certificate, derived from the cluster key
	Addresses []netip.AddrPort // where to listen at first, see Configure; none: connections come by Serve only

	// Give makes the bundle for a router whose ticket is good, one at a time.
	// Its error goes to that router, as a sentence, and its ticket stays good.
	// It must not keep on when ctx ends (30 s at most).
	Give func(ctx context.Context, r Request) (Bundle, error)

	Event func(kind, subject, reason string)         // for the event log
	Drop  func(reason string, source netip.AddrPort) // one of the Drop reasons
	Log   *slog.Logger
}

// Server is the side of the running node.
type Server struct {
	cfg  Config
	tls  *tls.Config
	pin  pin
	book keeper

	requests chan issueRequest
	changed  chan struct{} // a ticket may have ended
	giving   chan struct{} // one Give at a time
	ended    chan struct{}

	listen func(netip.AddrPort) (net.Listener, error) // differs in tests only
}

// keeper is the book and what else the connections share.
type keeper struct {
	sync.Mutex
	book
	conns     int
	sources   map[netip.Addr]int
	addresses []netip.AddrPort // where to listen now
}

type issueRequest struct {
	ttl    time.Duration
	answer chan<- issueAnswer
}

type issueAnswer struct {
	ticket Ticket
	err    error
}

// New makes a Server; nothing is opened before Issue.
func New(cfg Config) (*Server, error) {
	cert, p, err := identity(cfg.Seed)
	if err != nil {
		return nil, err
	}
	if cfg.Event == nil {
		cfg.Event = func(string, string, string) {}
	}
	if cfg.Drop == nil {
		cfg.Drop = func(string, netip.AddrPort) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		cfg: cfg, pin: p,
		tls: &tls.Config{
			Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{alpn},
			SessionTicketsDisabled: true, // each router comes once
		},
		book:     keeper{sources: map[netip.Addr]int{}, addresses: slices.Clone(cfg.Addresses)},
		requests: make(chan issueRequest), changed: make(chan struct{}, 1),
		giving: make(chan struct{}, 1), ended: make(chan struct{}),
		listen: func(a netip.AddrPort) (net.Listener, error) { return net.Listen("tcp", a.String()) },
	}, nil
}

// String names the task.
func (s *Server) String() string { return "join" }

// TLS is for a listener that shares the port: what it takes for a client that
// offers our protocol in ALPN, before it gives the connection to Serve. It must
// not be changed.
func (s *Server) TLS() (config *tls.Config, alpnProtocol string) { return s.tls, alpn }

// Open tells whether a ticket is valid now, and so whether the port is open.
func (s *Server) Open() bool {
	s.book.Lock()
	defer s.book.Unlock()
	return s.book.open(time.Now()) > 0
}

// Configure moves the port to other addresses, soon: a ticket that is valid is
// good there from then on, and a router that is being served is served. The same
// addresses change nothing.
func (s *Server) Configure(addresses []netip.AddrPort) {
	s.book.Lock()
	s.book.addresses = slices.Clone(addresses)
	s.book.Unlock()
	s.changes()
}

// Issue makes a ticket that is valid for ttl (0: DefaultTTL), and opens the port
// while one is. It waits for Run, at most until ctx ends.
func (s *Server) Issue(ctx context.Context, ttl time.Duration) (Ticket, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < MinTTL || ttl > MaxTTL {
		return Ticket{}, fmt.Errorf("a ticket cannot be valid for %v: allowed: %v to %v", ttl, MinTTL, MaxTTL)
	}
	answer := make(chan issueAnswer, 1)
	select {
	case s.requests <- issueRequest{ttl, answer}:
		a := <-answer
		return a.ticket, a.err
	case <-s.ended:
		return Ticket{}, errors.New("issue a ticket: the daemon is leaving")
	case <-ctx.Done():
		return Ticket{}, fmt.Errorf("issue a ticket: %w", ctx.Err())
	}
}

// Run issues tickets and serves routers until ctx ends. Once at most.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var d door
	defer d.close()
	defer close(s.ended)
	timer := time.NewTimer(MaxTTL)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.requests:
			var a issueAnswer
			if a.err = s.open(ctx, &d, &wg); a.err == nil {
				a.ticket, a.err = s.issue(r.ttl)
			}
			r.answer <- a
		case <-s.changed:
		case <-timer.C:
		}
		s.book.Lock()
		now := time.Now()
		open, next := s.book.open(now), s.book.deadline(now)
		s.book.Unlock()
		if open == 0 {
			d.close()
		} else if err := s.open(ctx, &d, &wg); err != nil {
			s.cfg.Log.Warn("a ticket is valid and nobody can use it", "error", err)
			if again := now.Add(openAgain); next.IsZero() || again.Before(next) {
				next = again
			}
		}
		if !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
	}
}

func (s *Server) issue(ttl time.Duration) (Ticket, error) {
	now := time.Now()
	t := newTicket(s.pin, now.Add(ttl))
	s.book.Lock()
	err := s.book.issue(t, now)
	s.book.Unlock()
	if err != nil {
		return Ticket{}, err
	}
	s.cfg.Event("operator", "join", fmt.Sprintf("a ticket for one more node was made, valid for %v", ttl))
	return t, nil
}
