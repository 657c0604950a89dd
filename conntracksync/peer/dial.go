package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// dial tries all ways to the peer, each with a small head start before the
// next, and keeps the first one on which it is greeted. Only that one gets
// kindGo; the other side answers it when it takes the connection.
func (l *link) dial(ctx context.Context) (*stream, error) {
	ctx, cancel := context.WithTimeout(ctx, greetWithin)
	var wg sync.WaitGroup
	r := l.all.roster.Load()
	ways := r.ways(l.node)
	type result struct {
		st  *stream
		err error
	}
	results := make(chan result, len(ways))
	defer func() {
		cancel()
		wg.Wait()
		close(results)
		for r := range results { // those that were too late
			if r.st != nil {
				r.st.close()
			}
		}
	}()
	if len(ways) == 0 {
		return nil, fmt.Errorf("no address of this node (%v) is of the family of one of %s (%v)", r.cfg.Addresses, l.node, r.cfg.Peers[l.node])
	}
	next := time.NewTimer(0)
	defer next.Stop()
	started, ended := 0, 0
	var worst error
	for ended < len(ways) {
		select {
		case <-next.C:
			if started < len(ways) {
				w := ways[started]
				started++
				wg.Go(func() {
					st, err := l.try(ctx, r, w)
					results <- result{st, err}
				})
				next.Reset(dialStagger)
			}
		case res := <-results:
			ended++
			if res.err == nil {
				if res.err = l.use(ctx, res.st); res.err == nil {
					return res.st, nil
				}
			}
			if worst == nil || faultOf(res.err, ReasonUnreachable).reason.counted() {
				worst = res.err // more telling than a dead path
			}
			next.Reset(0)
		case <-ctx.Done():
			if worst == nil {
				worst = fmt.Errorf("no answer within %v on %d ways", greetWithin, started)
			}
			return nil, worst
		}
	}
	return nil, worst
}

// use tells the other side that this connection is the one.
func (l *link) use(ctx context.Context, st *stream) error {
	stop := st.closeWith(ctx)
	defer stop()
	_, err := st.conn.Write(appendFrame(nil, kindGo, nil))
	if err == nil {
		_, err = st.expect(kindGo)
	}
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		st.close()
		return fmt.Errorf("begin a session with %v: %w", st.remote, err)
	}
	return nil
}

// try connects on one way, up to the greeting.
func (l *link) try(ctx context.Context, r *roster, w way) (*stream, error) {
	raw, err := l.all.connect(ctx, w)
	if err != nil {
		return nil, &fault{ReasonUnreachable, fmt.Errorf("connect to %v: %w", w.remote, err)}
	}
	st := newClient(r, l.node, raw, w)
	stop := st.closeWith(ctx)
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	if err = st.conn.HandshakeContext(ctx); err == nil {
		_, st.key, _ = r.verify(st.conn.ConnectionState())
		err = st.greet(r.cfg.Frames)
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		st.close()
		return nil, fmt.Errorf("greet %v: %w", w.remote, err)
	}
	return st, nil
}

func newStream(raw net.Conn, w way) *stream {
	return &stream{raw: &steady{Conn: raw}, local: w.local, remote: w.remote}
}

func newClient(r *roster, node string, raw net.Conn, w way) *stream {
	st := newStream(raw, w)
	st.node, st.conn = node, tls.Client(st.raw, r.clientTLS(node))
	return st
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}

// connect makes a TCP connection from an own address.
func connect(ctx context.Context, w way) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.local.Addr(), 0)), KeepAliveConfig: keepAlive}
	conn, err := d.DialContext(ctx, "tcp", w.remote.String())
	if err != nil {
		return nil, err
	}
	return conn, tune(conn)
}

// tune sets what the heartbeats need: what is sent is known to be lost before
// they are, and little waits in the kernel, where nothing can overtake it.
// TCP_NODELAY is Go's default.
func tune(conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return fmt.Errorf("tune the connection: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLimit),
		)
	})
	if err = errors.Join(err, set); err != nil {
		return fmt.Errorf("tune the connection: %w", err)
	}
	return nil
}
