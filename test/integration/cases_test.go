package integration

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// theirs is what the router of the original's test file was told, on our devices.
var theirs = map[string]string{
	"balance.conf": `CABLE  wan1   isp 198.51.100.1 2
DSL    wan2   isp 198.51.100.2 1 203.0.113.129
OFFICE lan0   lan
GUESTS lan1   lan
VGUEST lan1:0 lan
BAD    nix0   lan
interval_ms=200
timeout_ms=200
max_successive_pkts_lost=3
min_successive_pkts_rcvd=2
forwarding_group=OFFICE :isp
forwarding_group=GUESTS VGUEST DSL
`,
	"balance/routes/01.local_routes":         "echo \"01 local routing rules go here\"\n",
	"balance/routes/02.local_routes.pl":      "$B->add_route('192.168.100.0/24' => 'wan1', 1);\n",
	"balance/firewall/01.forwardings.pl":     "$B->forward(80 => '192.168.77.100:7007');\n$B->forward(7007 => '192.168.77.100','udp');\n$B->forward(81 => '192.168.77.100:7007','tcp','udp');\n$B->forward_with_snat(82 => '192.168.77.100:7007');\n",
	"balance/firewall/02.accept.pl":          "$B->iptables('-A INPUT -p tcp -s 198.51.100.0/24 --syn --dport 7007 -j ACCEPT');\n",
	"balance/firewall/03.force.pl":           "$B->force_route('DSL','--syn','-p'=>'tcp','-d'=>'198.51.100.3');\n",
	"balance/firewall/04.forced_no_more.pl":  "$B->force_route('CABLE','--syn -p tcp -d 198.51.100.4');\n$B->firewall_op('delete');\n$B->force_route('CABLE','--syn -p tcp -d 198.51.100.4');\n",
	"balance/firewall/05.not_for_balance~":   "$B->forward(9 => '192.168.77.100:7007');\n",
	"balance/firewall/06.of_the_tcp_options": "iptables -t mangle -A POSTROUTING -o wan1 -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu\n",
}

// tcpSegment is a TCP segment without data from port 443.
func tcpSegment(src, dst netip.Addr, port uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 443)
	binary.BigEndian.PutUint16(b[2:], port)
	b[4], b[8], b[12], b[13], b[14] = 1, 1, 5<<4, flags, 0xff
	sum := uint32(unix.IPPROTO_TCP + len(b))
	for _, part := range [][]byte{src.AsSlice(), dst.AsSlice(), b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	return b
}

