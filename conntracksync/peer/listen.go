package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"
)

// listenOn keeps the port open on one own address until ctx ends. One that is
// not on this machine yet is waited for.
func (s *Sessions) listenOn(ctx context.Context, at netip.AddrPort) {
	var wg sync.WaitGroup
	defer wg.Wait()
	var told string
	taken := false
	free := func() {
		if taken {
			taken = false
			s.portTaken(at, "")
		}
	}
	defer free()
	for ctx.Err() == nil {
		l, err := s.listen(ctx, at)
		if err == nil {
			stop := context.AfterFunc(ctx, func() { l.Close() })
			s.log.Debug("state sync listens", "address", at)
			told = ""
			free()
			s.accept(ctx, l, &wg)
			stop()
			l.Close()
			continue
		}
		if text := explainListen(at, err); text != told && ctx.Err() == nil {
			told = text
			s.log.Warn("state sync does not listen", "address", at, "error", text)
			if errors.Is(err, syscall.EADDRINUSE) {
				taken = true
				s.portTaken(at, text)
			} else {
				free()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(bindEvery):
		}
	}
}

func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	return lc.Listen(ctx, "tcp", at.String())
}

func explainListen(at netip.AddrPort, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("the sync port %v is taken by another program: end it, or set ports.sync to another one on all nodes", at)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("this machine does not have the address %v yet", at.Addr())
	}
	return err.Error()
}

// accept takes connections until ctx ends.
func (s *Sessions) accept(ctx context.Context, l net.Listener, wg *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			s.log.Warn("accept a node", "address", l.Addr(), "error", err) // too many files, most likely
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		source := addressOf(conn.RemoteAddr()).Addr()
		_, node := s.roster.Load().sources[source]
		leave, ok := s.door.enter(source, node, time.Now())
		if !ok {
			conn.Close()
			s.counters.count(ReasonConnections, source)
			continue
		}
		wg.Go(func() {
			defer leave()
			s.serve(ctx, conn, leave)
		})
	}
}

// serve makes the handshake, and gives the connection to whom it is for.
func (s *Sessions) serve(ctx context.Context, raw net.Conn, leave func()) {
	r := s.roster.Load()
	st := newStream(raw, way{addressOf(raw.LocalAddr()), addressOf(raw.RemoteAddr())})
	st.accepted = true
	var other func(context.Context, net.Conn)
	var newer string
	st.conn = tls.Server(st.raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (c *tls.Config, err error) {
			c, other, newer, err = s.choose(r, h)
			return c, err
		},
	})
	stop := st.closeWith(ctx)
	st.until = time.Now().Add(greetWithin)
	raw.SetDeadline(st.until)
	err := st.conn.HandshakeContext(ctx)
	if err == nil && other != nil {
		leave() // it is theirs to limit now
		raw.SetDeadline(time.Time{})
		stop()
		other(ctx, st.conn)
		return
	}
	if err != nil && newer != "" {
		err = &fault{ReasonVersion, fmt.Errorf("a node that speaks %s, but this one speaks %s: install the newer harouter here", newer, alpn)}
	}
	if err == nil {
		err = s.receive(r, st)
	}
	if !stop() || err == nil {
		return // we leave; or a peer has it now
	}
	st.close()
	f := faultOf(err, ReasonLost)
	s.log.Debug("refused a connection for state sync", "reason", f.reason, "source", st.remote, "error", f.err)
	s.refused(f, st.remote.Addr())
	// A source cannot be forged over TCP: it is the peer's machine, whatever runs there.
	if l := s.roster.Load().links[s.named(r, st)]; l != nil && !l.dials && f.reason != ReasonLost {
		l.fail(f)
	}
}

// named is the peer of a connection, by its key or else by its address; "" if
// it is none.
func (s *Sessions) named(r *roster, st *stream) string {
	if st.node != "" {
		return st.node
	}
	return r.sources[st.remote.Addr()]
}

// choose picks who answers by the protocols that a client offers. newer is a
// version of ours that we do not know.
func (s *Sessions) choose(r *roster, h *tls.ClientHelloInfo) (_ *tls.Config, other func(context.Context, net.Conn), newer string, _ error) {
	for _, p := range h.SupportedProtos {
		if p == alpn {
			return r.serverTLS(h.ServerName), nil, "", nil
		}
		if strings.HasPrefix(p, alpnFamily) {
			newer = p
		} else if s.other != nil {
			if c, serve := s.other(p); c != nil {
				return c, serve, "", nil
			}
		}
	}
	if len(h.SupportedProtos) == 0 {
		return nil, nil, "", &fault{ReasonTLS, errors.New("a client that offers no protocol")}
	}
	// The handshake fails at once with the right alert (no_application_protocol).
	return r.serverTLS(h.ServerName), nil, newer, nil
}

// receive greets a node and gives its connection to the link once it is the
// one that the node uses.
func (s *Sessions) receive(r *roster, st *stream) error {
	if p := st.conn.ConnectionState().NegotiatedProtocol; p != alpn { // a client may offer none
		return &fault{ReasonTLS, fmt.Errorf("the client speaks %q instead of %s", p, alpn)}
	}
	who, key, err := r.verify(st.conn.ConnectionState())
	if err != nil {
		return err
	}
	node := who.node
	st.node, st.key = node, key
	if err := st.greet(r.cfg.Frames); err != nil {
		return err
	}
	if k, _, err := st.next(); err != nil {
		return &fault{ReasonLost, err} // it uses another one
	} else if k != kindGo {
		return &fault{ReasonGarbage, fmt.Errorf("a frame of kind %d instead of the beginning", k)}
	}
	l := s.roster.Load().links[node]
	if l == nil {
		return &fault{ReasonKey, fmt.Errorf("%s is in the file no more", node)}
	}
	if l.dials {
		return &fault{ReasonGarbage, fmt.Errorf("%s dials this node, but it is this node that dials %s", node, node)}
	}
	l.offer(st)
	return nil
}
