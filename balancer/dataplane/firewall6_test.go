package dataplane

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestFirewallOfIPv6: where IPv6 is routed, it is treated as IPv4 is, and what it
// needs to find its neighbours passes.
func TestFirewallOfIPv6(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	privateSpaces(t)
	// (Without duplicate detection, which keeps routers from asking for a second.)
	netlab.Sh(t, `ip link set lo up; sysctl -qw net.ipv6.conf.default.dad_transmits=0
for n in client isp1; do ip netns add $n; ip -n $n link set lo up; ip netns exec $n sysctl -qw net.ipv6.conf.default.dad_transmits=0; done
plug() { ip link add $1 type veth peer name $3 netns $2; ip link set $1 up; ip -n $2 link set $3 up; }
plug lan0 client eth0; plug lan1 client eth1; plug wan1 isp1 cust; plug wan2 isp1 other
sysctl -qw net.ipv6.conf.all.forwarding=1
ip addr add 2001:db8:77::1/64 dev lan0 nodad; ip addr add 2001:db8:9::1/64 dev wan1 nodad
ip route add 2001:db8:7::/48 via 2001:db8:77::10; ip route add default via 2001:db8:9::2
ip -n client addr add 2001:db8:77::10/64 dev eth0 nodad; ip -n client route add default via 2001:db8:77::1
ip -n isp1 addr add 2001:db8:9::2/64 dev cust nodad; ip -n isp1 route add 2001:db8::/32 via 2001:db8:9::1
for a in 7::10 8::10; do ip -n client addr add 2001:db8:$a/128 dev lo; done
for a in 1::1 77::66 9::3 8009::4; do ip -n isp1 addr add 2001:db8:$a/128 dev lo; done`)
	client, isp := space{t, "client"}, space{t, "isp1"}
	c, in := settings()
	c.Firewall = guarded()
	c.Firewall.ICMP, c.Firewall.SYN = balancer.Rate{Count: 3, Unit: "minute"}, balancer.Rate{Count: 15, Unit: "minute"}
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	refused := func(reason string) uint64 {
		t.Helper()
		n, err := Refused()
		must(t, err)
		return n[reason]
	}
	listen := func(in space, port string) {
		t.Helper()
		in.do(func() {
			l, err := net.Listen("tcp6", "[::]:"+port)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { _ = l.Close() }) // the kernel answers, who accepts or not
		})
	}
	router := space{t, "router"}
	netlab.Sh(t, "touch /run/netns/router; mount --bind /proc/self/ns/net /run/netns/router")
	for _, port := range []string{"22", "23"} {
		listen(router, port)
	}
	for _, port := range []string{"80", "443"} {
		listen(client, port)
	}
	listen(isp, "80")
	opens := func(from space, source, to string, want bool) (ok bool) {
		d := net.Dialer{Timeout: 100 * time.Millisecond} // what is refused is counted
		if want {
			d.Timeout = 2 * time.Second
		}
		from.do(func() {
			if source != "" {
				d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
			}
			conn, err := d.Dial("tcp6", to)
			if ok = err == nil; ok {
				_ = conn.Close()
			}
		})
		return ok
	}
	for _, v := range []struct {
		name       string
		from       space
		source, to string
		want       bool
		reason     string
	}{
		{"allowed", isp, "", "[2001:db8:9::1]:22", true, ""},
		{"not allowed", isp, "", "[2001:db8:9::1]:23", false, "denied"},
		{"a host", isp, "", "[2001:db8:77::10]:80", false, "denied"},
		{"an allowed port of a host", isp, "2001:db8:1::1", "[2001:db8:7::10]:443", true, ""},
		{"the same from another network", isp, "2001:db8:8009::4", "[2001:db8:7::10]:443", false, "denied"},
		{"out", client, "", "[2001:db8:9::2]:80", true, ""},
		{"from outside as one of a lan", isp, "2001:db8:77::66", "[2001:db8:9::1]:22", false, "spoofed"},
		{"from a lan as one outside", client, "2001:db8:8::10", "[2001:db8:9::2]:80", false, "spoofed"},
	} {
		before := refused(v.reason)
		if got := opens(v.from, v.source, v.to, v.want); got != v.want {
			t.Errorf("%s: opens %t, want %t", v.name, got, v.want)
		}
		if now := refused(v.reason); v.reason != "" && now == before {
			t.Errorf("%s: not counted as %s", v.name, v.reason)
		}
	}

	netlab.Sh(t, "ip neigh flush dev wan1; ip -n isp1 neigh flush dev cust")
	if !opens(isp, "", "[2001:db8:9::1]:22", true) {
		t.Error("neighbours do not find each other")
	}

	// What switches, routers and servers of DHCP say is nobody's attack; of pings
	// three a minute are none.
	router.do(func() {
		u, err := net.ListenPacket("udp6", "[::]:546")
		must(t, err)
		t.Cleanup(func() { _ = u.Close() })
		go answers(u)
	})
	must(t, isp.ask6("[2001:db8:9::1]:546"))
	before, pings := refused("denied"), refused("icmp")
	isp.do(func() {
		raw, err := net.ListenPacket("ip6:58", "2001:db8:9::2")
		if err != nil {
			t.Error(err)
			return
		}
		defer raw.Close()
		for i, kind := range []byte{130, 134, 143, 128, 128, 128, 128, 128} {
			_, err := raw.WriteTo(append([]byte{kind, 0, 0, 0, 0, byte(i)}, make([]byte, 18)...), &net.IPAddr{IP: net.ParseIP("2001:db8:9::1")})
			must(t, err)
		}
	})
	isp.do(func() {
		u, err := net.Dial("udp6", "[2001:db8:9::1]:9") // comes behind them
		must(t, err)
		_, _ = u.Write([]byte("?"))
		_ = u.Close()
	})
	eventually(t, time.Second, "a datagram is denied", func() bool { return refused("denied") > before })
	if n := refused("denied"); n != before+1 {
		t.Errorf("ICMPv6 that it needs, pings, and a datagram that is denied: %d counted as denied", n-before)
	}
	if refused("icmp") == pings {
		t.Error("five pings, and three a minute are allowed")
	}

	// A network is one source, however many addresses its hosts have.
	for i := 0; i < 30 && refused("syn") == 0; i++ {
		opens(isp, "", "[2001:db8:9::1]:22", false)
	}
	flooded := refused("syn")
	if flooded == 0 {
		t.Error("a flood of one source is not cut")
	}
	for range 4 { // one in four seconds would pass
		opens(isp, "2001:db8:9::3", "[2001:db8:9::1]:22", false)
	}
	if refused("syn") == flooded {
		t.Error("another address of the same network counts by itself")
	}
	if !opens(isp, "2001:db8:1::1", "[2001:db8:9::1]:22", true) {
		t.Error("another network suffers from the flood")
	}
}

// ask6 sends a datagram over IPv6 and waits for an answer.
func (s space) ask6(to string) (err error) {
	s.do(func() {
		var c net.Conn
		if c, err = net.Dial("udp6", to); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err = c.Write([]byte("?")); err == nil {
			_, err = c.Read(make([]byte, 10))
		}
	})
	return err
}
