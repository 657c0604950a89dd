package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is memberlist's way to the network: the UDP and TCP sockets of
// this node's address. It lets in only what is sealed with a key of the
// cluster and comes from a node's address.
type transport struct {
	local   netip.AddrPort
	nodes   map[netip.Addr]bool // addresses of the other nodes
	seals   *seals
	drop    func(reason string, source netip.Addr)
	log     *slog.Logger
	udp     *net.UDPConn
	tcp     *net.TCPListener
	packets chan *memberlist.Packet
	streams chan net.Conn
	closing chan struct{}
	wg      sync.WaitGroup
	// Streams being judged. Strangers have slots of their own, so that they
	// cannot keep the nodes out.
	ofNodes, ofStrangers chan struct{}
}

const (
	streamTimeout = 400 * time.Millisecond // for connecting, and for the first message to come in
	nodeSlots     = 32
	strangerSlots = 8
)

// listen opens the sockets. The error wraps EADDRNOTAVAIL while the address is
// not on this machine, and EADDRINUSE if the port is taken.
func (t *transport) listen(ctx context.Context) error {
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp", t.local.String())
	if err != nil {
		return fmt.Errorf("listen for gossip: %w", err)
	}
	udp, err := lc.ListenPacket(ctx, "udp", t.local.String())
	if err != nil {
		tcp.Close()
		return fmt.Errorf("listen for gossip: %w", err)
	}
	t.tcp, t.udp = tcp.(*net.TCPListener), udp.(*net.UDPConn)
	// A burst while this process does not run is kept; less than asked is fine.
	t.udp.SetReadBuffer(1 << 20)
	t.packets, t.streams = make(chan *memberlist.Packet), make(chan net.Conn)
	t.closing = make(chan struct{})
	t.ofNodes, t.ofStrangers = make(chan struct{}, nodeSlots), make(chan struct{}, strangerSlots)
	t.wg.Go(t.readPackets)
	t.wg.Go(t.acceptStreams)
	return nil
}

func (t *transport) readPackets() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			if !t.pause(err, "read packet") {
				return
			}
			continue
		}
		source := from.Addr().Unmap()
		reason := t.seals.packet(buf[:n])
		if reason == "" && !t.nodes[source] {
			reason = DropSender
		}
		if reason != "" {
			t.drop(reason, source)
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

func (t *transport) acceptStreams() {
	for {
		conn, err := t.tcp.AcceptTCP()
		if err != nil {
			if !t.pause(err, "accept stream") {
				return
			}
			continue
		}
		source := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		slots := t.ofStrangers
		if t.nodes[source] {
			slots = t.ofNodes
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
			t.judge(conn, source)
		})
	}
}

// judge reads the first message of a stream and hands the stream on if that
// is authentic.
func (t *transport) judge(conn net.Conn, source netip.Addr) {
	conn.SetDeadline(time.Now().Add(streamTimeout))
	read, reason := t.seals.stream(conn)
	if read != nil && !t.nodes[source] {
		reason = DropSender
	}
	if read == nil || reason != "" {
		conn.Close()
		if reason != "" {
			t.drop(reason, source)
		}
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

// pause waits a moment after a socket error; false means that the transport
// is closing.
func (t *transport) pause(err error, doing string) bool {
	select {
	case <-t.closing:
		return false
	default:
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
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.local.Addr().AsSlice(), int(t.local.Port()), nil
}

// WriteTo is part of memberlist's Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send packet: %w", err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

// WriteToAddress is part of memberlist's NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh is part of memberlist's Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is part of memberlist's Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout is part of memberlist's Transport. The stream comes from this
// node's own address, as the other side demands, and never blocks for longer
// than twice the timeout in all.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, LocalAddr: &net.TCPAddr{IP: t.local.Addr().AsSlice()}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(timeout))
	return conn, nil
}

// DialAddressTimeout is part of memberlist's NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// Shutdown is part of memberlist's Transport: it closes the sockets and waits
// for all that reads from them. memberlist calls it once.
func (t *transport) Shutdown() error {
	close(t.closing)
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.wg.Wait()
	return err
}

// notYet tells whether listening may succeed later: the address comes with
// its device.
func notYet(err error) bool { return errors.Is(err, syscall.EADDRNOTAVAIL) }
