package dataplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

// A small world around the router under test, which is the namespace of the
// test itself:
//
//	client 192.168.77.10 ─ lan0 ┐        ┌ wan1 ─ isp1 203.0.113.1   ┐
//	                            │ router │                           ├ server 198.51.100.1
//	guest 192.168.88.10 ── lan1 ┘        └ wan2 ─ isp2 203.0.113.129 ┘
const (
	clientAddr = "192.168.77.10"
	guestAddr  = "192.168.88.10"
	serverAddr = "198.51.100.1"
	cableAddr  = "203.0.113.10"
	dslAddr    = "203.0.113.140"
)

// space is a network namespace of the world.
type space struct {
	t    *testing.T
	name string
}

// do runs f on a thread that is inside the namespace. The thread ends with it
// and is never used for anything else; sockets that f opens stay inside.
func (s space) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends here
		ns, err := os.Open("/run/netns/" + s.name)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err != nil {
			s.t.Errorf("enter the namespace %s: %v", s.name, err)
			return
		}
		f()
	}()
	<-done
}

func (s space) sh(line string) string {
	s.t.Helper()
	return netlab.Sh(s.t, "ip netns exec "+s.name+" sh -ec '"+line+"'")
}

// privateSpaces lets `ip netns` keep its names where only this test sees them.
func privateSpaces(t *testing.T) {
	t.Helper()
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, os.MkdirAll("/run/netns", 0o755))
	must(t, unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""))
}

// world builds the site. The router has own addresses on both lans and on
// wan1; where it is to hold the virtual ones, hold adds them.
func world(t *testing.T) (client, guest, server space) {
	t.Helper()
	privateSpaces(t)
	netlab.Sh(t, `ip link set lo up
for n in client guest isp1 isp2 server; do ip netns add $n; ip -n $n link set lo up; done
plug() { ip link add $1 type veth peer name $3 netns $2; ip link set $1 up; ip -n $2 link set $3 up; }
plug lan0 client eth0; plug lan1 guest eth0; plug wan1 isp1 cust; plug wan2 isp2 cust
ip addr add 192.168.77.2/24 dev lan0; ip addr add 192.168.88.2/24 dev lan1; ip addr add 203.0.113.2/25 dev wan1
ip addr add 169.254.51.1/32 dev wan2 scope link noprefixroute # as vrrp/vip gives where there is none
ip -n client addr add 192.168.77.10/24 dev eth0; ip -n client route add default via 192.168.77.1
ip -n guest addr add 192.168.88.10/24 dev eth0; ip -n guest route add default via 192.168.88.1
ip -n isp1 addr add 203.0.113.1/25 dev cust; ip -n isp2 addr add 203.0.113.129/25 dev cust
for i in 1 2 3 4 5 6 7 8; do ip -n server addr add 198.51.100.$i/32 dev lo; done
for i in 1 2; do
  ip -n isp$i link add core type veth peer name isp$i netns server
  ip -n isp$i link set core up; ip -n server link set isp$i up
  ip -n isp$i addr add 10.0.$i.1/30 dev core; ip -n server addr add 10.0.$i.2/30 dev isp$i
  ip -n isp$i route add default via 10.0.$i.2
  ip netns exec isp$i sysctl -qw net.ipv4.ip_forward=1
done
ip netns exec server sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.isp1.rp_filter=0 net.ipv4.conf.isp2.rp_filter=0
ip -n server route add 203.0.113.0/25 via 10.0.1.1 src 198.51.100.1; ip -n server route add 203.0.113.128/25 via 10.0.2.1 src 198.51.100.1`)
	return space{t, "client"}, space{t, "guest"}, space{t, "server"}
}

// hold adds the virtual addresses, as vrrp/vip does.
func hold(t *testing.T) {
	netlab.Sh(t, `ip addr add 192.168.77.1/24 dev lan0 noprefixroute; ip addr add 192.168.88.1/24 dev lan1 noprefixroute
ip addr add 203.0.113.10/25 dev wan1 noprefixroute; ip addr add 203.0.113.140/25 dev wan2 noprefixroute`)
}

// settings are the plan's inputs for the router of world as master.
func settings() (balancer.Config, balancer.Input) {
	c, in := twoUplinks()
	c.Lans = []balancer.Lan{
		{Name: "office", Device: "lan0", Virtual: prefix("192.168.77.1/24")},
		{Name: "guests", Device: "lan1", Virtual: prefix("192.168.88.1/24")},
	}
	in.OwnLan["guests"] = prefix("192.168.88.2/24")
	return c, in
}

// master is the router of world, ready.
func master(t *testing.T) (k *Kernel, c balancer.Config, in balancer.Input) {
	t.Helper()
	c, in = settings()
	k = quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	return k, c, in
}

func quietKernel(t *testing.T) *Kernel {
	t.Helper()
	k, err := New(Config{StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	return k
}

// serve runs a TCP server that tells each peer its address as seen from there,
// and then echoes; it returns the connections as they are accepted.
func (s space) serve(port int) <-chan net.Conn {
	s.t.Helper()
	accepted := make(chan net.Conn, 1<<14)
	var l net.Listener
	s.do(func() {
		var err error
		if l, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port)); err != nil {
			s.t.Errorf("listen in %s: %v", s.name, err)
		}
	})
	if l == nil {
		s.t.FailNow()
	}
	s.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
			go func() {
				ap := c.RemoteAddr().(*net.TCPAddr).AddrPort()
				_, _ = fmt.Fprintf(c, "%-20s", ap.Addr().Unmap())
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return accepted
}

// dial opens a connection and returns it with the address that the server saw.
func dial(to string, timeout time.Duration) (net.Conn, string, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.Dial("tcp4", to)
	if err != nil {
		return nil, "", err
	}
	hello := make([]byte, 20)
	_ = c.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.ReadFull(c, hello); err != nil {
		_ = c.Close()
		return nil, "", err
	}
	_ = c.SetReadDeadline(time.Time{})
	return c, strings.TrimSpace(string(hello)), nil
}

func (s space) dial(to string, timeout time.Duration) (c net.Conn, seen string, err error) {
	s.do(func() { c, seen, err = dial(to, timeout) })
	return c, seen, err
}

// seen connects n times and counts the addresses that the server saw.
func (s space) seen(to string, n int) map[string]int {
	s.t.Helper()
	out := map[string]int{}
	s.do(func() {
		for i := range n {
			c, addr, err := dial(to, 5*time.Second)
			if err != nil {
				s.t.Errorf("connection %d from %s to %s: %v", i, s.name, to, err)
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0) // leaves no TIME_WAIT behind
			_ = c.Close()
			out[addr]++
		}
	})
	return out
}

// echo sends a word and waits for it to come back.
func echo(c net.Conn, timeout time.Duration) error {
	const word = "still there"
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(timeout))
	_, err := io.ReadFull(c, make([]byte, len(word)))
	_ = c.SetReadDeadline(time.Time{})
	return err
}

// flows are the conntrack entries with that original destination.
func flows(t *testing.T, to string) []*netlink.ConntrackFlow {
	t.Helper()
	all, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	must(t, err)
	var out []*netlink.ConntrackFlow
	for _, f := range all {
		if f.Forward.DstIP.String() == to {
			out = append(out, f)
		}
	}
	return out
}

// forget deletes all conntrack entries, as if another node had them.
func forget(t *testing.T) {
	t.Helper()
	must(t, netlink.ConntrackTableFlush(netlink.ConntrackTable))
}

// eventually polls until f is content.
func eventually(t *testing.T, within time.Duration, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
