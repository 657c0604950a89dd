package dataplane

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

func guarded() balancer.Firewall {
	perSecond := func(n uint32) balancer.Rate { return balancer.Rate{Count: n, Unit: "second"} }
	return balancer.Firewall{
		Enabled: true, Log: true, Antispoof: true, ICMP: perSecond(500), SYN: perSecond(200), Gossip: 7946, Sync: 7947,
		Allow: []balancer.Allow{
			{Protocol: 6, Ports: []balancer.Ports{{First: 22, Last: 22}, {First: 8000, Last: 8010}}},
			{Protocol: 17, Ports: []balancer.Ports{{First: 1194, Last: 1194}}, Uplinks: []string{"dsl"}, Source: prefix("198.51.100.0/24"), Limit: perSecond(50)},
			{Protocol: 47},
			{To: slices.Concat(prefix("203.0.113.64/29"), prefix("2001:db8:7::/48"), prefix("2001:db8:8::8/128")), Source: slices.Concat(prefix("198.51.100.0/24"), prefix("2001:db8::/33")), Protocol: 6, Ports: []balancer.Ports{{First: 443, Last: 443}}},
		},
	}
}

// TestFirewallInScript: the script of a plan with all of the firewall gives the
// same rules as the daemon.
func TestFirewallInScript(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	c.Forwards, c.Firewall, c.ClampMSS = forwards(), guarded(), true
	c.Nodes = append(c.Nodes, netip.MustParseAddr("fd00::1"))
	p := build(t, c, in)
	k := open(t)
	must(t, k.Apply(t.Context(), p))
	ours := quiet(state(t))
	must(t, k.Apply(t.Context(), p))
	if d := cmp.Diff(ours, quiet(state(t))); d != "" {
		t.Errorf("the same again:\n%s", d)
	}
	must(t, k.Cleanup(t.Context()))
	scriptGives(t, p, ours)
}

