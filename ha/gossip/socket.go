package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"golang.org/x/sys/unix"
)

// socket is the UDP and the TCP socket of one own address.
type socket struct {
	at  netip.AddrPort
	udp *net.UDPConn
	raw syscall.RawConn // of udp
	tcp *net.TCPListener
}

// open makes the sockets of one own address and begins to read. The error
// wraps EADDRNOTAVAIL while the address is not on this machine, and EADDRINUSE
// if the port is taken.
func (t *transport) open(ctx context.Context, at netip.AddrPort) (*socket, error) {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for gossip: %w", err)
	}
	udp, err := lc.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for gossip: %w", err), tcp.Close())
	}
	s := &socket{at: at, tcp: tcp.(*net.TCPListener), udp: udp.(*net.UDPConn)}
	if s.raw, err = s.udp.SyscallConn(); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for gossip: %w", err), s.close())
	}
	// A burst while this process does not run is kept; less than asked is fine.
	s.udp.SetReadBuffer(1 << 20)
	t.wg.Go(func() { t.readPackets(s) })
	t.wg.Go(func() { t.acceptStreams(s) })
	return s, nil
}

func (s *socket) close() error { return errors.Join(s.tcp.Close(), s.udp.Close()) }

// write sends a packet or drops it. It never waits: a port that hangs must not
// hold up what goes over the others.
func (s *socket) write(b []byte, to netip.AddrPort) error {
	var sent error
	err := s.raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT, sockaddr(to))
		return true
	})
	if err == nil && sent != nil {
		err = os.NewSyscallError("sendto", sent)
	}
	if err != nil {
		return &net.OpError{Op: "write", Net: "udp", Source: net.UDPAddrFromAddrPort(s.at), Addr: net.UDPAddrFromAddrPort(to), Err: err}
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (t *transport) readPackets(s *socket) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			if !t.pause(err, "read packet") {
				return
			}
			continue
		}
		source := from.Addr().Unmap()
		r, sum := t.roster.Load(), t.recent.sum(buf[:n])
		if r.nodes[source] && t.recent.has(sum) { // the copy that came over another path
			r.heard(s.at.Addr(), source, at)
			continue
		}
		reason := t.seals.packet(buf[:n])
		if reason == "" && !r.nodes[source] {
			reason = DropSender
		}
		if reason != "" {
			t.drop(reason, source)
			continue
		}
		r.heard(s.at.Addr(), source, at)
		if t.recent.add(sum) {
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- packet:
		case <-t.closing:
			return
		}
	}
}

func (t *transport) acceptStreams(s *socket) {
	for {
		conn, err := s.tcp.AcceptTCP()
		if err != nil {
			if !t.pause(err, "accept stream") {
				return
			}
			continue
		}
		source := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		slots, limit := t.ofStrangers, streamTimeout
		if t.roster.Load().nodes[source] {
			slots, limit = t.ofNodes, streamTimeout+transferTime(maxStream)
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			t.drop(DropGarbage, source)
			continue
		}
		t.wg.Go(func() {
			defer func() { <-slots }()
			conn.SetDeadline(time.Now().Add(limit))
			t.judge(conn, s.at.Addr(), source)
		})
	}
}
