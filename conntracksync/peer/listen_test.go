package peer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	at1 = netip.MustParseAddrPort("192.0.2.1:7947")
	at2 = netip.MustParseAddrPort("192.0.2.2:7947")
	at9 = netip.MustParseAddrPort("192.0.2.9:7947")
)

// knock connects to r2 from a source.
func (l *lab) knock(source netip.AddrPort) net.Conn {
	l.t.Helper()
	conn, err := l.connect(context.Background(), way{source, at2})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	return conn
}

// TestPortTaken: another program has the port for a while. That is told once, and
// its end, also that by another configuration.
func TestPortTaken(t *testing.T) {
	for name, end := range map[string]func(n *node, c Config, thief net.Listener){
		"it ends":  func(_ *node, _ Config, thief net.Listener) { thief.Close() },
		"moved":    func(n *node, c Config, _ net.Listener) { c.Addresses = []netip.AddrPort{at9}; n.Configure(c) },
		"we leave": func(n *node, _ Config, _ net.Listener) { n.end() },
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				thief, err := l.listen(t.Context(), at2)
				if err != nil {
					t.Fatal(err)
				}
				defer thief.Close()
				var mu sync.Mutex
				var told []string
				cfg := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})["r2"]
				cfg.Taken = func(at netip.AddrPort, text string) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, fmt.Sprint(at, ": ", strings.Contains(text, "taken by another program")))
				}
				n := l.node(cfg)
				time.Sleep(5 * time.Second)
				end(n, cfg, thief)
				time.Sleep(time.Second)
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if diff := cmp.Diff([]string{"192.0.2.2:7947: true", "192.0.2.2:7947: false"}, told); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestOtherKeys: the nodes differ in what they know of each other.
func TestOtherKeys(t *testing.T) {
	mistyped := func(c *Config) { // r1 believes that r2 is called rx
		c.Peers = map[string][]netip.AddrPort{"rx": c.Peers["r2"]}
	}
	for name, v := range map[string]struct {
		r1, r2         func(*Config)
		r1Told, r2Told string
	}{
		"same key":          {nil, nil, "up r2", "up r1"},
		"other key":         {nil, func(c *Config) { c.Seeds = [][32]byte{seedB} }, "down r2 key", "down r1 key"},
		"r2 has a newer":    {nil, func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, "up r2", "up r1"},
		"r1 has a newer":    {func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, nil, "up r2", "up r1"},
		"both have a newer": {func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, "up r2", "up r1"},
		"r2 accepts newer":  {func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, func(c *Config) { c.Seeds = [][32]byte{seedA, seedB} }, "up r2", "up r1"},
		"both newer":        {func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, func(c *Config) { c.Seeds = [][32]byte{seedB} }, "up r2", "up r1"},
		"other name":        {mistyped, nil, "down rx key", "down r1 key"},
		"r1 is not in file": {nil, func(c *Config) { c.Peers = nil }, "down r2 key", ""},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				r1, r2 := l.pair(func(name string, c *Config) {
					if f := map[string]func(*Config){"r1": v.r1, "r2": v.r2}[name]; f != nil {
						f(c)
					}
				})
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if diff := cmp.Diff(v.r1Told, strings.Join(r1.told(), ", ")); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(v.r2Told, strings.Join(r2.told(), ", ")); diff != "" {
					t.Error(diff)
				}
				if bad := strings.Contains(v.r1Told, "key"); bad != (r1.dropped(ReasonKey) > 0) || bad != (r2.dropped(ReasonKey) > 0) {
					t.Errorf("counted: %v, %v", r1.Counters(), r2.Counters())
				}
			})
		})
	}
}

