package dataplane

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

// answer sends a SYN with ACK, to which there is no SYN: it is of no connection.
func (s space) answer(from, to string) {
	s.t.Helper()
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 7007)
	binary.BigEndian.PutUint16(b[2:], 40000)
	binary.BigEndian.PutUint32(b[4:], 12345)
	binary.BigEndian.PutUint32(b[8:], 54321)
	b[12], b[13] = 5<<4, 0x12
	binary.BigEndian.PutUint16(b[14:], 1024)
	pseudo := append(netip.MustParseAddr(from).AsSlice(), netip.MustParseAddr(to).AsSlice()...)
	pseudo = append(append(pseudo, 0, 6, 0, 20), b...)
	sum := uint32(0)
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(pseudo[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum&0xffff+sum>>16))
	s.do(func() {
		c, err := net.Dial("ip4:tcp", to)
		if err == nil {
			_, err = c.Write(b)
			_ = c.Close()
		}
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			s.t.Errorf("send to %s: %v", to, err)
		}
	})
}

// errorsHeard records the ICMP errors that reach the namespace from now on.
func (s space) errorsHeard() func() int {
	s.t.Helper()
	var c net.PacketConn
	var err error
	s.do(func() { c, err = net.ListenPacket("ip4:icmp", "0.0.0.0") })
	must(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return func() (n int) {
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		b := make([]byte, 2000)
		for {
			size, _, err := c.ReadFrom(b)
			if err != nil {
				return n
			}
			if size > 0 && b[0] == 3 {
				n++
			}
		}
	}
}

// TestLostIsSilent: what belongs to no connection, and what a policy has no uplink
// for, draws no error: a host would take that for the last word. Routes of the main
// table are followed all the same.
func TestLostIsSilent(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, server := world(t)
	k, c, in := master(t)
	netlab.Sh(t, `ip -n guest addr add 198.18.0.1/32 dev lo; ip -n guest addr add 198.18.1.1/32 dev lo; ip route add 198.18.0.0/24 via 192.168.88.10`)
	there, heard := server.sniff(t), client.errorsHeard()
	at := guest.sniff(t)
	drops := func() string {
		return netlab.Sh(t, "nft list chain inet harouter stray_nowhere")
	}

	client.answer(clientAddr, serverAddr)
	if n, got := heard(), there(); n != 0 || got != "" {
		t.Errorf("a SYN with ACK to the internet: %d errors, want silence; the server heard %q", n, got)
	}
	if !strings.Contains(drops(), "counter packets 1 ") {
		t.Errorf("it is not counted:\n%s", drops())
	}
	client.answer(clientAddr, guestAddr)
	client.answer(clientAddr, "198.18.0.1")
	eventually(t, 5*time.Second, "both at the guest", func() bool { return strings.Count(at(), "flags 0x12") == 2 })
	heard() // its resets are answered by nobody

	// Also while a line is dead, and its table knows no way.
	netlab.Sh(t, "ip link set wan1 down")
	client.answer(clientAddr, serverAddr)
	if n := heard(); n != 0 {
		t.Errorf("while the line is dead: %d errors, want silence", n)
	}
	netlab.Sh(t, "ip link set wan1 up")

	// What bypasses goes by the main table.
	c.Policies = []balancer.Policy{
		{Name: "aside", Bypass: true, Match: balancer.Match{balancer.MatchDestination: networks("198.18.1.0/24")}},
		{Name: "none", WhenNone: balancer.NoneDrop, Uplinks: []string{"dsl"}, Match: balancer.Match{balancer.MatchDestination: networks("198.51.100.2/32")}},
		{Name: "default"},
	}
	in.Usable = map[string]bool{"cable": true}
	in.Verdicts["dsl"] = balancer.Down
	netlab.Sh(t, "ip route add default via 192.168.88.10")
	must(t, k.Apply(t.Context(), build(t, c, in)))
	client.answer(clientAddr, "198.18.1.1")
	eventually(t, 5*time.Second, "what bypasses at the guest", func() bool { return strings.Count(at(), "flags 0x12") == 3 })
	netlab.Sh(t, "ip route del default via 192.168.88.10")
	heard()
	client.answer(clientAddr, serverAddr)
	if n, got := heard(), there(); n != 0 || got != "" {
		t.Errorf("with a policy that bypasses: %d errors, want silence; the server heard %q", n, got)
	}
	if _, _, err := client.dial("198.51.100.2:80", 300*time.Millisecond); !isTimeout(err) {
		t.Errorf("a policy without its uplink: %v, want silence", err)
	}
}
