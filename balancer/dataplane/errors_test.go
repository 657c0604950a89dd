package dataplane

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

// TestRoutersErrorsReachHosts: what the router has to say about a flow of an
// uplink (here: a hop count that ended; as well the size that fits) reaches the host.
func TestRoutersErrorsReachHosts(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	master(t)
	server.do(func() {
		c, err := net.ListenPacket("udp4", "198.51.100.1:9000")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = c.Close() })
		go answers(c)
	})
	client.do(func() {
		c, err := net.Dial("udp4", "198.51.100.1:9000")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		ask := func() error {
			_, err := c.Write([]byte("x"))
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			_, readErr := c.Read(make([]byte, 100))
			return errors.Join(err, readErr)
		}
		if err := ask(); err != nil {
			t.Errorf("the flow: %v", err)
		}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		_ = raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1), unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1))
		})
		if err != nil {
			t.Error(err)
		}
		if err := ask(); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("with a hop count of 1: %v, want the router's word", err)
		}
	})
}
