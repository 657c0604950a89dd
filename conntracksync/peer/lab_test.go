package peer

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedA = [32]byte{1}
	seedB = [32]byte{2}
)

// recorder is a Handler that remembers, and can be made to wait.
type recorder struct {
	mu     sync.Mutex
	events []string
	frames [][]byte
	gate   atomic.Pointer[chan struct{}]
	on     func(event string) // called for each, in the handler
}

func (r *recorder) note(event string) {
	r.mu.Lock()
	r.events = append(r.events, event)
	on := r.on
	r.mu.Unlock()
	if on != nil {
		on(event)
	}
}

func (r *recorder) Up(node string, _ netip.AddrPort) { r.note("up " + node) }
func (r *recorder) Down(node string, reason Reason, _ error) {
	r.note(fmt.Sprintf("down %s %s", node, reason))
}
func (r *recorder) Overflow(node string) { r.note("overflow " + node) }
func (r *recorder) Frame(_ string, frame []byte, _ bool) {
	if g := r.gate.Load(); g != nil {
		<-*g
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, slices.Clone(frame))
}

// shut makes Frame wait until the returned func is called.
func (r *recorder) shut() (open func()) {
	c := make(chan struct{})
	r.gate.Store(&c)
	return sync.OnceFunc(func() { r.gate.Store(nil); close(c) })
}

func (r *recorder) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *recorder) last() string {
	if all := r.told(); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

func (r *recorder) count(event string) int {
	n := 0
	for _, e := range r.told() {
		if e == event {
			n++
		}
	}
	return n
}

func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, f := range r.frames {
		out = append(out, string(f))
	}
	return out
}

func (r *recorder) taken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.frames)
}

// node is a running Sessions.
type node struct {
	*Sessions
	*recorder
	stop context.CancelFunc
	done chan struct{}
}

func prepare(t testing.TB, cfg Config) *node {
	t.Helper()
	n := &node{recorder: &recorder{}, done: make(chan struct{})}
	if cfg.Handler == nil {
		cfg.Handler = n.recorder
	}
	if os.Getenv("PEER_DEBUG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", cfg.Node)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Sessions = s
	return n
}

func (n *node) run(t testing.TB) *node {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	go func() {
		defer close(n.done)
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { n.end() })
	return n
}

func (n *node) end() {
	n.stop()
	<-n.done
}

func (n *node) dropped(r Reason) uint64 { return n.Counters()[r] }

// cluster is the configuration of each of some nodes at i -> addresses.
func cluster(at map[string][]string) map[string]Config {
	out := map[string]Config{}
	addresses := func(name string) (list []netip.AddrPort) {
		for _, a := range at[name] {
			list = append(list, netip.MustParseAddrPort(a))
		}
		return list
	}
	for name := range at {
		c := Config{Node: name, Addresses: addresses(name), Seeds: [][32]byte{seedA}, Peers: map[string][]netip.AddrPort{}}
		for other := range at {
			if other != name {
				c.Peers[other] = addresses(other)
			}
		}
		out[name] = c
	}
	return out
}

// lab is a network of pipes in virtual time.
type lab struct {
	t     *testing.T
	mu    sync.Mutex
	ports map[netip.AddrPort]*pipeListener
	dark  map[netip.Addr]bool // nothing comes in or out there
	conns []net.Conn
}

// virtually runs a test in a bubble.
func virtually(t *testing.T, test func(*testing.T, *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, ports: map[netip.AddrPort]*pipeListener{}, dark: map[netip.Addr]bool{}}
		t.Cleanup(func() { // what ended in the dark
			for _, c := range l.conns {
				c.Close()
			}
		})
		test(t, l)
	})
}

// pair is r1, which dials, and r2.
func (l *lab) pair(change ...func(name string, c *Config)) (r1, r2 *node) {
	l.t.Helper()
	all := cluster(map[string][]string{"r1": {"192.0.2.1:7947"}, "r2": {"192.0.2.2:7947"}})
	start := func(name string) *node {
		c := all[name]
		for _, f := range change {
			f(name, &c)
		}
		return l.node(c)
	}
	r2 = start("r2")
	synctest.Wait() // it listens
	return start("r1"), r2
}

