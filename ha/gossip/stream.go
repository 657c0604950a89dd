package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// A stream carries one sealed message. The receiver confirms it with one byte
// as soon as it has it whole and found it authentic; then follows what
// memberlist answers, if anything. Without the byte the sender would not know
// of a path that died with the message on its way: a socket takes it either way.
const confirmed = 6

const (
	streamTimeout = 400 * time.Millisecond // for connecting, and for a small message
	headStart     = 100 * time.Millisecond // of the preferred path before the next is tried too
	slowest       = 256 << 10              // bytes a second that a path must carry
	usual         = 4 << 20                // bytes a second that a path should carry
)

// transferTime is what the message of a stream may take in addition.
func transferTime(size int) time.Duration {
	return time.Duration(size) * time.Second / slowest
}

// confirm sends a message to a node and returns the stream over which it was
// confirmed: that of the preferred path, unless another path was quicker even
// after the head start. The message may then arrive twice.
func (t *transport) confirm(node string, message []byte) (net.Conn, error) {
	r := t.roster.Load()
	peer := r.peers[node]
	if peer == nil {
		return nil, fmt.Errorf("send to %s: no other node has this name", node)
	}
	paths := preferred(r.paths[node], peer.answered.Load(), time.Now())
	start := headStart + time.Duration(len(message))*time.Second/usual
	ctx, cancel := context.WithTimeout(context.Background(), streamTimeout+transferTime(len(message))+start*time.Duration(len(paths)-1))
	defer cancel()

	type result struct {
		*path
		net.Conn
		error
	}
	results := make(chan result)
	running := 0
	var winner net.Conn
	var failed error
	next := time.NewTimer(0) // fires for the next path to try
	defer next.Stop()
	for running > 0 || winner == nil && len(paths) > 0 {
		select {
		case <-next.C:
			if winner != nil || len(paths) == 0 {
				continue
			}
			p := paths[0]
			paths = paths[1:]
			running++
			next.Reset(start)
			go func() {
				conn, err := attempt(ctx, p.ends, r.port, message)
				results <- result{p, conn, err}
			}()
		case res := <-results:
			running--
			switch {
			case res.error != nil:
				failed = errors.Join(failed, res.error)
				next.Reset(0)
			case winner != nil:
				abandon(res.Conn)
			default:
				winner = res.Conn
				peer.answered.Store(res.path)
				r.heard(res.local, res.remote, time.Now())
				cancel()
			}
		}
	}
	if winner == nil {
		return nil, failed
	}
	return winner, nil
}

// attempt sends a message over one path, from the own address, as the other
// side demands. When ctx ends it gives up.
func attempt(ctx context.Context, e ends, port uint16, message []byte) (net.Conn, error) {
	d := net.Dialer{Timeout: streamTimeout, LocalAddr: &net.TCPAddr{IP: e.local.AsSlice()}}
	conn, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(e.remote, port).String())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	var answer [1]byte
	_, err = conn.Write(message)
	if err == nil {
		_, err = io.ReadFull(conn, answer[:])
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && answer[0] != confirmed {
		err = fmt.Errorf("byte %d instead of a confirmation", answer[0])
	}
	if err != nil {
		abandon(conn)
		return nil, fmt.Errorf("send from %s to %s: %w", e.local, e.remote, err)
	}
	return conn, nil
}

// abandon closes a stream without the kernel trying on for minutes.
func abandon(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// outgoing is a stream to a node as memberlist sees it: it keeps what is
// written until that is a whole message, which then goes over the paths.
type outgoing struct {
	net.Conn // over which the message went; nil before
	t        *transport
	node     string
	written  []byte
}

// Write takes a part of the message. The error of the last part says that no
// path confirmed it.
func (o *outgoing) Write(b []byte) (int, error) {
	if o.Conn != nil {
		return 0, errors.New("a stream carries one message")
	}
	o.written = append(o.written, b...)
	if !o.t.seals.whole(o.written) {
		return len(b), nil
	}
	conn, err := o.t.confirm(o.node, o.written)
	if err != nil {
		return 0, err
	}
	o.Conn = conn
	return len(b), nil
}

// Read takes what the node answers.
func (o *outgoing) Read(b []byte) (int, error) {
	if o.Conn == nil {
		return 0, io.EOF
	}
	return o.Conn.Read(b)
}

// Close is part of net.Conn.
func (o *outgoing) Close() error {
	if o.Conn == nil {
		return nil
	}
	return o.Conn.Close()
}

// SetDeadline is part of net.Conn. Before the message is sent there is nothing
// to limit, and sending has a limit of its own.
func (o *outgoing) SetDeadline(t time.Time) error {
	if o.Conn == nil {
		return nil
	}
	return o.Conn.SetDeadline(t)
}

// RemoteAddr is part of net.Conn; memberlist's log shows it.
func (o *outgoing) RemoteAddr() net.Addr {
	if o.Conn == nil {
		return &net.TCPAddr{}
	}
	return o.Conn.RemoteAddr()
}

// judge reads the message of a stream that came in, confirms it and hands the
// stream on, if it is authentic. The stream has a deadline.
func (t *transport) judge(conn net.Conn, local, source netip.Addr) {
	read, reason := t.seals.stream(conn)
	r := t.roster.Load()
	switch {
	case read != nil && !r.nodes[source]:
		reason = DropSender
	case reason == cutShort && r.nodes[source]:
		reason = "" // its path died, or another was quicker
	case reason == cutShort:
		reason = DropGarbage
	}
	if read == nil || reason != "" {
		conn.Close()
		if reason != "" {
			t.drop(reason, source)
		}
		return
	}
	r.heard(local, source, time.Now())
	if _, err := conn.Write([]byte{confirmed}); err != nil { // it is sent again
		conn.Close()
		return
	}
	select {
	case t.streams <- &judged{Conn: conn, read: read}:
	case <-t.closing:
		conn.Close()
	}
}

// judged is a stream whose one message was read and found authentic. More
// than that is not read.
type judged struct {
	net.Conn
	read []byte
}

func (j *judged) Read(b []byte) (int, error) {
	if len(j.read) == 0 {
		return 0, io.EOF
	}
	n := copy(b, j.read)
	j.read = j.read[n:]
	return n, nil
}