// TestFirewall: from outside nothing begins but what is allowed or forwarded,
// whatever its flags, ports and sources are; each refusal is counted by its reason.
func TestFirewall(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, server := world(t)
	netlab.Sh(t, `for i in 1 2; do ip -n isp$i route add 192.168.0.0/16 via $(test $i = 1 && echo 203.0.113.2 || echo 203.0.113.140); done
ip -n server route add 192.168.77.0/24 via 10.0.1.1
ip -n server addr add 192.168.88.77/32 dev lo; ip -n client addr add 198.51.100.99/32 dev lo; ip -n client addr add 192.168.88.66/32 dev lo`)
	c, in := settings()
	c.Forwards, c.Firewall = forwards(), guarded()
	c.Firewall.SYN = balancer.Rate{Count: 15, Unit: "minute"}
	k := quietKernel(t)
	p := build(t, c, in)
	for i, s := range p.Table.Sets {
		if s.Name == "syn_sources" {
			p.Table.Sets[i].Room = 4
		}
	}
	must(t, k.Apply(t.Context(), p))
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	router := space{t: t, name: "router"}
	netlab.Sh(t, "touch /run/netns/router; mount --bind /proc/self/ns/net /run/netns/router")
	for _, port := range []int{22, 23} {
		router.serve(port)
	}
	guest.serve(80)
	client.serve(8443)
	client.serve(80)
	server.serve(80)
	refused := func(reason string) uint64 {
		t.Helper()
		n, err := Refused()
		must(t, err)
		return n[reason]
	}
	opens := func(from space, to string) bool {
		conn, _, err := from.dial(to, 300*time.Millisecond)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	for _, v := range []struct {
		name   string
		from   space
		to     string
		want   bool
		reason string
	}{
		{"allowed", server, cableAddr + ":22", true, ""},
		{"not allowed", server, cableAddr + ":23", false, "denied"},
		{"own address", server, "203.0.113.2:23", false, "denied"},
		{"forwarded", server, dslAddr + ":443", true, ""},
		{"a host, as if there were no NAT", server, clientAddr + ":80", false, "denied"},
		{"from a lan to the router", client, "192.168.77.1:23", true, ""},
		{"from a lan by the outer address", client, cableAddr + ":23", true, ""},
		{"out", client, serverAddr + ":80", true, ""},
		{"between lans", guest, clientAddr + ":80", true, ""},
	} {
		before := refused(v.reason)
		if got := opens(v.from, v.to); got != v.want {
			t.Errorf("%s: %s from %s opens: %t, want %t", v.name, v.to, v.from.name, got, v.want)
		}
		if now := refused(v.reason); v.reason != "" && now == before {
			t.Errorf("%s: not counted as %s", v.name, v.reason)
		}
	}
	// Each of these would get through rules that go by flags, source ports or trust.
	datagram := func(from space, source, to string) {
		t.Helper()
		from.do(func() {
			local, err := net.ResolveUDPAddr("udp4", source)
			must(t, err)
			remote, err := net.ResolveUDPAddr("udp4", to)
			must(t, err)
			u, err := net.DialUDP("udp4", local, remote)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = u.Write([]byte("?"))
			_ = u.Close()
		})
	}
	for _, v := range []struct {
		name, source, to, reason string
		from                     space
	}{
		{"as an answer of DNS, to a host", "198.51.100.1:53", clientAddr + ":9999", "denied", server},
		{"as an answer of NTP, to the router", "198.51.100.1:123", cableAddr + ":9999", "", server},
		{"from outside as one of the lans", "192.168.88.77:53", cableAddr + ":1194", "spoofed", server},
		{"from outside as one of the lans, to a host", "192.168.88.77:53", clientAddr + ":9999", "spoofed", server},
		{"from a lan as one outside", "198.51.100.99:53", serverAddr + ":9999", "spoofed", client},
		{"from a lan as one of another lan", "192.168.88.66:53", serverAddr + ":9999", "spoofed", client},
		{"from a lan to another as one of that", "192.168.88.66:53", guestAddr + ":9999", "spoofed", client},
	} {
		count := func() (n uint64) {
			all, err := Refused()
			must(t, err)
			if v.reason != "" {
				return all[v.reason]
			}
			s := netlab.Sh(t, "nft list chain inet harouter to_virtual")
			for _, m := range dropped.FindAllStringSubmatch(s, -1) { // what answers to nobody is silent already
				i, err := strconv.Atoi(m[1])
				must(t, err)
				n += uint64(i)
			}
			return n
		}
		before := count()
		datagram(v.from, v.source, v.to)
		eventually(t, time.Second, v.name+": a drop", func() bool { return count() > before })
	}
	// Its queries come all day, and are nobody's attack.
	before := refused("denied")
	space{t, "isp1"}.do(func() {
		c, err := net.ListenPacket("ip4:2", "203.0.113.1")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, err = c.WriteTo([]byte{0x11, 0, 0xee, 0xff, 0, 0, 0, 0}, &net.IPAddr{IP: net.ParseIP("203.0.113.2")})
		must(t, err)
	})
	datagram(server, "198.51.100.1:54", clientAddr+":9999") // comes behind it
	eventually(t, time.Second, "a datagram is denied", func() bool { return refused("denied") > before })
	if n := refused("denied"); n != before+1 {
		t.Errorf("a query of IGMP, and a datagram that is denied: %d counted as denied", n-before)
	}
	for _, v := range []struct {
		name, reason string
		flags        byte
	}{{"ACK", "denied", 0x10}, {"RST", "invalid", 0x04}} {
		before := refused(v.reason)
		client.sniffed(t, func() { server.segment(t, clientAddr, 80, v.flags) })
		eventually(t, time.Second, "a "+v.name+" of no connection is refused as "+v.reason, func() bool { return refused(v.reason) > before })
	}
	// A server of DHCP answers from another address than was asked.
	dhcp, err := net.ListenPacket("udp4", "203.0.113.2:68")
	must(t, err)
	defer dhcp.Close()
	datagram(space{t, "isp1"}, "203.0.113.1:67", "203.0.113.2:68")
	must(t, dhcp.SetReadDeadline(time.Now().Add(time.Second)))
	if _, _, err := dhcp.ReadFrom(make([]byte, 10)); err != nil {
		t.Errorf("an answer of DHCP: %v", err)
	}

	// A lan with a virtual MAC: what comes by its device has its way back over the other.
	netlab.Sh(t, `ip link add hrv-office link lan0 address 00:00:5e:00:01:33 type macvlan mode private; ip link set hrv-office up
ip -n client neigh replace 192.168.77.1 lladdr 00:00:5e:00:01:33 dev eth0`)
	c.Lans[0].MACDevice = "hrv-office"
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if !opens(client, guestAddr+":80") {
		t.Error("a lan's host that speaks to the virtual MAC counts as spoofed")
	}

	// A flood of connections from one source is cut, others go on.
	eventually(t, 5*time.Second, "too many connections of one source", func() bool {
		opens(server, cableAddr+":22")
		return refused("syn") > 0
	})
	if !opens(client, serverAddr+":80") {
		t.Error("the lan suffers from the flood")
	}
	netlab.Sh(t, "ip -n server route replace 203.0.113.0/25 via 10.0.1.1 src 198.51.100.2")
	if !opens(server, cableAddr+":22") {
		t.Error("another source suffers from the flood")
	}
	// One of so many forged sources that there is no room left: those without a
	// place are limited together.
	netlab.Sh(t, "nft flush set inet harouter syn_sources; nft add element inet harouter syn_sources { 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 }")
	flooded := refused("syn")
	if !opens(server, cableAddr+":22") {
		t.Error("a source without a place is refused before there are too many")
	}
	eventually(t, 5*time.Second, "too many connections of those without a place", func() bool {
		opens(server, cableAddr+":22")
		return refused("syn") > flooded
	})
	c.Firewall.ICMP = balancer.Rate{Count: 3, Unit: "minute"}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	for range 4 {
		_ = server.ping(cableAddr)
	}
	if refused("icmp") == 0 {
		t.Error("the fourth ping of three a minute was not refused")
	}
	c.Firewall.Enabled = false
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if !opens(server, cableAddr+":23") || !opens(server, dslAddr+":443") {
		t.Error("off, and still in the way")
	}
}

var dropped = regexp.MustCompile(`counter packets (\d+) `)

// sniffed complains if something of TCP arrives meanwhile.
func (s space) sniffed(t *testing.T, f func()) {
	t.Helper()
	got := s.sniff(t)
	f()
	if seen := got(); seen != "" {
		t.Errorf("%s got %s", s.name, seen)
	}
}

// segment sends a TCP segment with these flags alone, from port 443.
func (s space) segment(t *testing.T, to string, port uint16, flags byte) {
	t.Helper()
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 443)
	binary.BigEndian.PutUint16(b[2:], port)
	b[4], b[8], b[12], b[13], b[14] = 1, 1, 5<<4, flags, 0xff
	src, dst := netip.MustParseAddr(serverAddr).As4(), netip.MustParseAddr(to).As4()
	sum := uint32(6 + len(b))
	for _, part := range [][]byte{src[:], dst[:], b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	s.do(func() {
		c, err := net.ListenPacket("ip4:tcp", serverAddr)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
			t.Error(err)
		}
	})
}