func (l *lab) node(c Config) *node {
	l.t.Helper()
	return l.wire(prepare(l.t, c)).run(l.t)
}

// wire connects a node to this network.
func (l *lab) wire(n *node) *node {
	n.Sessions.listen, n.Sessions.connect = l.listen, l.connect
	n.Sessions.pace = func() (func(time.Duration), func()) { return time.Sleep, func() {} }
	return n
}

// cut makes an address dark, or not.
func (l *lab) cut(address string, dark bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dark[netip.MustParseAddr(address)] = dark
}

func (l *lab) isDark(w way) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dark[w.local.Addr()] || l.dark[w.remote.Addr()]
}

type pipeListener struct {
	lab   *lab
	at    netip.AddrPort
	conns chan net.Conn
	gone  chan struct{}
	once  sync.Once
}

func (l *lab) listen(_ context.Context, at netip.AddrPort) (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ports[at] != nil {
		return nil, syscall.EADDRINUSE
	}
	p := &pipeListener{lab: l, at: at, conns: make(chan net.Conn), gone: make(chan struct{})}
	l.ports[at] = p
	return p, nil
}

func (p *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(p.at) }
func (p *pipeListener) Close() error {
	p.once.Do(func() {
		p.lab.mu.Lock()
		delete(p.lab.ports, p.at)
		p.lab.mu.Unlock()
		close(p.gone)
	})
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

// pipe is one end, with addresses and, as TCP has it, a buffer. What is written
// in the dark is lost, the end too.
type pipe struct {
	net.Conn
	lab *lab
	way

	mu     sync.Mutex
	out    chan []byte
	shut   bool
	unseen bool // it was shut in the dark
}

func (l *lab) pipe(c net.Conn, w way) *pipe {
	p := &pipe{Conn: c, lab: l, way: w, out: make(chan []byte, 1000)}
	go func() {
		for b := range p.out {
			c.Write(b)
		}
		if !p.unseen {
			c.Close()
		}
	}()
	return p
}

func (p *pipe) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(p.local) }
func (p *pipe) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(p.remote) }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) SetDeadline(t time.Time) error    { return p.SetReadDeadline(t) }

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return 0, net.ErrClosed
	}
	if !p.lab.isDark(p.way) {
		p.out <- slices.Clone(b)
	}
	return len(b), nil
}

func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shut {
		p.shut, p.unseen = true, p.lab.isDark(p.way)
		p.Conn.SetReadDeadline(time.Unix(1, 0))
		close(p.out)
	}
	return nil
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return net.ErrClosed
	}
	return p.Conn.SetReadDeadline(t)
}

func (p *pipe) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return 0, net.ErrClosed
	}
	return n, err
}

var sourcePort atomic.Uint32

func (l *lab) connect(ctx context.Context, w way) (net.Conn, error) {
	if l.isDark(w) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	l.mu.Lock()
	p := l.ports[w.remote]
	l.mu.Unlock()
	if p == nil {
		return nil, syscall.ECONNREFUSED
	}
	from := netip.AddrPortFrom(w.local.Addr(), uint16(30000+sourcePort.Add(1)%30000))
	here, there := net.Pipe()
	l.mu.Lock()
	l.conns = append(l.conns, here, there)
	l.mu.Unlock()
	select {
	case p.conns <- l.pipe(there, way{w.remote, from}):
		return l.pipe(here, way{from, w.remote}), nil
	case <-p.gone:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// within waits in virtual time until ok, and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		synctest.Wait()
		if ok() {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func isUp(n *node, peer string) func() bool {
	return func() bool { return n.last() == "up "+peer }
}

func bothUp(t *testing.T, r1, r2 *node) {
	t.Helper()
	within(t, 2*time.Second, "both up", func() bool { return r1.last() == "up r2" && r2.last() == "up r1" })
}

func barrier(n *node, peer string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return n.Barrier(ctx, peer)
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("error %v, want %q", err, part)
	}
}
