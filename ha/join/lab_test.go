package join

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// lab is a server with a network of pipes, in virtual time.
type lab struct {
	t *testing.T
	*Server
	stop context.CancelFunc

	mu      sync.Mutex
	port    chan net.Conn // nil: closed
	at      netip.AddrPort
	drops   []string
	events  []string
	handing atomic.Int32 // calls of Give under way
	give    func(context.Context, Request) (Bundle, error)
	deny    error // of listen
}

// virtually runs a test of a server in a bubble.
func virtually(t *testing.T, test func(*lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, give: func(context.Context, Request) (Bundle, error) { return testBundle(), nil }}
		s, err := New(Config{
			Seed: [32]byte{1}, Addresses: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:7947")},
			Give: func(ctx context.Context, r Request) (Bundle, error) {
				if l.handing.Add(1) > 1 {
					t.Error("two calls of Give at once")
				}
				defer l.handing.Add(-1)
				return l.give(ctx, r)
			},
			Event: func(kind, subject, reason string) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.events = append(l.events, kind+" "+subject+": "+reason)
			},
			Drop: func(reason string, _ netip.AddrPort) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.drops = append(l.drops, reason)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.listen = l.listen
		l.Server = s
		ctx, cancel := context.WithCancel(context.Background())
		l.stop = cancel
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if l.isOpen() {
				t.Error("the port is still open")
			}
		}()
		test(l)
	})
}

type pipeListener struct {
	lab   *lab
	conns chan net.Conn
	gone  chan struct{}
}

func (l *lab) listen(at netip.AddrPort) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deny != nil {
		return nil, l.deny
	}
	if l.port != nil {
		l.t.Error("the port is opened twice")
	}
	p := &pipeListener{lab: l, conns: make(chan net.Conn), gone: make(chan struct{})}
	l.port, l.at = p.conns, at
	return p, nil
}

func (p *pipeListener) Addr() net.Addr { return address("192.0.2.1:7947") }
func (p *pipeListener) Close() error {
	p.lab.mu.Lock()
	p.lab.port = nil
	p.lab.mu.Unlock()
	close(p.gone)
	return nil
}
func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// pipe is one end, with the address of the other.
type pipe struct {
	net.Conn
	remote address
}

func (p pipe) RemoteAddr() net.Addr { return p.remote }

// dial connects from a source.
func (l *lab) dial(source string) net.Conn {
	l.t.Helper()
	l.mu.Lock()
	port := l.port
	l.mu.Unlock()
	if port == nil {
		l.t.Fatal("the port is closed")
	}
	here, there := net.Pipe()
	port <- pipe{there, address(source)}
	return client{here}
}

// client says of a closed pipe what is said of a closed socket.
type client struct{ net.Conn }

func (c client) Read(b []byte) (int, error)  { n, err := c.Conn.Read(b); return n, reset(err) }
func (c client) Write(b []byte) (int, error) { n, err := c.Conn.Write(b); return n, reset(err) }

func reset(err error) error {
	if errors.Is(err, io.ErrClosedPipe) {
		return syscall.ECONNRESET
	}
	return err
}

func (l *lab) isOpen() bool {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.port != nil
}

func (l *lab) issue(ttl time.Duration) Ticket {
	l.t.Helper()
	ticket, err := l.Issue(context.Background(), ttl)
	if err != nil {
		l.t.Fatal(err)
	}
	return ticket
}

// join is a new router at a source.
func (l *lab) join(source string, ticket Ticket) (Bundle, error) {
	l.t.Helper()
	return fetch(context.Background(), l.dial(source), "192.0.2.1:7947", ticket, testRequest())
}

// dropped tells what was refused since the last call, sorted.
func (l *lab) dropped() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.drops
	l.drops = nil
	slices.Sort(d)
	return d
}

func (l *lab) told(event string) bool {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.events, event)
}

// wrongTicket has the right pin and another secret.
func (l *lab) wrongTicket() Ticket { return newTicket(l.pin, time.Time{}) }

const (
	here  = "192.0.2.9:40000"
	there = "192.0.2.10:40000"
)

var errNoRoom = errors.New("the cluster has a node r3 already")
