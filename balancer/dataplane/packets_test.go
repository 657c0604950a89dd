package dataplane

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestSplit: new connections are spread by weight, leave with the uplink's
// virtual address, and stop using an uplink as soon as it left the pool.
func TestSplit(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	// As some distributions have it: loose at least, and strict by default.
	netlab.Sh(t, "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; for d in lan0 wan1 wan2; do echo 1 > /proc/sys/net/ipv4/conf/$d/rp_filter; done")
	k, c, in := master(t)
	server.serve(80)
	const n = 1500
	seen := client.seen(serverAddr+":80", n)
	if len(seen) != 2 {
		t.Errorf("addresses seen: %v, want %s and %s only", seen, cableAddr, dslAddr)
	}
	share := float64(seen[cableAddr]) / n
	want := build(t, c, in).Shares["default"]["cable"]
	if math.Abs(share-want) > 0.05 { // four sigma
		t.Errorf("cable got %.3f of the connections, want %.3f", share, want)
	}

	in.Usable["cable"] = false
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if seen := client.seen(serverAddr+":80", 50); seen[dslAddr] != 50 {
		t.Errorf("without cable: %v", seen)
	}
}

// TestFlowKeepsItsUplink: whatever happens to the pool, running flows stay.
func TestFlowKeepsItsUplink(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	conns := map[string]net.Conn{}
	for i := 0; len(conns) < 2 && i < 100; i++ {
		conn, from, err := client.dial(serverAddr+":80", time.Second)
		must(t, err)
		conns[from] = conn
	}
	for _, pool := range []map[string]bool{{"cable": true}, {"dsl": true}, {"cable": true, "dsl": true}} {
		in.Usable = pool
		must(t, k.Apply(t.Context(), build(t, c, in)))
		for from, conn := range conns {
			if err := echo(conn, 2*time.Second); err != nil {
				t.Errorf("pool %v: the flow from %s: %v", pool, from, err)
			}
		}
	}
}

// TestInboundIsAnsweredThroughItsUplink: to the router itself, and to a host
// of the LAN that an ISP routes to.
func TestInboundIsAnsweredThroughItsUplink(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	l, err := net.Listen("tcp4", "0.0.0.0:2222")
	must(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(conn, "%-20s", conn.RemoteAddr().(*net.TCPAddr).IP)
		}
	}()
	client.serve(80)
	netlab.Sh(t, `ip -n isp1 route add 192.168.77.0/24 via 203.0.113.10; ip -n isp2 route add 192.168.77.0/24 via 203.0.113.140`)
	for _, pool := range []string{"cable", "dsl"} { // never mind where new flows go
		in.Usable = map[string]bool{pool: true}
		must(t, k.Apply(t.Context(), build(t, c, in)))
		for isp, way := range map[string]string{"isp1": "10.0.1.1", "isp2": "10.0.2.1"} {
			server.sh("ip route replace 192.168.77.0/24 src " + serverAddr + " via " + way)
			for _, to := range []string{cableAddr + ":2222", dslAddr + ":2222", clientAddr + ":80"} {
				if conn, seen, err := server.dial(to, time.Second); err != nil || seen != serverAddr {
					t.Errorf("pool %s, from %s to %s: server seen as %q, %v", pool, isp, to, seen, err)
				} else {
					_ = conn.Close()
				}
			}
		}
	}
}

// TestBackupDropsNewFlows: a backup forwards what is established and takes
// nothing new; Activate changes that in one step.
func TestBackupDropsNewFlows(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	conn, _, err := client.dial(serverAddr+":80", time.Second)
	must(t, err)

	in.Active, in.Holding = false, false
	must(t, k.Activate(t.Context(), false, false))
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if err := echo(conn, time.Second); err != nil {
		t.Errorf("the established flow on a backup: %v", err)
	}
	if _, _, err := client.dial(serverAddr+":80", 300*time.Millisecond); !isTimeout(err) {
		t.Errorf("a new flow on a backup: %v, want a time-out", err)
	}
	if err := client.ping(serverAddr); err == nil {
		t.Error("a ping went through a backup")
	}

	start := time.Now()
	must(t, k.Activate(t.Context(), true, true))
	took := time.Since(start)
	t.Logf("Activate took %v", took)
	if took > 50*time.Millisecond {
		t.Errorf("Activate took %v, want a few ms", took)
	}
	if _, _, err := client.dial(serverAddr+":80", time.Second); err != nil {
		t.Errorf("a new flow after the takeover: %v", err)
	}
	if err := client.ping(serverAddr); err != nil {
		t.Errorf("ping after the takeover: %v", err)
	}
	if err := echo(conn, time.Second); err != nil {
		t.Errorf("the established flow after the takeover: %v", err)
	}
}