// TestStrangers: what comes to the port and is no node, or not as it should be.
func TestStrangers(t *testing.T) {
	all := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})
	talk := func(frames ...[]byte) func(*testing.T, net.Conn) {
		return func(t *testing.T, c net.Conn) {
			st := fake(t, all["r1"], way{at1, at2}, c)
			if err := handshake(st); err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				st.conn.Write(f)
			}
			for {
				if _, _, err := st.next(); err != nil {
					return
				}
			}
		}
	}
	greeting := func(newest, oldest uint16) []byte {
		return appendFrame(nil, kindHello, hello{newest, oldest, 0}.encode())
	}
	offer := func(protos ...string) func(*testing.T, net.Conn) {
		return func(t *testing.T, c net.Conn) {
			err := tls.Client(c, &tls.Config{NextProtos: protos, InsecureSkipVerify: true}).Handshake()
			if err == nil {
				t.Error("the handshake went well")
			}
		}
	}
	write := func(b []byte) func(*testing.T, net.Conn) {
		return func(_ *testing.T, c net.Conn) {
			c.Write(b)
			c.Read(make([]byte, 100))
		}
	}
	for name, v := range map[string]struct {
		source  netip.AddrPort
		do      func(*testing.T, net.Conn)
		counted Reason
		told    string // to the handler
	}{
		"says nothing":         {at9, func(_ *testing.T, c net.Conn) { c.Read(make([]byte, 1)) }, ReasonTimeout, ""},
		"http":                 {at9, write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")), ReasonTLS, ""},
		"zeros":                {at9, write(make([]byte, 3000)), ReasonTLS, ""},
		"no protocol":          {at9, offer(), ReasonTLS, ""},
		"http/2":               {at9, offer("h2", "http/1.1"), ReasonTLS, ""},
		"join while closed":    {at9, offer("harouter-join/1"), ReasonTLS, ""},
		"a later protocol":     {at9, offer("harouter-sync/2"), ReasonVersion, ""},
		"of a node":            {at1, offer("harouter-sync/2"), ReasonVersion, "down r1 version"},
		"a newer node":         {at1, talk(greeting(3, 2)), ReasonVersion, "down r1 version"},
		"garbage of a node":    {at1, talk([]byte("hello, hello")), ReasonGarbage, "down r1 garbage"},
		"versions upside down": {at1, talk(greeting(1, 2)), ReasonGarbage, "down r1 garbage"},
		"frames too early":     {at1, talk(greeting(1, 1), appendFrame(nil, kindData, nil)), ReasonGarbage, "down r1 garbage"},
		"one that hangs up":    {at9, func(*testing.T, net.Conn) {}, "", ""},
		"hello in a session": {at1, talk(greeting(1, 1), appendFrame(nil, kindGo, nil), greeting(1, 1)), ReasonGarbage,
			"up r1, down r1 garbage"},
		"credit for nothing": {at1, talk(greeting(1, 1), appendFrame(nil, kindGo, nil), appendNumber(nil, kindCredit, 1<<40)), ReasonGarbage,
			"up r1, down r1 garbage"},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				var drops atomic.Int32
				c := all["r2"]
				c.Drop = func(r Reason, source netip.Addr) {
					drops.Add(1)
					if r != v.counted || source != v.source.Addr() {
						t.Errorf("dropped %s of %v", r, source)
					}
				}
				r2 := l.node(c)
				synctest.Wait()
				conn := l.knock(v.source)
				v.do(t, conn)
				conn.Close()
				time.Sleep(greetWithin + time.Second)
				synctest.Wait()
				want := map[Reason]uint64{}
				if v.counted != "" {
					want[v.counted] = 1
				}
				if diff := cmp.Diff(want, r2.Counters()); diff != "" || int(drops.Load()) != len(want) {
					t.Error(diff, drops.Load())
				}
				if got := strings.Join(r2.told(), ", "); got != v.told {
					t.Errorf("the handler was told %q, want %q", got, v.told)
				}
				r1 := l.node(all["r1"]) // the real one
				within(t, 2*time.Second, "a session afterwards", isUp(r1, "r2"))
			})
		})
	}
}

// tape keeps what is written.
type tape struct {
	net.Conn
	b []byte
}

func (t *tape) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	return t.Conn.Write(b)
}

// TestReplay: what a node once said is nothing that anybody can say again.
func TestReplay(t *testing.T) {
	all := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})
	virtually(t, func(t *testing.T, l *lab) {
		r2 := l.node(all["r2"])
		synctest.Wait()
		said := &tape{Conn: l.knock(at1)}
		st := fake(t, all["r1"], way{at1, at2}, said)
		if err := handshake(st); err != nil {
			t.Fatal(err)
		}
		if err := st.greet(0); err != nil {
			t.Fatal(err)
		}
		for _, f := range [][]byte{appendFrame(nil, kindGo, nil), appendFrame(nil, kindData, []byte("a flow"))} {
			if _, err := st.conn.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		within(t, time.Second, "the frame", func() bool { return len(r2.got()) == 1 })
		st.close()
		within(t, 2*time.Second, "the end", func() bool { return strings.HasPrefix(r2.last(), "down r1") })
		for _, source := range []netip.AddrPort{at1, at9} {
			before := r2.told()
			conn := l.knock(source)
			if _, err := conn.Write(said.b); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * greetWithin)
			synctest.Wait()
			if up := r2.count("up r1"); up != 1 || len(r2.got()) != 1 {
				t.Errorf("again from %v: %d sessions, frames %q (%q before)", source, up, r2.got(), before)
			}
		}
		if n := r2.dropped(ReasonTLS) + r2.dropped(ReasonTimeout); n != 2 {
			t.Errorf("counted: %v", r2.Counters())
		}
	})
}

