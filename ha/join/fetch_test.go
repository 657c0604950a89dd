package join

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// TestOddServers: one with the right certificate may still be of another
// version, broken or evil.
func TestOddServers(t *testing.T) {
	cert, p, err := identity([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	good := testBundle()
	changed := good
	changed.File = []byte("cluster: lab\n")
	frame := func(v any) func(*tls.Conn) {
		return func(c *tls.Conn) { writeFrame(c, v, maxBundle) }
	}
	text := func(s string) func(*tls.Conn) {
		return func(c *tls.Conn) { c.Write([]byte(s)) }
	}
	for name, v := range map[string]struct {
		protocols []string
		say       func(*tls.Conn)
		want      string
	}{
		"good":           {nil, frame(answer{Protocol: 1, Bundle: &good}), ""},
		"another hash":   {nil, frame(answer{Protocol: 1, Bundle: &changed}), "does not have the hash that came with it: nothing of it is used"},
		"newer":          {nil, frame(answer{Protocol: 2}), "different versions of join, 1 and 2"},
		"another ALPN":   {[]string{"harouter-join/2"}, nil, "takes no new router at this moment: its last ticket was used or is too old (or it does not speak harouter-join/1"},
		"says nothing":   {nil, text(""), "hung up"},
		"no JSON":        {nil, text("\x00\x00\x00\x03abc"), "read the answer of 192.0.2.1:7947: invalid character"},
		"huge":           {nil, text("\xff\xff\xff\xff"), "at most 2097152 are taken"},
		"half an answer": {nil, text("\x00\x00\x00\x09{"), "hung up"},
		"hangs":          {nil, func(*tls.Conn) { time.Sleep(2 * fetchWithin) }, "stopped answering"},
		"in colour":      {nil, frame(answer{Protocol: 1, Error: "\x1b[31mno\nway"}), "192.0.2.1:7947 refuses: [31mno way"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				var wg sync.WaitGroup
				wg.Go(func() {
					defer there.Close()
					config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}}
					if v.protocols != nil {
						config.NextProtos = v.protocols
					}
					c := tls.Server(there, config)
					if c.Handshake() != nil {
						return
					}
					if _, err := readFrame(c, maxRequest); err != nil {
						t.Error(err)
					}
					v.say(c)
					c.CloseWrite()
				})
				ctx, cancel := context.WithTimeout(context.Background(), fetchWithin)
				defer cancel()
				b, err := fetch(ctx, client{here}, "192.0.2.1:7947", newTicket(p, time.Time{}), testRequest())
				if v.want == "" {
					if diff := cmp.Diff(good, b); err != nil || diff != "" {
						t.Errorf("error %v, %s", err, diff)
					}
				} else {
					wantError(t, name, err, v.want)
				}
				wg.Wait()
			})
		})
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		_, err := fetch(ctx, here, "192.0.2.1:7947", testTicket(), testRequest())
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// TestFetch: over real sockets, with a server whose port is open only while it
// must be.
func TestFetch(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up")
	at := netip.MustParseAddrPort("127.0.0.1:7947")
	drops := make(chan string, 10)
	s, err := New(Config{
		Seed: [32]byte{1}, Addresses: []netip.AddrPort{at},
		Give: func(context.Context, Request) (Bundle, error) { return testBundle(), nil },
		Drop: func(reason string, source netip.AddrPort) { drops <- reason + " " + source.Addr().String() },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	_, err = Fetch(ctx, at.String(), testTicket(), testRequest())
	wantError(t, "no ticket", err, "nobody listens at 127.0.0.1:7947 for a new router")
	ticket, err := s.Issue(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Fetch(ctx, at.String(), newTicket(s.pin, time.Time{}), testRequest())
	wantError(t, "wrong ticket", err, "127.0.0.1:7947 refuses: the ticket is not one of this router")
	if d := <-drops; d != "ticket 127.0.0.1" {
		t.Errorf("drop %q", d)
	}
	_, err = Fetch(ctx, at.String(), testTicket(), testRequest())
	wantError(t, "wrong pin", err, "is not the cluster that made the ticket")
	if d := <-drops; d != "tls 127.0.0.1" {
		t.Errorf("drop %q", d)
	}
	for { // the first wrong one costs a second
		b, err := Fetch(ctx, at.String(), ticket, testRequest())
		if err != nil && strings.Contains(err.Error(), "try again in") {
			<-drops
			<-time.After(200 * time.Millisecond)
			continue
		}
		if diff := cmp.Diff(testBundle(), b); err != nil || diff != "" {
			t.Errorf("error %v, %s", err, diff)
		}
		break
	}
	for { // the port is closed a moment later
		_, err = Fetch(ctx, at.String(), ticket, testRequest())
		if err == nil || strings.Contains(err.Error(), "nobody listens") {
			break
		}
		<-time.After(time.Millisecond)
	}
	wantError(t, "used", err, "nobody listens at 127.0.0.1:7947 for a new router")

	other, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatalf("the port is not free again: %v", err)
	}
	_, err = s.Issue(ctx, 0)
	wantError(t, "port taken", err, "the sync port 127.0.0.1:7947 is taken by another program")
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "220 mail.example.org ESMTP\r\n")
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	_, err = Fetch(ctx, at.String(), ticket, testRequest())
	wantError(t, "a mail server", err, "what listens at 127.0.0.1:7947 is no harouter")
	other.Close()
	_, err = Fetch(ctx, "192.0.2.1:7947", ticket, testRequest())
	wantError(t, "no route", err, "no way leads to 192.0.2.1:7947")
	stopped, stop := context.WithCancel(ctx)
	stop()
	if _, err = Fetch(stopped, at.String(), ticket, testRequest()); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: error %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
