package netlab

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// serverRole is the child's side of Server. Its goroutines live as long as the
// process, which is the server.
type serverRole struct{}

type flowKey struct{ client, flow uint32 }

func (s *serverRole) handle(verb string, body json.RawMessage) (any, error) {
	switch verb {
	case "start":
		var addrs []netip.Addr
		if err := json.Unmarshal(body, &addrs); err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if err := s.listen(netip.AddrPortFrom(a, EchoPort)); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case "detach":
		return nil, nil
	}
	return nil, fmt.Errorf("a server does not know %q", verb)
}

func (s *serverRole) listen(at netip.AddrPort) error {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	udp, err := listenDatagrams(at)
	if err != nil {
		return errors.Join(fmt.Errorf("listen on udp %s: %w", at, err), tcp.Close())
	}
	go s.echoDatagrams(udp)
	go func() {
		for {
			conn, err := tcp.AcceptTCP()
			if err != nil {
				return
			}
			go serveStream(conn)
		}
	}()
	return nil
}

// listenDatagrams opens a socket whose reads block a thread.
func listenDatagrams(at netip.AddrPort) (int, error) {
	family, sa := socketAddress(at)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20), unix.Bind(fd, sa))
	if err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// echoDatagrams answers on one thread, at a priority that keeps the server's
// own waiting for a processor out of what the client measures.
func (s *serverRole) echoDatagrams(fd int) {
	runtime.LockOSThread()
	realtime(10)
	got := map[flowKey]uint64{} // datagrams received
	buf := make([]byte, 64<<10)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue // an ICMP error of an answer
		}
		d, ok := parseDatagram(buf[:n])
		if !ok {
			continue
		}
		key := flowKey{d.client, d.flow}
		got[key]++
		d.got, d.server, d.seen = got[key], Now(), sockaddr(from)
		d.put(buf)
		_ = unix.Sendto(fd, buf[:n], 0, from) // lost is what the client reports
	}
}

func sockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

func serveStream(conn *net.TCPConn) {
	defer conn.Close()
	_ = conn.SetKeepAlive(false)
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return
	}
	if _, err := conn.Write(greeting(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))); err != nil {
		return
	}
	buf := make([]byte, 16<<10)
	if _, err := io.ReadFull(conn, buf[:1]); err != nil {
		return
	}
	switch buf[0] {
	case askEcho:
		for {
			n, err := conn.Read(buf)
			if n > 0 {
				if _, err := conn.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	case askSink, askSource:
		var request [bulkRequestSize]byte
		if _, err := io.ReadFull(conn, request[:]); err != nil {
			return
		}
		flow, size := binary.BigEndian.Uint32(request[:]), binary.BigEndian.Uint32(request[4:])
		if buf[0] == askSink {
			sink(conn, flow, buf)
			return
		}
		source(conn, flow, int(size), time.Duration(binary.BigEndian.Uint64(request[8:])))
	}
}

// sink takes an upload to its end and says how it was.
func sink(conn *net.TCPConn, flow uint32, buf []byte) {
	want, right := pattern{flow: flow}, true
	var got uint64
	for {
		n, err := conn.Read(buf)
		got += uint64(n)
		right = right && want.accept(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	verdict := binary.BigEndian.AppendUint64(nil, got)
	if right {
		verdict = append(verdict, 1)
	}
	_, _ = conn.Write(append(verdict, 0)[:sinkVerdictSize])
}

// source sends until the client has closed its side.
func source(conn *net.TCPConn, flow uint32, size int, every time.Duration) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, conn)
	}()
	_ = sendBulk(conn, flow, size, every, closed, func(int) {}) // the client sees what is missing
	conn.Close()
	<-closed
}