func (s space) ping(to string) (err error) {
	s.do(func() { err = ping(to) })
	return err
}

// TestMidstream: TCP without an entry is dropped in the grace time, then reset
// towards the client; the server never hears of it.
func TestMidstream(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, _, _ := master(t)
	accepted := server.serve(80)
	conn, _, err := client.dial(serverAddr+":80", time.Second)
	must(t, err)
	far := <-accepted
	sent := server.sniff(t)

	must(t, k.Activate(t.Context(), true, true))
	forget(t)
	start := time.Now()
	if err := echo(conn, time.Second); !isTimeout(err) {
		t.Errorf("in the grace time: %v, want silence", err)
	}
	var last error
	eventually(t, 12*time.Second, "a reset", func() bool { last = echo(conn, 200*time.Millisecond); return !isTimeout(last) })
	if !isReset(last) {
		t.Errorf("after the grace time: %v, want a reset", last)
	}
	if d := time.Since(start); d < 2900*time.Millisecond {
		t.Errorf("the reset came after %v, within the grace time", d)
	}
	if got := sent(); got != "" {
		t.Errorf("the server got packets of the flow:\n%s", got)
	}
	// And the server's own words end in silence at the virtual address.
	if err := echo(far, 500*time.Millisecond); !isTimeout(err) {
		t.Errorf("the server's side: %v, want silence", err)
	}
}

// TestVirtualAddressIsSilent: what has neither entry nor listener draws no
// answer; a listener and ping answer.
func TestVirtualAddressIsSilent(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	_, _, server := world(t)
	master(t)
	silence(t, server)
}

// TestSilenceWithoutSocketExpression: the same where the kernel has no NFT_SOCKET.
func TestSilenceWithoutSocketExpression(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	_, _, server := world(t)
	k, c, in := master(t)
	k.deaf = true
	must(t, k.Apply(t.Context(), build(t, c, in)))
	silence(t, server)
}

func silence(t *testing.T, server space) {
	t.Helper()
	l, err := net.Listen("tcp4", ":2222")
	must(t, err)
	defer l.Close()
	for _, to := range []string{cableAddr, dslAddr} {
		u, err := net.ListenPacket("udp4", to+":53")
		must(t, err)
		defer u.Close()
		go answers(u)
		if _, _, err := server.dial(to+":81", 200*time.Millisecond); !isTimeout(err) {
			t.Errorf("tcp to a closed port of %s: %v, want silence", to, err)
		}
		if err := server.ask(to+":54", 200*time.Millisecond); !isTimeout(err) {
			t.Errorf("udp to a closed port of %s: %v, want silence", to, err)
		}
		if err := server.ask(to+":53", time.Second); err != nil {
			t.Errorf("udp to an open port of %s: %v", to, err)
		}
		var c net.Conn
		server.do(func() { c, err = net.DialTimeout("tcp4", to+":2222", time.Second) })
		if err != nil {
			t.Errorf("tcp to an open port of %s: %v", to, err)
		} else {
			_ = c.Close()
		}
		if err := server.ping(to); err != nil {
			t.Errorf("ping %s: %v", to, err)
		}
	}
	// The node's own address behaves as everybody's.
	if _, _, err := server.dial("203.0.113.2:81", time.Second); err == nil || isTimeout(err) {
		t.Errorf("tcp to a closed port of the own address: %v, want refused", err)
	}
}

