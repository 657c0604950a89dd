package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %v, want %q", what, err, want)
	}
}

func (l *lab) wantDrops(want ...string) {
	l.t.Helper()
	if diff := cmp.Diff(want, l.dropped(), cmpopts.EquateEmpty()); diff != "" {
		l.t.Errorf("drops: %s", diff)
	}
}

func TestJoin(t *testing.T) {
	virtually(t, func(l *lab) {
		if l.isOpen() || l.Open() {
			t.Error("the port is open without a ticket")
		}
		var asked Request
		l.give = func(_ context.Context, r Request) (Bundle, error) {
			asked = r
			return testBundle(), nil
		}
		ticket := l.issue(0)
		if got, want := time.Until(ticket.Until()), DefaultTTL; got != want {
			t.Errorf("valid for %v, want %v", got, want)
		}
		if !l.isOpen() || !l.Open() {
			t.Error("the port is closed")
		}
		b, err := l.join(here, ticket)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(testBundle(), b); diff != "" {
			t.Error(diff)
		}
		want := testRequest()
		want.From = netip.MustParseAddr("192.0.2.9")
		if diff := cmp.Diff(want, asked, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Error(diff)
		}
		if l.isOpen() || l.Open() {
			t.Error("the port is open after the last ticket")
		}
		if !l.told("operator join: a ticket for one more node was made, valid for 1h0m0s") || !l.told("node r3: joined from 192.0.2.9 with a ticket") {
			t.Errorf("events %q", l.events)
		}
		l.wantDrops()

		// A used one, while another keeps the port open.
		other := l.issue(time.Hour)
		_, err = l.join(here, ticket)
		wantError(t, "used", err, "the ticket was used already, by r3: make a new one")
		l.wantDrops(DropUsed)
		if _, err := l.join(there, other); err != nil {
			t.Error(err)
		}
	})
}

func TestTicketEndsByTime(t *testing.T) {
	virtually(t, func(l *lab) {
		old := l.issue(time.Minute)
		young := l.issue(time.Hour)
		time.Sleep(time.Minute)
		_, err := l.join(here, old)
		wantError(t, "old", err, "the ticket is too old")
		l.wantDrops(DropUsed)
		time.Sleep(59*time.Minute - 1)
		if !l.isOpen() {
			t.Error("the port closed too early")
		}
		time.Sleep(time.Nanosecond)
		if l.isOpen() {
			t.Error("the port is open after the last ticket")
		}
		_ = young
		l.issue(time.Minute)
		if !l.isOpen() {
			t.Error("the port did not open again")
		}
	})
}

// TestPortMoves: a reload gave this node another address while a ticket is valid.
func TestPortMoves(t *testing.T) {
	virtually(t, func(l *lab) {
		first, second := netip.MustParseAddrPort("192.0.2.1:7947"), netip.MustParseAddrPort("192.0.2.7:8000")
		where := func(what string, want netip.AddrPort) {
			t.Helper()
			if !l.isOpen() || l.at != want {
				t.Errorf("%s: open %v at %v, want %v", what, l.isOpen(), l.at, want)
			}
		}
		l.Configure([]netip.AddrPort{second})
		if l.isOpen() {
			t.Error("the port is open without a ticket")
		}
		l.Configure([]netip.AddrPort{first})
		ticket := l.issue(time.Hour)
		where("first", first)
		port := l.port
		l.Configure([]netip.AddrPort{first})
		if where("the same", first); l.port != port {
			t.Error("the same address: the port was closed and opened")
		}

		l.give = func(context.Context, Request) (Bundle, error) {
			l.Configure([]netip.AddrPort{second}) // as a join itself may do
			where("while a router is served", second)
			return testBundle(), nil
		}
		other := l.issue(time.Hour)
		if _, err := l.join(here, ticket); err != nil {
			t.Error(err)
		}
		where("moved", second)

		l.mu.Lock()
		l.deny = syscall.EADDRNOTAVAIL
		l.mu.Unlock()
		l.Configure([]netip.AddrPort{first})
		if l.isOpen() {
			t.Error("the port is open at an address that is not there")
		}
		l.mu.Lock()
		l.deny = nil
		l.mu.Unlock()
		time.Sleep(openAgain)
		where("the address came later", first)
		l.give = func(context.Context, Request) (Bundle, error) { return testBundle(), nil }
		if _, err := l.join(here, other); err != nil {
			t.Error(err)
		}
	})
}