// TestCases: what the case groups of the original's test file are about, in
// packets, with the file that import makes of its configuration
// (ha/config/importer/ledger_test.go has all groups and their tests).
func TestCases(t *testing.T) {
	t.Parallel()
	spec := netlab.Pair(netlab.PairOptions{Routers: 1, WANOwn: true, NoLANOwn: true})
	spec.LANs = append(spec.LANs, netlab.LANSpec{Name: "guests", Net: netip.MustParsePrefix("192.168.78.0/24"), Hosts: 1})
	a := netip.MustParseAddr
	forced, free := a("198.51.100.3"), a("198.51.100.4")
	spec.Servers = append(spec.Servers, forced, free)
	c := build(t, spec, site.Config)
	sh := func(node, line string) {
		t.Helper()
		_, err := c.Node(node).Exec("sh", "-ec", line)
		must(t, err)
	}
	cable, dsl := a("203.0.113.2"), a("203.0.113.130")
	office, modem := a("192.168.77.100"), a("192.168.100.1")
	sh("r1", `ip addr add 192.168.77.1/24 dev lan0; ip addr add 192.168.78.1/24 dev lan1; ip addr add 192.168.79.1/24 dev lan1 label lan1:0
ip route add default nexthop via 203.0.113.1 dev wan1 nexthop via 203.0.113.129 dev wan2`)
	sh("h2", "ip addr add 192.168.79.100/24 dev eth0; ip route add 198.51.100.2 via 192.168.79.1 src 192.168.79.100")
	// A stranger on the line itself sends to the lan, as if there were no NAT.
	sh("isp1", "ip addr add 192.168.100.1/24 dev wan0; ip route add 192.168.77.0/24 via 203.0.113.2; ip route add 192.168.78.0/24 via 203.0.113.2")
	for node, addr := range map[string]netip.Addr{"isp1": modem, "h1": office, "r1": cable} {
		_, err := c.Serve(node, addr)
		must(t, err)
	}
	dir := t.TempDir()
	for name, text := range theirs {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	text, err := c.Router("r1").Exec(c.Binary, "import", filepath.Join(dir, "balance.conf"), "--node", "r1")
	must(t, err)
	must(t, os.WriteFile(c.ConfigFile("r1"), []byte(text), 0o644))
	must(t, c.Run("r1"))
	must(t, c.Settled("r1", "r1", 10*time.Second))

	refusals := func() map[string]uint64 {
		t.Helper()
		s, err := c.Status("r1")
		must(t, err)
		return maps.Clone(s.Drops.Firewall)
	}
	dies := func(what, node string, to netip.AddrPort) {
		t.Helper()
		for _, try := range connect(t, c, node, to, 2) {
			if try.OK {
				t.Errorf("%s: a connection from %s to %v, seen as %v", what, node, to, try.Seen)
			}
		}
	}
	port := netip.AddrPortFrom

	t.Run("10, 13 shares, 22 force_route, 23 deleted", func(t *testing.T) {
		seen := works(t, "balanced", connect(t, c, "h1", echo(site.Server), 150))
		only(t, "balanced", seen, cable, dsl)
		if n := seen[dsl]; n < 21 || n > 79 { // a third is 50; five deviations
			t.Errorf("of 150 connections %d by dsl, want a third", n)
		}
		only(t, "forced", works(t, "forced", connect(t, c, "h1", echo(forced), 30)), dsl)
		if n := works(t, "no more forced", connect(t, c, "h1", echo(free), 60)); n[cable] == 0 || n[dsl] == 0 {
			t.Errorf("a route that was deleted again: %v, want both lines", n)
		}
	})

	t.Run("5 alias, 17 groups", func(t *testing.T) {
		only(t, "guests", works(t, "guests", connect(t, c, "h2", echo(site.Server), 20)), dsl)
		only(t, "by the alias", works(t, "by the alias", connect(t, c, "h2", echo(site.Server2), 20)), dsl)
		before := refusals()["group"]
		for _, try := range connect(t, c, "h2", echo(office), 3) {
			if try.OK || !strings.Contains(try.Err, "refused") {
				t.Errorf("guests to office: %+v, want an answer that refuses", try)
			}
		}
		must(t, c.Wait("they are counted", "r1", 2*time.Second, func(s ha.Status) bool { return s.Drops.Firewall["group"] >= before+3 }))
	})

	t.Run("18-20 forwards, 21 accept", func(t *testing.T) {
		for _, to := range []netip.AddrPort{port(cable, 80), port(dsl, 80), port(cable, 81), port(dsl, 82)} {
			if n := works(t, to.String(), connect(t, c, "net", to, 2)); len(n) != 1 || n[cable]+n[dsl] > 0 {
				t.Errorf("%v: the host saw %v, want who asked", to, n)
			}
		}
		for _, to := range []netip.AddrPort{echo(cable), port(dsl, 81)} {
			client, err := c.Load("net", netlab.Load{Drain: 10 * time.Millisecond, UDP: []netlab.UDPFlows{{Server: to, Flows: 1, Interval: 20 * time.Millisecond}}})
			must(t, err) // it returns with the first answer
			_, err = client.Stop()
			must(t, err)
		}
		works(t, "from inside, forward_with_snat", connect(t, c, "h1", port(cable, 82), 2))
		dies("a port that is not forwarded", "net", port(dsl, 9))
		dies("a port below it", "net", port(cable, 83))
		works(t, "accepted", connect(t, c, "net", echo(cable), 2))
		dies("accepted for another network only", "isp1", echo(cable))
	})

	t.Run("24 add_route, 11 networks of the lans", func(t *testing.T) {
		only(t, "the modem", works(t, "the modem", connect(t, c, "h1", echo(modem), 10)), cable)
		works(t, "the router from a lan", connect(t, c, "h1", echo(cable), 5))
	})

	t.Run("holes and forged sources", func(t *testing.T) {
		stranger := a("198.51.100.77")
		tcp := func(from, device string, src, dst netip.Addr, port uint16, flags byte) func() error {
			return func() error {
				return c.Node(from).SendIP(netlab.Forgery{Device: device, Src: src, Dst: dst, Protocol: unix.IPPROTO_TCP, Payload: tcpSegment(src, dst, port, flags)})
			}
		}
		udp := func(from, device string, src, dst netip.AddrPort) func() error {
			return func() error { return c.Node(from).SendUDP(device, src, dst, 64, make([]byte, 64)) }
		}
		const ack, rst = 0x10, 0x04
		const echoes = netlab.EchoPort
		for _, v := range []struct {
			name string
			send func() error
		}{
			{"ACK to a host", tcp("isp1", "wan0", stranger, office, echoes, ack)},
			{"RST to a host", tcp("isp1", "wan0", stranger, office, echoes, rst)},
			{"SYN to a host", tcp("isp1", "wan0", stranger, office, echoes, 0x02)},
			{"ACK to the router", tcp("isp1", "wan0", stranger, cable, 22, ack)},
			{"RST to the router", tcp("isp1", "wan0", stranger, cable, 22, rst)},
			{"from DNS to a host", udp("isp1", "wan0", port(stranger, 53), port(office, echoes))},
			{"from NTP to a host", udp("isp1", "wan0", port(stranger, 123), port(office, echoes))},
			{"from DNS to the router", udp("isp1", "wan0", port(stranger, 53), port(cable, 9999))},
			{"from NTP to the router", udp("isp1", "wan0", port(stranger, 123), port(cable, 9999))},
			{"from outside as a host of the lan", udp("isp1", "wan0", port(a("192.168.77.9"), 1000), port(office, echoes))},
			{"from outside as one of another lan", udp("isp1", "wan0", port(a("192.168.78.9"), 1000), port(office, echoes))},
			{"from a lan as one outside", udp("h1", "eth0", port(a("198.51.100.99"), 1000), port(site.Server2, echoes))},
		} {
			var caught []*netlab.Capture
			for _, p := range []*netlab.Port{c.Port("h1", "eth0"), c.Port("r1", "wan1"), c.Port("r1", "wan2")} {
				inside := p.Node.Name == "h1"
				k, err := p.Capture(func(p netlab.Packet) bool { // what got through, and what answers
					return p.Out != inside && concerns(p.Frame, stranger, a("192.168.77.9"), a("192.168.78.9"), a("198.51.100.99"))
				})
				must(t, err)
				caught = append(caught, k)
			}
			before := refusals()
			must(t, v.send())
			must(t, c.Wait(v.name+": a drop that is counted", "r1", 3*time.Second, func(s ha.Status) bool {
				return slices.ContainsFunc(slices.Collect(maps.Keys(s.Drops.Firewall)), func(k string) bool { return s.Drops.Firewall[k] > before[k] })
			}))
			for _, k := range caught {
				for _, p := range k.Packets() {
					t.Errorf("%s: % x", v.name, p.Frame)
				}
				k.Close()
			}
		}
	})

	t.Run("14 one line", func(t *testing.T) {
		must(t, c.Router("r1").IP("addr del 203.0.113.2/25 dev wan1")) // as when a lease ends
		must(t, c.Wait("cable is out", "r1", 3*time.Second, func(s ha.Status) bool { return lineOf(s, "cable").Share == 0 }))
		only(t, "one line", works(t, "one line", connect(t, c, "h1", echo(site.Server), 30)), dsl)
	})
	noLeaks(t, c)
}

// concerns tells whether a frame is an IPv4 packet to or from one of
// the addresses.
func concerns(frame []byte, addrs ...netip.Addr) bool {
	if len(frame) < 34 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return false
	}
	src, dst := netip.AddrFrom4([4]byte(frame[26:30])), netip.AddrFrom4([4]byte(frame[30:34]))
	return slices.Contains(addrs, src) || slices.Contains(addrs, dst)
}
