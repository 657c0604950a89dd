package gossip

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// answer is what a scripted node does with a stream once it has it whole.
type answer func(net.Conn)

func confirms(c net.Conn) { c.Write([]byte{confirmed}) }
func refuses(net.Conn)    {}
func otherByte(c net.Conn) {
	c.Write([]byte{confirmed + 1})
}

func confirmsAfter(d time.Duration) answer {
	return func(c net.Conn) {
		<-time.After(d)
		confirms(c)
	}
}

// silent never answers; it ends with the stream.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

// listens is a scripted node at an address; nobody listens there without one.
func (s *site) listens(at netip.Addr, size int, do answer) {
	if do == nil {
		return
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, uint16(s.port)).String())
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := io.ReadFull(conn, make([]byte, size)); err == nil {
				do(conn)
			}
			conn.Close()
		}
	}()
	s.t.Cleanup(func() { l.Close(); <-done })
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	soon := headStart * 8 / 10
	for name, c := range map[string]struct {
		size          int
		first, second answer
		over          int // path, 0 none
		within        time.Duration
	}{
		"the first answers":           {100, confirms, confirms, 1, soon},
		"nobody at the first":         {100, nil, confirms, 2, soon},
		"the first refuses":           {100, refuses, confirms, 2, soon},
		"another byte":                {100, otherByte, confirms, 2, soon},
		"the first is silent":         {100, silent, confirms, 2, headStart + soon},
		"the first is late":           {100, confirmsAfter(headStart + 50*time.Millisecond), silent, 1, headStart + 50*time.Millisecond + soon},
		"both are late":               {100, confirmsAfter(headStart + 50*time.Millisecond), confirmsAfter(0), 2, headStart + soon},
		"both refuse":                 {100, refuses, otherByte, 0, soon},
		"both are silent":             {100, silent, silent, 0, streamTimeout + headStart + 200*time.Millisecond},
		"a large one over a slow one": {maxPayload, confirmsAfter(900 * time.Millisecond), nil, 1, 1100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			cfg := s.config(1, 1)
			cfg.Addresses = []netip.Addr{s.addr(1), s.addr(11)}
			cfg.Peers["r2"] = []netip.Addr{s.addr(2), s.addr(12)}
			s.listens(s.addr(2), c.size, c.first)
			s.listens(s.addr(12), c.size, c.second)
			g := New(cfg)
			tr, err := newTransport(g, &cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Shutdown()
			var conn net.Conn
			var got netip.Addr
			want := s.addr(2 + 10*(c.over-1))
			for try := 1; ; try++ { // the machine may stand still for a moment
				g.roster.Load().peers["r2"].answered.Store(nil)
				begin := time.Now()
				conn, err = tr.confirm("r2", make([]byte, c.size))
				took := time.Since(begin)
				if err == nil {
					got = conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
				}
				if (err == nil) == (c.over != 0) && took <= c.within && (err != nil || got == want) {
					break
				} else if try == 5 {
					t.Fatalf("took %s, over %s, error %v", took, got, err)
				}
				t.Logf("took %s, over %s, error %v", took, got, err)
				if conn != nil {
					conn.Close()
				}
			}
			answered := g.roster.Load().peers["r2"].answered.Load()
			if c.over == 0 {
				if answered != nil {
					t.Error("an answer is remembered")
				}
				return
			}
			defer conn.Close()
			if answered.remote != want {
				t.Errorf("over %s, remembered %s, want %s", got, answered.remote, want)
			}
		})
	}
	g := New(Config{Node: "r1"})
	if conn, err := (&transport{roster: &g.roster}).confirm("r9", nil); conn != nil || err == nil {
		t.Error("sent to a node that the file does not have")
	}
}

// A node's stream may be slow or break off: paths are and do. A stranger's may
// not.
func TestSlowAndBrokenStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.start(s.config(1, 2))
	await(t, "running", a.hasMembers("r1"))

	// what another node would write
	label := append([]byte{labelByte, 4}, "home"...)
	whole := make(chan []byte, 1)
	double := s.config(2, 2)
	double.Node, double.Addresses = "r2", []netip.Addr{s.addr(2)}
	double.Peers = map[string][]netip.Addr{"r1": {s.addr(3)}}
	l, err := net.Listen("tcp", netip.AddrPortFrom(s.addr(3), uint16(s.port)).String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer l.Close()
		if conn, err := l.Accept(); err == nil {
			defer conn.Close()
			b := make([]byte, 4096)
			n, _ := conn.Read(b)
			whole <- b[:n]
		}
	}()
	b := s.start(double)
	var message []byte
	select {
	case message = <-whole:
	case <-time.After(patience):
		t.Fatal("nothing was written")
	}
	b.end()

	dial := func(from netip.Addr) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
		conn, err := d.DialContext(context.Background(), "tcp", netip.AddrPortFrom(s.addr(1), uint16(s.port)).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	node, stranger := dial(s.addr(2)), dial(s.addr(4))
	half := len(message) / 2
	node.Write(message[:half])
	stranger.Write(message[:half])
	await(t, "refused", func() bool { return a.Counters()[DropGarbage] == 1 }) // after streamTimeout
	node.Write(message[half:])
	node.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadFull(node, make([]byte, 1)); got != 1 {
		t.Errorf("a slow stream of a node: %v", err)
	}

	for _, part := range [][]byte{label[:3], message[:len(label)+2], message[:half]} {
		conn := dial(s.addr(2))
		conn.Write(part)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(patience))
		if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
			t.Errorf("a stream that broke off: %q, %v", rest, err)
		}
	}
	if got := a.Counters()[DropGarbage]; got != 1 {
		t.Errorf("a node's broken streams count as garbage: %d", got-1)
	}
	conn := dial(s.addr(2))
	conn.Write(bytes.Repeat([]byte("x"), 100))
	await(t, "counted", func() bool { return a.Counters()[DropGarbage] == 2 })
}