func TestIssueRefuses(t *testing.T) {
	virtually(t, func(l *lab) {
		for _, ttl := range []time.Duration{-1, time.Second - 1, 24*time.Hour + 1} {
			_, err := l.Issue(context.Background(), ttl)
			wantError(t, ttl.String(), err, "allowed: 1s to 24h0m0s")
		}
		for _, v := range []struct {
			err  error
			want string
		}{
			{syscall.EADDRINUSE, "the sync port 192.0.2.1:7947 is taken by another program"},
			{syscall.EADDRNOTAVAIL, "this machine does not have the address 192.0.2.1"},
			{syscall.EMFILE, "listen for a new router on 192.0.2.1:7947: too many open files"},
		} {
			l.deny = &net.OpError{Op: "listen", Err: v.err}
			_, err := l.Issue(context.Background(), 0)
			if v.err == syscall.EMFILE {
				v.want = "listen for a new router on 192.0.2.1:7947"
			}
			wantError(t, "listen", err, v.want)
			if l.Open() {
				t.Error("a ticket is valid that nobody has")
			}
		}
		l.deny = nil
		for range maxOpen {
			l.issue(0)
		}
		_, err := l.Issue(context.Background(), 0)
		wantError(t, "too many", err, "16 tickets are valid already")
		l.stop()
		synctest.Wait()
		_, err = l.Issue(context.Background(), 0)
		wantError(t, "after the end", err, "the daemon is leaving")
	})
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Issue(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody runs it: error %v", err)
	}
}

func TestGiveFails(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		good := l.give
		for _, v := range []struct {
			give func(context.Context, Request) (Bundle, error)
			want string
		}{
			{func(context.Context, Request) (Bundle, error) { return Bundle{}, errNoRoom }, "refuses: the cluster has a node r3 already"},
			{func(context.Context, Request) (Bundle, error) { return Bundle{}, errors.New("two\nlines\x1b") }, "refuses: two lines"},
			{func(context.Context, Request) (Bundle, error) { return Bundle{}, nil }, "does not have the hash"},
			{func(ctx context.Context, _ Request) (Bundle, error) {
				<-ctx.Done()
				return Bundle{}, errors.New("the other nodes do not answer")
			}, "the other nodes do not answer"},
		} {
			l.give = v.give
			_, err := l.join(here, ticket)
			wantError(t, "give", err, v.want)
		}
		l.wantDrops()
		if !l.told("sync r3: could not join from 192.0.2.9: the cluster has a node r3 already") {
			t.Errorf("events %q", l.events)
		}
		l.give = good
		if _, err := l.join(here, ticket); err != nil {
			t.Errorf("the ticket is lost: %v", err)
		}
	})
}

func TestOneTicketOneRouter(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		l.give = func(context.Context, Request) (Bundle, error) {
			time.Sleep(time.Second)
			return testBundle(), nil
		}
		const n = 4
		errs := make(chan error, n)
		for i := range n {
			go func() {
				_, err := l.join(fmt.Sprintf("192.0.2.%d:40000", 100+i), ticket)
				errs <- err
			}()
		}
		won := 0
		for range n {
			if err := <-errs; err == nil {
				won++
			} else {
				wantError(t, "lost", err, "another router is joining with this ticket")
			}
		}
		if won != 1 {
			t.Errorf("%d routers joined with one ticket", won)
		}
		l.wantDrops(DropUsed, DropUsed, DropUsed)
	})
}

// TestOneAfterTheOther: the lab complains of two calls of Give at once.
func TestOneAfterTheOther(t *testing.T) {
	virtually(t, func(l *lab) {
		l.give = func(context.Context, Request) (Bundle, error) {
			time.Sleep(20 * time.Second)
			return testBundle(), nil
		}
		first, second, third := l.issue(0), l.issue(0), l.issue(0)
		errs := make(chan error, 3)
		for _, ticket := range []Ticket{first, second, third} {
			go func() {
				_, err := l.join(here, ticket)
				errs <- err
			}()
			time.Sleep(time.Second)
		}
		failed := 0
		for range 3 {
			if err := <-errs; err != nil {
				wantError(t, "waited too long", err, "another router is joining at this moment: try again")
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%d routers waited in vain, want the third alone", failed)
		}
		if !l.Open() {
			t.Error("the third ticket is lost")
		}
	})
}

func TestClientThatLeavesKeepsItsTicket(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		for _, within := range []string{"hangs", "closes"} {
			conn := l.dial(here)
			secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, InsecureSkipVerify: true})
			if err := writeFrame(secure, hello{Secret: ticket.secret[:], Request: testRequest()}, maxRequest); err != nil {
				t.Fatal(err)
			}
			if within == "closes" {
				conn.Close()
			}
			time.Sleep(writeWithin)
			synctest.Wait()
			if !l.Open() {
				t.Fatalf("%s: the ticket is lost", within)
			}
			if _, err := secure.Read(make([]byte, 1)); err == nil && within == "hangs" {
				_, err = readFrame(secure, maxBundle)
				if err == nil {
					t.Error("the answer came after all")
				}
			}
			conn.Close()
		}
		if _, err := l.join(here, ticket); err != nil {
			t.Error(err)
		}
	})
}

