package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's way to the network. It goes by the names of nodes:
// packets go over all paths to a node, a stream over the first that answers.
// It lets in only what is sealed with a key of the cluster and comes from a
// node's address, and each packet once.
type transport struct {
	roster  *atomic.Pointer[roster]
	sockets atomic.Pointer[map[netip.AddrPort]*socket] // replaced whole by bind
	seals   *seals
	drop    func(reason string, source netip.Addr)
	log     *slog.Logger
	refused map[netip.AddrPort]string // own addresses without a socket, and why; only bind looks
	recent  *recent
	packets chan *memberlist.Packet
	streams chan net.Conn
	closing chan struct{}
	wg      sync.WaitGroup
	// Streams being judged. Strangers have slots of their own, so that they
	// cannot keep the nodes out.
	ofNodes, ofStrangers chan struct{}
}

const (
	nodeSlots     = 32
	strangerSlots = 8
)

func newTransport(g *Gossip, cfg *Config) (*transport, error) {
	seals, err := newSeals(cfg.ClusterLabel, cfg.Keys)
	if err != nil {
		return nil, err
	}
	t := &transport{
		roster: &g.roster, seals: seals, drop: g.drop, log: g.log,
		refused: map[netip.AddrPort]string{},
		recent:  newRecent(),
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		closing: make(chan struct{}),
		ofNodes: make(chan struct{}, nodeSlots), ofStrangers: make(chan struct{}, strangerSlots),
	}
	t.sockets.Store(&map[netip.AddrPort]*socket{})
	return t, nil
}

// bind opens the sockets that are missing for own addresses, and closes those
// of other addresses. Missing tells that not all could be opened: an address
// comes with its device. The error is of the first port that is taken, or of
// sockets that cannot be had; the others are open all the same.
func (t *transport) bind(ctx context.Context, r *roster) (missing bool, err error) {
	have := maps.Clone(*t.sockets.Load())
	want := map[netip.AddrPort]bool{}
	for _, a := range r.addresses {
		at := netip.AddrPortFrom(a, r.port)
		want[at] = true
		if have[at] != nil {
			continue
		}
		s, openErr := t.open(ctx, at)
		if openErr == nil {
			have[at] = s
			delete(t.refused, at)
			t.log.Info("gossip listens", "address", at)
			continue
		}
		missing = true
		switch {
		case errors.Is(openErr, syscall.EADDRINUSE):
			openErr = fmt.Errorf("listen for gossip on %s: another program has this port; stop it, or give ports.gossip another value in every node's file: %w", at, openErr)
			err = errors.Join(err, openErr)
		case errors.Is(openErr, syscall.EADDRNOTAVAIL):
			openErr = fmt.Errorf("no device of this machine has it yet: %w", openErr)
		default:
			err = errors.Join(err, openErr)
		}
		if t.refused[at] != openErr.Error() {
			t.refused[at] = openErr.Error()
			t.log.Warn("gossip cannot listen on an address of this node now", "address", at, "error", openErr)
		}
	}
	var gone []*socket
	for at, s := range have {
		if !want[at] {
			gone = append(gone, s)
			delete(have, at)
			t.log.Info("gossip listens no longer", "address", at)
		}
	}
	t.sockets.Store(&have)
	for _, s := range gone {
		if err := s.close(); err != nil {
			t.log.Debug("close", "address", s.at, "error", err)
		}
	}
	return missing, err
}

// pause waits a moment after a socket error; false means that the socket or
// the transport is closed.
func (t *transport) pause(err error, doing string) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	t.log.Debug(doing, "error", err)
	select {
	case <-t.closing:
		return false
	case <-time.After(10 * time.Millisecond):
		return true
	}
}

// FinalAdvertiseAddr is part of memberlist's Transport.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return net.ParseIP(ip), port, nil
}

// WriteToAddress is part of memberlist's NodeAwareTransport. It sends the
// packet over all paths to the node. The error, if it could go over none, is
// one by which memberlist knows that the node is out of reach.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	r, sockets := t.roster.Load(), *t.sockets.Load()
	var failed error = &net.OpError{Op: "write", Net: "udp", Err: fmt.Errorf("send to %s: no other node has this name", a.Name)}
	sent := false
	for _, p := range r.paths[a.Name] {
		to := netip.AddrPortFrom(p.remote, r.port)
		s := sockets[netip.AddrPortFrom(p.local, r.port)]
		if s == nil {
			failed = &net.OpError{Op: "write", Net: "udp", Addr: net.UDPAddrFromAddrPort(to), Err: syscall.EADDRNOTAVAIL}
		} else if err := s.write(b, to); err != nil {
			failed = err
		} else {
			sent = true
		}
	}
	if sent {
		failed = nil
	}
	return time.Now(), failed
}

// DialAddressTimeout is part of memberlist's NodeAwareTransport. The stream
// begins when its message is written.
func (t *transport) DialAddressTimeout(a memberlist.Address, _ time.Duration) (net.Conn, error) {
	return &outgoing{t: t, node: a.Name}, nil
}

var errNameless = errors.New("gossip goes by the names of nodes")

// WriteTo is part of memberlist's Transport, which must not use it.
func (t *transport) WriteTo([]byte, string) (time.Time, error) { return time.Time{}, errNameless }

// DialTimeout is part of memberlist's Transport, which must not use it.
func (t *transport) DialTimeout(string, time.Duration) (net.Conn, error) { return nil, errNameless }

// PacketCh is part of memberlist's Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is part of memberlist's Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown is part of memberlist's Transport: it closes the sockets and waits
// for all that reads from them. memberlist calls it once.
func (t *transport) Shutdown() error {
	close(t.closing)
	var err error
	for _, s := range *t.sockets.Load() {
		err = errors.Join(err, s.close())
	}
	t.wg.Wait()
	return err
}
