package dataplane

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// ping sends one echo request from the namespace of the calling thread.
func ping(to string) error {
	c, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return err
	}
	defer c.Close()
	id := int(time.Now().UnixNano() & 0xffff)
	b, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: 1}}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	in := make([]byte, 1500)
	for {
		n, _, err := c.ReadFrom(in)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(1, in[:n])
		if err != nil {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && m.Type == ipv4.ICMPTypeEchoReply && e.ID == id {
			return nil
		}
		if m.Type == ipv4.ICMPTypeDestinationUnreachable {
			return errors.New("unreachable")
		}
	}
}

// sniff records the TCP packets that arrive in the namespace from now on; the
// returned function tells them.
func (s space) sniff(t *testing.T) func() string {
	t.Helper()
	var c net.PacketConn
	var err error
	s.do(func() { c, err = net.ListenPacket("ip4:tcp", "0.0.0.0") })
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	var mu sync.Mutex
	var got []string
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n >= 14 {
				mu.Lock()
				got = append(got, fmt.Sprintf("from %v, flags %#02x", from, b[13]))
				mu.Unlock()
			}
		}
	}()
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(got, "\n")
	}
}