func TestBruteForce(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		_, err := l.join(here, l.wrongTicket())
		wantError(t, "wrong", err, "the ticket is not one of this router")
		_, err = l.join(here, ticket)
		wantError(t, "too soon", err, "try again in 2 seconds")
		l.wantDrops(DropDelay, DropTicket)
		time.Sleep(firstDelay)
		l.give = func(context.Context, Request) (Bundle, error) { return Bundle{}, errNoRoom }
		_, err = l.join(here, ticket)
		wantError(t, "in time", err, errNoRoom.Error())
		for i := range maxWrong - 1 {
			if !l.isOpen() {
				t.Fatalf("void after %d wrong ones", i+1)
			}
			_, err = l.join(fmt.Sprintf("192.0.2.%d:40000", 100+i), l.wrongTicket())
			wantError(t, "wrong", err, "the ticket is not one of this router")
		}
		if l.isOpen() {
			t.Error("the port is open after ten wrong tickets")
		}
		if !l.told("sync join: 10 wrong tickets were tried, the last one from 192.0.2.108: every open ticket is void") {
			t.Errorf("events %q", l.events)
		}
		l.issue(0)
		_, err = l.join(here, ticket)
		wantError(t, "void", err, "the ticket is void, since 10 wrong ones were tried")
	})
}

func TestOtherCertificate(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		// Somebody in between, with a certificate of his own.
		cert, p, err := identity([32]byte{2})
		if err != nil {
			t.Fatal(err)
		}
		if p == l.pin {
			t.Fatal("two seeds make the same certificate")
		}
		client, thief := net.Pipe()
		heard := make(chan error, 1)
		go func() {
			server := tls.Server(thief, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}})
			if err := server.Handshake(); err == nil {
				_, err = server.Read(make([]byte, 1))
				heard <- err
			} else {
				heard <- err
			}
			thief.Close()
		}()
		_, err = fetch(context.Background(), client, "192.0.2.1:7947", ticket, testRequest())
		wantError(t, "client", err, "192.0.2.1:7947 is not the cluster that made the ticket")
		if err := <-heard; err == nil {
			t.Error("the thief heard something")
		}

		// Another cluster's ticket at this server.
		foreign := ticket
		foreign.pin = p
		_, err = l.join(here, foreign)
		wantError(t, "foreign ticket", err, "is not the cluster that made the ticket")
		l.wantDrops(DropTLS)
		if _, err := l.join(here, ticket); err != nil {
			t.Error(err)
		}
	})
}

// TestBadClients: each has its reason, none holds the server up.
func TestBadClients(t *testing.T) {
	hello := []byte{22, 3, 1, 0, 200, 1}
	secure := func(config *tls.Config) func(net.Conn) {
		return func(c net.Conn) {
			config.InsecureSkipVerify = true
			if s := tls.Client(c, config); s.Handshake() == nil {
				s.Read(make([]byte, 1))
			}
		}
	}
	for name, v := range map[string]struct {
		client func(net.Conn)
		drop   string
	}{
		"silent":       {func(net.Conn) {}, DropTimeout},
		"garbage":      {func(c net.Conn) { c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }, DropTLS},
		"closes":       {func(c net.Conn) { c.Close() }, DropTLS},
		"half a hello": {func(c net.Conn) { c.Write(hello) }, DropTimeout},
		"drips": {func(c net.Conn) {
			for _, b := range append(hello, make([]byte, 100)...) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, DropTimeout},
		"old TLS":    {secure(&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{alpn}}), DropTLS},
		"other ALPN": {secure(&tls.Config{NextProtos: []string{"h2"}}), DropTLS},
		"no ALPN":    {secure(&tls.Config{}), DropTLS},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(l *lab) {
				ticket := l.issue(time.Hour)
				conn := l.dial(here)
				done := make(chan struct{})
				go func() {
					defer close(done)
					v.client(conn)
				}()
				time.Sleep(helloWithin)
				l.wantDrops(v.drop)
				conn.Close()
				<-done
				if _, err := l.join(here, ticket); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		})
	}
}