// TestNotAccepted: the virtual addresses answer nothing for themselves, and
// carry all as before: what is forwarded, and what the router itself began.
func TestNotAccepted(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	c.Lans[0].Virtual = append(prefix("2001:db8::1/64"), c.Lans[0].Virtual...)
	netlab.Sh(t, "ip addr add 2001:db8::1/64 dev lan0 nodad; ip addr add 2001:db8::2/64 dev lan0 nodad; ip -n client addr add 2001:db8::10/64 dev eth0 nodad")
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, ":2222")
		must(t, err)
		defer l.Close()
	}
	for _, accept := range []bool{true, false, true} {
		c.NoAccept = !accept
		must(t, k.Apply(t.Context(), build(t, c, in)))
		for _, from := range []struct {
			space
			to string
		}{{client, "192.168.77.1"}, {server, cableAddr}} {
			err := from.ping(from.to)
			if (err == nil) != accept {
				t.Errorf("accept %t: ping %s from %s: %v", accept, from.to, from.name, err)
			}
			var conn net.Conn
			from.do(func() { conn, err = net.DialTimeout("tcp4", from.to+":2222", 200*time.Millisecond) })
			if (err == nil) != accept {
				t.Errorf("accept %t: tcp to %s from %s: %v", accept, from.to, from.name, err)
			}
			if conn != nil {
				_ = conn.Close()
			}
		}
		for to, want := range map[string]bool{"[2001:db8::1]": accept, "[2001:db8::2]": true} {
			var conn net.Conn
			var err error
			client.do(func() { conn, err = net.DialTimeout("tcp6", to+":2222", 200*time.Millisecond) })
			if (err == nil) != want {
				t.Errorf("accept %t: tcp to %s: %v", accept, to, err)
			}
			if conn != nil {
				_ = conn.Close()
			}
			if n := client.sh("ip -6 neigh show " + strings.Trim(to, "[]") + " dev eth0"); !strings.Contains(n, "lladdr") {
				t.Errorf("accept %t: %s has no MAC: %s", accept, to, n)
			}
		}
		if err := client.ping(serverAddr); err != nil {
			t.Errorf("accept %t: through the router: %v", accept, err)
		}
		if err := client.ping("192.168.77.2"); err != nil {
			t.Errorf("accept %t: the router's own address: %v", accept, err)
		}
		own := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(cableAddr)}}
		if _, err := own.Dial("tcp4", serverAddr+":81"); err == nil || isTimeout(err) {
			t.Errorf("accept %t: the router's own connection to a closed port: %v, want refused", accept, err)
		}
		if conn, err := net.DialTimeout("tcp4", "192.168.77.1:2222", time.Second); err != nil {
			t.Errorf("accept %t: the router to itself: %v", accept, err)
		} else {
			_ = conn.Close()
		}
	}
}

// ask sends a datagram and waits for an answer.
func (s space) ask(to string, timeout time.Duration) (err error) {
	s.do(func() {
		var c net.Conn
		if c, err = net.Dial("udp4", to); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(timeout))
		if _, err = c.Write([]byte("?")); err == nil {
			_, err = c.Read(make([]byte, 10))
		}
	})
	return err
}

// TestOwnTraffic: a backup uses its own WAN address, un-NATed, and no other
// uplink; a master the virtual ones too.
func TestOwnTraffic(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	_, _, server := world(t)
	c, in := settings()
	in.Active, in.Holding = false, false
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	server.serve(80)
	seen := map[string]int{}
	connect := func(n int) {
		clear(seen)
		for i := range n {
			// (The kernel chooses by source and destination.)
			conn, from, err := dial(fmt.Sprintf("198.51.100.%d:80", 1+i%8), time.Second)
			if err != nil {
				t.Errorf("own connection %d: %v", i, err)
				continue
			}
			seen[from]++
			_ = conn.Close()
		}
	}
	connect(20)
	if d := cmp.Diff(map[string]int{"203.0.113.2": 20}, seen); d != "" {
		t.Errorf("own traffic of a backup:\n%s", d)
	}
	for _, f := range flows(t, serverAddr) {
		if f.Forward.SrcIP.String() == "203.0.113.2" && f.Mark != 0x100 {
			t.Errorf("own flow has the mark %#x, want that of cable", f.Mark)
		}
	}

	must(t, k.Activate(t.Context(), true, false))
	in.Active, in.Holding = true, true
	must(t, k.Apply(t.Context(), build(t, c, in)))
	hold(t)
	connect(60)
	if seen["203.0.113.2"] == 0 || seen[dslAddr] == 0 || seen["203.0.113.2"]+seen[dslAddr] != 60 {
		t.Errorf("own traffic of a master: %v, want both uplinks", seen)
	}
	// A program that binds itself to an address leaves by that uplink.
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(dslAddr)}}
	for range 10 {
		conn, err := d.Dial("tcp4", serverAddr+":80")
		if err != nil {
			t.Fatalf("bound to %s: %v", dslAddr, err)
		}
		_ = conn.Close()
	}
}

