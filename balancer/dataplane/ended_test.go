package dataplane

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/balancer/notice"
	"harouter/test/netlab"
)

// endsOf are those of a connection that a client of the world holds.
func endsOf(c net.Conn) balancer.Ends {
	return balancer.Ends{
		Host: netip.MustParseAddrPort(c.LocalAddr().String()), Peer: netip.MustParseAddrPort(c.RemoteAddr().String()),
	}
}

// TestEnded: what was ended is reset in the grace time too, whether the client
// speaks or waits; what may be another node's flow is not, provoked or not.
func TestEnded(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	connect := func() net.Conn {
		conn, _, err := client.dial(serverAddr+":80", time.Second)
		must(t, err)
		return conn
	}
	busy, idle, others, another := connect(), connect(), connect(), connect()
	teller := notice.New(slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan error)
	go func() { told <- teller.Run(ctx) }()
	defer func() { cancel(); must(t, <-told) }()
	waits := func(c net.Conn, within time.Duration) error {
		_ = c.SetReadDeadline(time.Now().Add(within))
		_, err := c.Read(make([]byte, 1))
		return err
	}

	// A live connection is none the worse for a notice.
	alive := connect()
	teller.Tell([]balancer.Ends{endsOf(alive)})
	if err := waits(alive, 200*time.Millisecond); !isTimeout(err) {
		t.Errorf("a live connection that was told of: %v, want nothing", err)
	}
	if err := echo(alive, time.Second); err != nil {
		t.Errorf("a live connection that was told of: %v", err)
	}

	must(t, k.Activate(t.Context(), true, true))
	forget(t)
	must(t, k.Ended([]balancer.Ends{endsOf(busy), endsOf(idle)}))
	if err := echo(busy, time.Second); !isReset(err) {
		t.Errorf("ended, in the grace time: %v, want a reset", err)
	}
	teller.Tell([]balancer.Ends{endsOf(idle), endsOf(another)})
	start := time.Now()
	if err := waits(idle, 2*time.Second); !isReset(err) {
		t.Errorf("ended and idle, in the grace time: %v, want a reset", err)
	}
	t.Logf("an idle client was reset after %v", time.Since(start))
	for name, c := range map[string]net.Conn{"not ended": others, "not ended, but told of": another} {
		if err := echo(c, 200*time.Millisecond); !isTimeout(err) {
			t.Errorf("%s, in the grace time: %v, want silence", name, err)
		}
	}
	must(t, k.Activate(t.Context(), true, true)) // another takeover
	if s := netlab.Sh(t, "nft list set inet harouter ended"); strings.Contains(s, "elements") {
		t.Errorf("after another takeover it is still known what was ended:\n%s", s)
	}

	// Without grace nothing needs to be known.
	must(t, k.Activate(t.Context(), true, false))
	must(t, k.turn(true, true))
	idle = connect()
	forget(t)
	must(t, k.Ended([]balancer.Ends{endsOf(idle)}))
	teller.Tell([]balancer.Ends{endsOf(idle)})
	if err := waits(idle, 2*time.Second); !isReset(err) {
		t.Errorf("ended and idle: %v, want a reset", err)
	}

	c.NoReset = true
	must(t, k.Apply(t.Context(), build(t, c, in)))
	idle = connect()
	forget(t)
	if err := echo(idle, 200*time.Millisecond); !isTimeout(err) {
		t.Errorf("nobody is to be reset: %v, want silence", err)
	}
	if _, err := io.WriteString(idle, "more"); err != nil {
		t.Errorf("nobody is to be reset: %v", err)
	}
}