// TestBadRequests: the client is told, if there is somebody to tell.
func TestBadRequests(t *testing.T) {
	for name, v := range map[string]struct {
		say    string
		ends   bool // the client's half is closed
		pace   time.Duration
		drop   string
		answer string
	}{
		"silent":         {"", false, 0, DropTimeout, ""},
		"drips":          {"\x00\x00\x10\x00" + strings.Repeat("{", 60), false, time.Second, DropTimeout, ""},
		"too long":       {"\x00\x01\x00\x00", false, 0, DropLength, "65536 bytes, at most 16384"},
		"huge":           {"\xff\xff\xff\xff", false, 0, DropLength, "at most 16384"},
		"half a request": {"\x00\x00\x00\x08{", true, 0, DropLength, "unexpected EOF"},
		"no request":     {"", true, 0, DropGarbage, "EOF"},
		"no JSON":        {"\x00\x00\x00\x03abc", false, 0, DropGarbage, "invalid character"},
		"of the future":  {"\x00\x00\x00\x0e{\"protocol\":2}", false, 0, DropVersion, "different versions of join, 1 and 2"},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(l *lab) {
				ticket := l.issue(time.Hour)
				conn := l.dial(here)
				defer conn.Close()
				s := tls.Client(conn, &tls.Config{NextProtos: []string{alpn}, InsecureSkipVerify: true})
				if err := s.Handshake(); err != nil {
					t.Fatal(err)
				}
				go func() {
					for _, b := range []byte(v.say) {
						if _, err := s.Write([]byte{b}); err != nil {
							return
						}
						time.Sleep(v.pace)
					}
					if v.ends {
						s.CloseWrite()
					}
				}()
				raw, err := readFrame(s, maxBundle)
				if v.answer == "" {
					if err == nil {
						t.Errorf("answer %s", raw)
					}
				} else if a, bad := decodeAnswer(raw); err != nil || bad != nil || !strings.Contains(a.Error, v.answer) {
					t.Errorf("answer %s, errors %v and %v, want %q", raw, err, bad, v.answer)
				}
				l.wantDrops(v.drop)
				conn.Close()
				if _, err := l.join(here, ticket); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				time.Sleep(61 * time.Second)
			})
		})
	}
}

func TestTooManyClients(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(time.Hour)
		var idle []net.Conn
		for range maxPerSource {
			idle = append(idle, l.dial(here))
		}
		synctest.Wait()
		_, err := l.join(here, ticket)
		wantError(t, "too many of one source", err, "hung up: too many try to join at once")
		if _, err := l.join(there, ticket); err != nil {
			t.Errorf("beside them: %v", err)
		}
		synctest.Wait()
		ticket = l.issue(time.Hour)
		for i := range maxConns - maxPerSource {
			idle = append(idle, l.dial(fmt.Sprintf("192.0.2.%d:40000", 100+i)))
		}
		synctest.Wait()
		_, err = l.join(there, ticket)
		wantError(t, "too many", err, "hung up: too many try to join at once")
		l.wantDrops(DropConnections, DropConnections)
		time.Sleep(helloWithin)
		synctest.Wait()
		if _, err := l.join(here, ticket); err != nil {
			t.Errorf("after their time: %v", err)
		}
		synctest.Wait()
		if l.book.conns != 0 || len(l.book.sources) != 0 {
			t.Errorf("%d places of %v are still taken", l.book.conns, l.book.sources)
		}
		for _, c := range idle {
			c.Close()
		}
	})
}

func TestLeavingDaemonDoesNotWait(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		idle := l.dial(there)
		l.give = func(ctx context.Context, _ Request) (Bundle, error) {
			l.stop()
			<-ctx.Done()
			return Bundle{}, ctx.Err()
		}
		begin := time.Now()
		_, err := l.join(here, ticket)
		if err == nil || !strings.Contains(err.Error(), "hung up") && !strings.Contains(err.Error(), "this router is leaving") {
			t.Errorf("error %v", err)
		}
		if _, err := idle.Read(make([]byte, 1)); err == nil {
			t.Error("an idle client was not closed")
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("it took %v", took)
		}
		l.dropped()
	})
}

// TestSharedListener: who shares the port takes TLS's settings by ALPN, makes
// the handshake and gives the connection away.
func TestSharedListener(t *testing.T) {
	virtually(t, func(l *lab) {
		ticket := l.issue(0)
		config, proto := l.TLS()
		if proto != "harouter-join/1" {
			t.Errorf("protocol %q", proto)
		}
		client, server := net.Pipe()
		go func() {
			conn := tls.Server(pipe{server, here}, &tls.Config{
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config, nil },
			})
			if err := conn.Handshake(); err != nil {
				t.Error(err)
			}
			l.Serve(context.Background(), conn)
		}()
		if _, err := fetch(context.Background(), client, "192.0.2.1:7947", ticket, testRequest()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		// No ticket is open any more, but such a port is.
		client, server = net.Pipe()
		go l.Serve(context.Background(), pipe{server, there})
		_, err := fetch(context.Background(), client, "192.0.2.1:7947", l.wrongTicket(), testRequest())
		wantError(t, "no ticket", err, "no ticket is valid at this router")
		synctest.Wait()
	})
}