// TestSegmentsFit: what goes out on a line with a small MTU, and what comes in,
// asks for segments that it carries.
func TestSegmentsFit(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	netlab.Sh(t, "ip link set wan1 mtu 1300; ip link set wan2 mtu 1300")
	c, in := settings()
	c.ClampMSS, c.Forwards = true, forwards()
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	size := func(to space, port int, from space, at string) int {
		t.Helper()
		accepted := to.serve(port)
		_, _, err := from.dial(at, time.Second)
		must(t, err)
		raw, err := (<-accepted).(*net.TCPConn).SyscallConn()
		must(t, err)
		var n int
		must(t, raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) }))
		must(t, err)
		return n
	}
	const most = 1300 - 40
	if n := size(server, 80, client, serverAddr+":80"); n > most {
		t.Errorf("out: segments of %d, want %d at most", n, most)
	}
	if n := size(client, 8443, server, cableAddr+":443"); n > most {
		t.Errorf("in: segments of %d, want %d at most", n, most)
	}
	c.ClampMSS = false
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if n := size(server, 81, client, serverAddr+":81"); n <= most {
		t.Errorf("without the clamp: segments of %d already", n)
	}
	// Hosts that do not speak TCP are told by ICMP, also in the middle of a flow.
	server.echoUDP("5008")
	client.do(func() {
		conn, err := net.Dial("udp4", serverAddr+":5008")
		must(t, err)
		defer conn.Close()
		raw, err := conn.(*net.UDPConn).SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}))
		must(t, err)
		_, err = conn.Write([]byte("?"))
		must(t, err)
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := conn.Read(make([]byte, 10)); err != nil {
			t.Error(err)
		}
		eventually(t, time.Second, "the host hears that its datagrams are too long", func() bool {
			_, err := conn.Write(make([]byte, 1400))
			return errors.Is(err, unix.EMSGSIZE)
		})
	})
}
