package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// stream is a connection that speaks frames, with a node that is known once
// the greeting is over.
type stream struct {
	conn     *tls.Conn
	raw      *steady
	node     string
	key      public
	local    netip.AddrPort
	remote   netip.AddrPort
	accepted bool
	until    time.Time // the other side waits so long for the answer to kindGo

	buf  [2 * recordSize]byte // a part of a frame, and the next record
	r, w int
}

// steady is a connection on which silence is an error, from start on.
type steady struct {
	net.Conn
	on atomic.Bool
}

func (c *steady) start() {
	c.SetDeadline(time.Time{})
	c.on.Store(true)
}

// Read looks once more after the time is over: this node may have overslept,
// and what came meanwhile is still in the socket.
func (c *steady) Read(b []byte) (int, error) {
	if !c.on.Load() {
		return c.Conn.Read(b)
	}
	c.SetReadDeadline(time.Now().Add(silentAfter))
	n, err := c.Conn.Read(b)
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.SetReadDeadline(time.Now().Add(drainAfter))
		n, err = c.Conn.Read(b)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = &fault{ReasonTimeout, fmt.Errorf("nothing came for %v", silentAfter)}
	}
	return n, err
}

// next waits for one frame, which is valid until the next call.
func (s *stream) next() (kind, []byte, error) {
	for {
		k, payload, size, err := parse(s.buf[s.r:s.w])
		if err != nil {
			return 0, nil, &fault{ReasonGarbage, err}
		}
		if size > 0 {
			s.r += size
			return k, payload, nil
		}
		if err := s.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// fill reads what is there, at least something. What is unread moves to the
// front.
func (s *stream) fill() error {
	s.w = copy(s.buf[:], s.buf[s.r:s.w])
	s.r = 0
	n, err := s.conn.Read(s.buf[s.w:])
	s.w += n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

func (s *stream) expect(want kind) ([]byte, error) {
	k, payload, err := s.next()
	if err == nil && k != want {
		err = &fault{ReasonGarbage, fmt.Errorf("a frame of kind %d instead of %d", k, want)}
	}
	return payload, err
}

// greet exchanges the versions. The side that dialled speaks first.
func (s *stream) greet(frames uint16) error {
	ours := hello{protocol, oldestProtocol, frames}
	say := func() error {
		_, err := s.conn.Write(appendFrame(nil, kindHello, ours.encode()))
		return err
	}
	hear := func() (hello, error) {
		payload, err := s.expect(kindHello)
		if err != nil {
			return hello{}, err
		}
		h, err := decodeHello(payload)
		if err != nil {
			err = &fault{ReasonGarbage, err}
		}
		return h, err
	}
	if !s.accepted {
		if err := say(); err != nil {
			return err
		}
	}
	theirs, err := hear()
	if err != nil {
		return err
	}
	if s.accepted { // also to one with another version: so it learns why
		if err := say(); err != nil {
			return err
		}
	}
	_, err = ours.agree(s.node, theirs)
	return err
}

// close ends the connection below TLS: the farewell of TLS may wait for a peer
// that does not read.
func (s *stream) close() { s.raw.Close() }

// closeWith closes when ctx ends, until the returned func is called.
func (s *stream) closeWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, s.close)
}

func addressOf(a net.Addr) netip.AddrPort {
	p, _ := netip.ParseAddrPort(a.String()) // zero for what is no IP socket
	return plain(p)
}