// TestBackupWithoutWANAddress: its own traffic goes through the master, which
// gives it an uplink like any host's.
func TestBackupWithoutWANAddress(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	_, _, server := world(t)
	master(t)
	server.serve(80)
	// The other node: on the office LAN behind a switch, and on a cable.
	netlab.Sh(t, `ip netns add r2; ip -n r2 link set lo up
ip link add br0 type bridge; ip link set br0 up
ip link add cab0 type veth peer name cab0 netns r2; ip link set cab0 up; ip -n r2 link set cab0 up
ip addr add 192.0.2.1/30 dev cab0; ip -n r2 addr add 192.0.2.2/30 dev cab0
for d in lan0 wan1 wan2; do ip -n r2 link add $d type veth peer name p$d; ip -n r2 link set $d up; ip -n r2 link set p$d up; done`)
	r2 := space{t, "r2"}
	c, in := settings()
	c.Lans = nil
	in = balancer.Input{Usable: in.Usable, Verdicts: in.Verdicts, Master: netip.MustParseAddr("192.0.2.1")}
	var k *Kernel
	r2.do(func() {
		k = quietKernel(t)
		if err := k.Apply(t.Context(), build(t, c, in)); err != nil {
			t.Error(err)
		}
	})
	conn, from, err := r2.dial(serverAddr+":80", 2*time.Second)
	if err != nil {
		t.Fatalf("through the master over the cable: %v\n%s", err, r2.sh("ip route show table all; ip rule"))
	}
	defer conn.Close()
	if from != cableAddr && from != dslAddr {
		t.Errorf("the server saw %s, want a virtual address", from)
	}
}

// TestOtherNetworksAreNotOurs: what a more specific route of the main table
// leads elsewhere is neither balanced nor translated nor marked.
func TestOtherNetworksAreNotOurs(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, server := world(t)
	master(t)
	guest.serve(80)
	server.serve(80)
	netlab.Sh(t, `ip netns add far; ip -n far link set lo up
ip link add tun0 type veth peer name tun0 netns far; ip link set tun0 up; ip -n far link set tun0 up
ip addr add 10.66.0.1/30 dev tun0; ip -n far addr add 10.66.0.2/30 dev tun0; ip -n far route add default via 10.66.0.1
ip -n far addr add 10.99.0.1/32 dev lo; ip route add 10.99.0.0/16 via 10.66.0.2`)
	space{t, "far"}.serve(80)
	for _, to := range []string{guestAddr, "10.99.0.1"} {
		if d := cmp.Diff(map[string]int{clientAddr: 5}, client.seen(to+":80", 5)); d != "" {
			t.Errorf("from the office to %s:\n%s", to, d)
		}
		if err := client.ping(to); err != nil {
			t.Errorf("ping %s: %v", to, err)
		}
		for _, f := range flows(t, to) {
			if f.Mark != 0 {
				t.Errorf("the flow to %s has the mark %#x", to, f.Mark)
			}
		}
	}
	// Hosts of an ISP's network are in main too, by the node's own prefix: the
	// flow leaves by that uplink, whatever was drawn, and translated.
	space{t, "isp1"}.serve(80)
	if d := cmp.Diff(map[string]int{cableAddr: 20}, client.seen("203.0.113.1:80", 20)); d != "" {
		t.Errorf("from the office to cable's own network:\n%s", d)
	}
	for _, f := range flows(t, "203.0.113.1") {
		if f.Mark != 0x100 {
			t.Errorf("the flow to cable's own network has the mark %#x", f.Mark)
		}
	}
}

// TestSwapLosesNothing: while slots are exchanged all the time, every new
// connection gets through.
func TestSwapLosesNothing(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	swaps := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c.Uplinks[0].Weight = 1 + swaps%7
			if err := k.Apply(t.Context(), build(t, c, in)); err != nil {
				t.Errorf("swap %d: %v", swaps, err)
				return
			}
			swaps++
		}
	})
	seen := client.seen(serverAddr+":80", 1500) // fails on the first that is lost
	close(stop)
	wg.Wait()
	t.Logf("%d swaps, %v", swaps, seen)
	if swaps < 5 {
		t.Errorf("only %d swaps", swaps)
	}
	for from := range seen {
		if from != cableAddr && from != dslAddr {
			t.Errorf("a connection left un-NATed, as %s", from)
		}
	}
}