// TestTooManyStrangers: they do not take the places of the nodes.
func TestTooManyStrangers(t *testing.T) {
	all := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})
	virtually(t, func(t *testing.T, l *lab) {
		var told atomic.Int32
		c := all["r2"]
		c.Drop = func(Reason, netip.Addr) { told.Add(1) }
		r2 := l.node(c)
		synctest.Wait()
		source := at9
		for i := range 200 {
			if i%3 == 0 {
				source = netip.AddrPortFrom(source.Addr().Next(), 1)
			}
			l.knock(source)
		}
		synctest.Wait()
		if n := r2.dropped(ReasonConnections); n != 200-maxStrangers {
			t.Errorf("%d refused", n)
		}
		if n := told.Load(); n != tellRate {
			t.Errorf("told %d times", n)
		}
		begin := time.Now()
		r1 := l.node(all["r1"])
		within(t, time.Second, "a session beside them", isUp(r1, "r2"))
		t.Logf("up after %v", time.Since(begin))
		for range 100 { // in time, some a second
			time.Sleep(10 * time.Millisecond)
			conn := l.knock(at9)
			conn.Close()
		}
		if n := r2.dropped(ReasonConnections); n < 200-maxStrangers+50 {
			t.Errorf("%d refused", n)
		}
		time.Sleep(time.Minute)
		r2.door.mu.Lock()
		defer r2.door.mu.Unlock()
		if r2.door.strangers != 0 || len(r2.door.sources) != 0 {
			t.Errorf("places are taken for ever: %d, %v", r2.door.strangers, r2.door.sources)
		}
		if r1.last() != "up r2" {
			t.Errorf("r1: %v", r1.told())
		}
	})
}

// TestNewerListener: the other side is newer, and answers.
func TestNewerListener(t *testing.T) {
	all := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})
	for name, v := range map[string]struct {
		alpn string
		say  hello
	}{
		"in its greeting": {alpn, hello{3, 2, 0}},
		"in ALPN":         {"harouter-sync/2", hello{}},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				c := all["r2"]
				c.Handler = &recorder{}
				r, err := newRoster(c)
				if err != nil {
					t.Fatal(err)
				}
				listener, err := l.listen(t.Context(), at2)
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
				go func() {
					for {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						st := newStream(conn, way{at2, at1})
						cfg := r.serverTLS("")
						cfg.NextProtos = []string{v.alpn}
						st.conn = tls.Server(st.raw, cfg)
						if handshake(st) == nil {
							st.expect(kindHello)
							st.conn.Write(appendFrame(nil, kindHello, v.say.encode()))
						}
						st.close()
					}
				}()
				r1 := l.node(all["r1"])
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if diff := cmp.Diff([]string{"down r2 version"}, r1.told()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// TestOther: connections with another protocol are given away while somebody
// takes them.
func TestOther(t *testing.T) {
	all := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})
	virtually(t, func(t *testing.T, l *lab) {
		var open atomic.Bool
		cert, err := certificate(seedB, "join")
		if err != nil {
			t.Fatal(err)
		}
		c := all["r2"]
		c.Other = func(proto string) (*tls.Config, func(context.Context, net.Conn)) {
			if proto != "harouter-join/1" || !open.Load() {
				return nil, nil
			}
			return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{proto}},
				func(ctx context.Context, conn net.Conn) {
					defer conn.Close()
					for i := range 100 { // longer than the handshake may take
						time.Sleep(100 * time.Millisecond)
						fmt.Fprintf(conn, "%d\n", i%10)
					}
				}
		}
		r2 := l.node(c)
		r1 := l.node(all["r1"])
		within(t, 2*time.Second, "a session", isUp(r1, "r2"))
		try := func() (int, error) {
			conn := l.knock(at9)
			defer conn.Close()
			join := tls.Client(conn, &tls.Config{NextProtos: []string{"harouter-join/1"}, InsecureSkipVerify: true})
			if err := join.Handshake(); err != nil {
				return 0, err
			}
			n, buf := 0, make([]byte, 100)
			for {
				m, err := join.Read(buf)
				n += m
				if err != nil {
					return n, nil
				}
			}
		}
		if _, err := try(); err == nil {
			t.Error("it was answered while closed")
		}
		open.Store(true)
		if n, err := try(); n != 200 || err != nil {
			t.Errorf("%d bytes came, error %v", n, err)
		}
		open.Store(false)
		if _, err := try(); err == nil {
			t.Error("it is answered after it was closed")
		}
		if got := r1.last() + ", " + r2.last(); got != "up r2, up r1" {
			t.Error(got)
		}
	})
}
