package join

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// Serve talks to one new router and closes conn, a plain connection or a
// *tls.Conn made with TLS. It returns soon after ctx ends, else within a minute.
func (s *Server) Serve(ctx context.Context, conn net.Conn) {
	source, _ := netip.ParseAddrPort(conn.RemoteAddr().String()) // zero for what is no IP socket
	secure, ok := conn.(*tls.Conn)
	if !ok {
		secure = tls.Server(conn, s.tls)
	}
	// Closed below TLS: the farewell of TLS may wait for a client that does not read.
	defer secure.NetConn().Close()
	if !s.enter(source) {
		s.cfg.Drop(DropConnections, source)
		return
	}
	defer s.leave(source)
	stop := context.AfterFunc(ctx, func() { secure.NetConn().Close() })
	defer stop()

	conn.SetDeadline(time.Now().Add(helloWithin))
	h, reason, err := receive(ctx, secure)
	if err == nil {
		reason, err = s.answer(ctx, secure, source, h)
	} else if reason != DropTLS && reason != DropTimeout {
		s.send(secure, answer{Protocol: Protocol, Error: err.Error()})
	}
	if reason != "" && ctx.Err() == nil {
		s.cfg.Log.Debug("refused a new router", "reason", reason, "source", source, "error", err)
		s.cfg.Drop(reason, source)
	}
	_ = secure.CloseWrite() // who has read the answer may be gone already
}

// enter takes a place, if one is free.
func (s *Server) enter(source netip.AddrPort) bool {
	from := wide(source.Addr())
	s.book.Lock()
	defer s.book.Unlock()
	if s.book.conns >= maxConns || s.book.sources[from] >= maxPerSource {
		return false
	}
	s.book.conns++
	s.book.sources[from]++
	return true
}

func (s *Server) leave(source netip.AddrPort) {
	from := wide(source.Addr())
	s.book.Lock()
	defer s.book.Unlock()
	s.book.conns--
	if s.book.sources[from]--; s.book.sources[from] == 0 {
		delete(s.book.sources, from)
	}
}

// receive takes the request; on an error with the reason for the count.
func receive(ctx context.Context, conn *tls.Conn) (hello, string, error) {
	late := func(reason string, err error) string {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return DropTimeout
		}
		return reason
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return hello{}, late(DropTLS, err), err
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != alpn { // a client may offer none
		return hello{}, DropTLS, fmt.Errorf("the client speaks %q instead of %s", p, alpn)
	}
	raw, err := readFrame(conn, maxRequest)
	if err != nil {
		reason := late(DropLength, err)
		if errors.Is(err, io.EOF) { // a client that says nothing
			reason = DropGarbage
		}
		return hello{}, reason, fmt.Errorf("read the request: %w", err)
	}
	h, err := decodeHello(raw)
	if _, newer := errors.AsType[errNewer](err); newer {
		return hello{}, DropVersion, err
	}
	if err != nil {
		return hello{}, DropGarbage, fmt.Errorf("read the request: %w", err)
	}
	return h, "", nil
}

// answer gives the bundle to who has a good ticket, which ends when the bundle
// is on its way, not before.
func (s *Server) answer(ctx context.Context, conn *tls.Conn, source netip.AddrPort, h hello) (drop string, err error) {
	s.book.Lock()
	e, no := s.book.claim(h.Secret, source.Addr(), time.Now())
	s.book.Unlock()
	if no != nil {
		if no.alarm != "" {
			s.cfg.Event("sync", "join", no.alarm)
			s.changes()
		}
		s.send(conn, answer{Protocol: Protocol, Error: no.text})
		return no.drop, errors.New(no.text)
	}
	from := source.Addr()
	h.Request.From = from.Unmap()
	bundle, err := s.give(ctx, h.Request)
	if err != nil {
		s.settle(func(b *book) { b.release(e) }) // before the answer: it may be tried again at once
		s.send(conn, answer{Protocol: Protocol, Error: err.Error()})
		s.cfg.Event("sync", h.Node, fmt.Sprintf("could not join from %v: %s", from, printable(err.Error(), maxText)))
		return "", nil
	}
	if err := s.send(conn, answer{Protocol: Protocol, Bundle: &bundle}); err != nil {
		s.settle(func(b *book) { b.release(e) })
		s.cfg.Event("sync", h.Node, fmt.Sprintf("went away while joining from %v; its ticket stays valid: %v", from, err))
		return "", nil
	}
	s.settle(func(b *book) { b.use(e, h.Node) })
	s.cfg.Event("node", h.Node, fmt.Sprintf("joined from %v with a ticket", from))
	return "", nil
}

// settle ends a claim, and wakes Run to look whether the port is still needed.
func (s *Server) settle(end func(*book)) {
	s.book.Lock()
	end(&s.book.book)
	s.book.Unlock()
	s.changes()
}

// give calls Config.Give, one at a time.
func (s *Server) give(ctx context.Context, r Request) (Bundle, error) {
	ctx, cancel := context.WithTimeout(ctx, giveWithin)
	defer cancel()
	select {
	case s.giving <- struct{}{}:
		defer func() { <-s.giving }()
	case <-ctx.Done():
		return Bundle{}, errors.New("another router is joining at this moment: try again")
	}
	b, err := s.cfg.Give(ctx, r)
	switch {
	case err == nil:
		err = b.check()
	case errors.Is(err, context.Canceled):
		err = errors.New("this router is leaving")
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("it takes longer than %v: %w", giveWithin, err)
	}
	return b, err
}

// send gives the client a time of its own to read.
func (s *Server) send(conn *tls.Conn, a answer) error {
	a.Error = printable(a.Error, maxText)
	conn.SetDeadline(time.Now().Add(writeWithin))
	return writeFrame(conn, a, maxBundle)
}

// changes wakes Run to look whether the port is still needed.
func (s *Server) changes() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
