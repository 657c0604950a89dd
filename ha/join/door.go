package join

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// openAgain is when a port is tried again that could not be opened: the file may
// have been changed before the address came.
const openAgain = 2 * time.Second

// door is the sync port, open while a ticket is valid. Run owns it.
type door struct {
	at        []netip.AddrPort
	listeners []net.Listener
}

func (d *door) close() {
	for _, l := range d.listeners {
		l.Close()
	}
	d.at, d.listeners = nil, nil
}

// open opens the door where it has to be now, and closes it elsewhere.
func (s *Server) open(ctx context.Context, d *door, wg *sync.WaitGroup) error {
	s.book.Lock()
	at := s.book.addresses
	s.book.Unlock()
	if d.listeners != nil && slices.Equal(d.at, at) {
		return nil
	}
	d.close()
	listeners, err := s.listenAll(at)
	if err != nil {
		return err
	}
	d.at, d.listeners = at, listeners
	for _, l := range listeners {
		wg.Go(func() { s.accept(ctx, l, wg) })
	}
	return nil
}

// listenAll opens the port on every address that is there: one is enough.
func (s *Server) listenAll(at []netip.AddrPort) ([]net.Listener, error) {
	var all []net.Listener
	var failed []string
	for _, a := range at {
		l, err := s.listen(a)
		if err != nil {
			failed = append(failed, explainListen(a, err))
			continue
		}
		all = append(all, l)
	}
	if len(all) == 0 && len(failed) > 0 {
		return nil, errors.New(strings.Join(failed, "; "))
	}
	return all, nil
}

func explainListen(a netip.AddrPort, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("the sync port %v is taken by another program: end it, or set ports.sync to another one on all nodes", a)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf("this machine does not have the address %v: a new router cannot reach it there", a.Addr())
	}
	return fmt.Sprintf("listen for a new router on %v: %v", a, err)
}

// accept serves until the listener is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, wg *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wg.Go(func() { s.Serve(ctx, conn) })
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		s.cfg.Log.Warn("accept a new router", "address", l.Addr(), "error", err) // too many files, most likely
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}