// TestForeignMarkBits: bits outside of our mask are kept, in the packet's mark
// and in the connection's.
func TestForeignMarkBits(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	master(t)
	netlab.Sh(t, `nft -f - <<'EOF'
table ip other {
	chain pre { type filter hook prerouting priority -160; iifname "lan0" meta mark set 0x40000 ct mark set ct mark or 0x10000001; }
	chain post { type filter hook postrouting priority 150; oifname "wan1" meta mark & 0xffffc0ff != 0x40000 counter name lost; oifname "wan2" meta mark & 0xffffc0ff != 0x40000 counter name lost; }
	counter lost { }
}
EOF`)
	server.serve(80)
	client.seen(serverAddr+":80", 20)
	if s := netlab.Sh(t, "nft list counter ip other lost"); !strings.Contains(s, "packets 0 ") {
		t.Errorf("packets lost a foreign bit of their mark:\n%s", s)
	}
	all := flows(t, serverAddr)
	if len(all) == 0 {
		t.Error("no flows")
	}
	for _, f := range all {
		if f.Mark != 0x10000101 && f.Mark != 0x10000201 {
			t.Errorf("the flow's mark is %#x", f.Mark)
		}
	}
}

// TestPlainPackets: UDP and ping are balanced, translated and answered too.
func TestPlainPackets(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	master(t)
	var u net.PacketConn
	server.do(func() { u, _ = net.ListenPacket("udp4", ":53") })
	defer u.Close()
	var mu sync.Mutex
	seen := map[string]int{}
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			seen[from.(*net.UDPAddr).IP.String()]++
			mu.Unlock()
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
	for range 40 {
		must(t, client.ask(serverAddr+":53", time.Second))
	}
	mu.Lock()
	if len(seen) != 2 || seen[cableAddr] == 0 || seen[dslAddr] == 0 {
		t.Errorf("udp: %v", seen)
	}
	mu.Unlock()
	for range 5 {
		must(t, client.ping(serverAddr))
	}
	// The router is a host of its own on the LAN.
	must(t, client.ping("192.168.77.1"))
	must(t, client.ping("192.168.77.2"))
}

// TestAddressesChangeNoRoute: a takeover adds and removes addresses; that must
// not change what the plan wrote.
func TestAddressesChangeNoRoute(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	world(t)
	c, in := settings()
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	read := func() string {
		return netlab.Sh(t, "ip route show table all | grep -v ^local | grep -v ^broadcast; ip rule")
	}
	before := read()
	hold(t)
	if d := cmp.Diff(before, read()); d != "" {
		t.Errorf("adding the virtual addresses changed routes:\n%s", d)
	}
	netlab.Sh(t, `ip addr del 192.168.77.1/24 dev lan0; ip addr del 192.168.88.1/24 dev lan1
ip addr del 203.0.113.10/25 dev wan1; ip addr del 203.0.113.140/25 dev wan2`)
	if d := cmp.Diff(before, read()); d != "" {
		t.Errorf("removing the virtual addresses changed routes:\n%s", d)
	}
}

// TestInnerSourceDoesNotLeave: the router's own packets never reach an ISP with
// an address of an inner network, and what tried to is not bound to the uplink.
func TestInnerSourceDoesNotLeave(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	_, _, server := world(t)
	master(t)
	server.serve(80)
	heard := server.sniff(t)
	d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.168.77.2")}}
	if conn, err := d.Dial("tcp4", serverAddr+":80"); err == nil {
		t.Error("connected from an inner address")
		_ = conn.Close()
	}
	if got := heard(); got != "" {
		t.Errorf("the server heard:\n%s", got)
	}
	for _, f := range flows(t, serverAddr) {
		t.Errorf("a flow with the mark %#x: %v", f.Mark, f)
	}
	// To the inner networks, and from a WAN address, all is as ever.
	if _, _, err := dial(serverAddr+":80", time.Second); err != nil {
		t.Error(err)
	}
	must(t, ping(clientAddr))
}
