package dataplane

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestOutside: what the devices of IPv6's virtual MACs, protocols without ports,
// hosts with addresses of their own and the nodes' ports have of the firewall.
func TestOutside(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	netlab.Sh(t, `ip link add hrv6-cable link wan1 address 00:00:5e:00:02:34 type macvlan mode private
ip link set hrv6-cable up; ip addr add 2001:db8:9::1/64 dev hrv6-cable nodad; ip -n isp1 addr add 2001:db8:9::2/64 dev cust nodad
ip -n isp1 route add 198.18.0.64/29 via 203.0.113.10; ip -n server route add 198.18.0.64/29 via 10.0.1.1
ip -n client addr add 198.18.0.65/32 dev lo; ip route add 198.18.0.64/29 via 192.168.77.10
ip -n server addr add 192.168.77.3/32 dev lo
ip addr add fd00::2/64 dev lan0 nodad; ip -n isp1 addr add fd00::3/128 dev lo`)
	c, in := settings()
	c.Firewall = guarded()
	c.Firewall.Antispoof = false
	c.Firewall.Allow = append(c.Firewall.Allow, balancer.Allow{To: prefix("198.18.0.64/29"), Protocol: 6, Ports: []balancer.Ports{{First: 80, Last: 80}}})
	c.Uplinks[0].MACDevice6, c.Uplinks[0].MAC6 = "hrv6-cable", "00:00:5e:00:02:34"
	c.Nodes = []netip.Addr{netip.MustParseAddr("192.168.77.2"), netip.MustParseAddr("192.168.77.3"), netip.MustParseAddr("fd00::3")}
	k := quietKernel(t)

	// The router is not open before its rules are there.
	p := build(t, c, in)
	bad := p
	bad.Table.Chains = append(slices.Clone(p.Table.Chains), balancer.Chain{Name: "bad", Rules: []balancer.Rule{{balancer.Jump{Kind: "jump", Chain: "nowhere at all"}}}})
	forwards := func() bool {
		b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
		must(t, err)
		return b[0] == '1'
	}
	if err := k.Apply(t.Context(), bad); err == nil || forwards() {
		t.Errorf("a table that cannot be: %v; open: %t, want an error and a closed router", err, forwards())
	}
	must(t, k.Apply(t.Context(), p))
	if !forwards() {
		t.Error("the router does not forward")
	}
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	refused := func(reason string) uint64 {
		t.Helper()
		n, err := Refused()
		must(t, err)
		return n[reason]
	}
	datagram := func(from space, network, source, to string) {
		t.Helper()
		from.do(func() {
			d := net.Dialer{Timeout: time.Second}
			if source != "" {
				local, err := net.ResolveUDPAddr(network, source)
				must(t, err)
				d.LocalAddr = local
			}
			u, err := d.Dial(network, to)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = u.Write([]byte("?"))
			_ = u.Close()
		})
	}
	for _, v := range []struct {
		name, reason, network, source, to string
		from                              space
	}{
		{"a device with IPv6's virtual MAC", "denied", "udp6", "", "[2001:db8:9::1]:9", space{t, "isp1"}},
		{"a node of a lan, by an uplink", "spoofed", "udp4", "192.168.77.3:7946", "203.0.113.2:7946", server},
		{"the same over IPv6", "spoofed", "udp6", "[fd00::3]:7946", "[2001:db8:9::1]:7946", space{t, "isp1"}},
		{"a protocol that is not allowed, to a virtual address", "", "ip4:50", "", cableAddr, server},
	} {
		before := refused(v.reason)
		datagram(v.from, v.network, v.source, v.to)
		if v.reason != "" {
			eventually(t, time.Second, v.name+" is refused", func() bool { return refused(v.reason) > before })
		}
	}
	listen := func(protocol string) net.PacketConn {
		t.Helper()
		l, err := net.ListenPacket(protocol, "0.0.0.0")
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	gre, esp := listen("ip4:47"), listen("ip4:50")
	datagram(server, "ip4:50", "", cableAddr)
	datagram(server, "ip4:47", "", cableAddr)
	must(t, gre.SetReadDeadline(time.Now().Add(time.Second)))
	if _, _, err := gre.ReadFrom(make([]byte, 100)); err != nil {
		t.Errorf("an allowed protocol, to a virtual address: %v", err)
	}
	must(t, esp.SetReadDeadline(time.Now())) // it was sent first
	if _, from, err := esp.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("a protocol that is not allowed came from %v", from)
	}

	client.serve(80)
	client.serve(81)
	if _, _, err := server.dial("198.18.0.65:80", time.Second); err != nil {
		t.Errorf("an allowed port of a host: %v", err)
	}
	before := refused("denied")
	if conn, _, err := server.dial("198.18.0.65:81", 300*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Error("another port of a host is open")
	}
	if refused("denied") == before {
		t.Error("another port of a host: not counted as denied")
	}

	// What was an uplink's before a reload is outside still.
	c.Uplinks = c.Uplinks[:1]
	for _, former := range []bool{false, true} {
		if former {
			c.Firewall.Former = []string{"wan2"}
		}
		must(t, k.Apply(t.Context(), build(t, c, in)))
		before := refused("denied")
		datagram(server, "udp4", "198.51.100.1:54", dslAddr+":9")
		datagram(server, "udp4", "198.51.100.1:54", "198.18.0.65:9") // comes behind it, by the uplink that stays
		eventually(t, time.Second, "one is denied", func() bool { return refused("denied") > before })
		if n := refused("denied") - before; (n > 1) != former {
			t.Errorf("former %t: %d denied", former, n)
		}
	}
}
