package integration

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// host is the address of h1 on the first lan.
var host = netip.MustParseAddr("192.168.77.100")

// markMask is the part of the mark that is ours by default.
const markMask = 0x3f00

// echo is the echo server at an address.
func echo(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, netlab.EchoPort) }

// connect opens n fresh connections from a node and returns what became of
// each. They begin 2 ms apart.
func connect(t *testing.T, c *site.Cluster, node string, server netip.AddrPort, n int) []netlab.Attempt {
	t.Helper()
	client, err := c.Load(node, netlab.Load{Drain: 10 * time.Millisecond,
		Fresh: []netlab.Fresh{{Server: server, Interval: 2 * time.Millisecond, Count: n}}})
	must(t, err)
	must(t, netlab.WaitFor(fmt.Sprintf("%d connections from %s", n, node), 20*time.Second, func() bool {
		s, err := client.Snapshot()
		return err != nil || s.FreshOK+s.FreshFailed == n
	}))
	r, err := client.Stop()
	must(t, err)
	return r.Fresh
}

// works fails unless every connection worked, and counts them by the source
// that the server saw.
func works(t *testing.T, what string, attempts []netlab.Attempt) map[netip.Addr]int {
	t.Helper()
	sources := map[netip.Addr]int{}
	failed := map[string]int{}
	for _, a := range attempts {
		if a.OK {
			sources[a.Seen.Addr()]++
		} else {
			failed[a.Err]++
		}
	}
	if len(failed) > 0 || len(attempts) == 0 {
		t.Errorf("%s: of %d connections failed %v (sources of the others %v)", what, len(attempts), failed, sources)
	}
	return sources
}

// only fails if a source was seen that is not allowed.
func only(t *testing.T, what string, sources map[netip.Addr]int, allowed ...netip.Addr) {
	t.Helper()
	for a := range sources {
		if !slices.Contains(allowed, a) {
			t.Errorf("%s: the server saw %v, want one of %v", what, a, allowed)
		}
	}
}

// noLeaks fails if an ISP got packets that are not of its network.
func noLeaks(t *testing.T, c *site.Cluster) {
	t.Helper()
	for _, isp := range c.Spec.ISPs {
		leak, err := c.Leaks(isp.Name)
		must(t, err)
		if leak.Packets > 0 {
			t.Errorf("%s got %d packets that are not of its network: %v", isp.Name, leak.Packets, leak.Pairs)
		}
	}
}

// handOver moves the mastership and waits until both nodes agree.
func handOver(t *testing.T, c *site.Cluster, from, to string) {
	t.Helper()
	failover(t, c, from, to)
	must(t, c.WaitHolder(site.LANAddress, to, 3*time.Second))
	for _, r := range []string{from, to} {
		must(t, c.Settled(r, to, 5*time.Second))
	}
}

// failover asks until it is done: a node that has just noticed that the machine
// stood still refuses for a moment.
func failover(t *testing.T, c *site.Cluster, from, to string) {
	t.Helper()
	var err error
	if netlab.WaitFor("failover", 3*time.Second, func() bool {
		_, err = c.Command(from, "failover", "--to", to)
		return err == nil
	}) != nil {
		t.Fatal(err)
	}
}

// segment is what of a TCP or UDP packet a test asks for.
type segment struct {
	protocol uint8
	src, dst netip.AddrPort
	flags    uint8 // of TCP
}

const (
	fin = 0x01
	syn = 0x02
	rst = 0x04
	ack = 0x10
)

// dissect takes an IPv4 frame apart; ports are 0 where there are none.
func dissect(p netlab.Packet) (segment, bool) {
	b := p.Frame
	if len(b) < 34 || binary.BigEndian.Uint16(b[12:]) != 0x0800 {
		return segment{}, false
	}
	ip := b[14:]
	s := segment{protocol: ip[9]}
	var ports [2]uint16
	l4 := ip[min(int(ip[0]&15)*4, len(ip)):]
	if (s.protocol == 6 || s.protocol == 17) && len(l4) >= 8 {
		ports = [2]uint16{binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])}
	}
	if s.protocol == 6 && len(l4) >= 14 {
		s.flags = l4[13]
	}
	s.src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), ports[0])
	s.dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), ports[1])
	return s, true
}

// record captures the IPv4 packets on a port that match.
func record(t *testing.T, p *netlab.Port, match func(segment) bool) *netlab.Capture {
	t.Helper()
	capture, err := p.Capture(func(p netlab.Packet) bool {
		s, ok := dissect(p)
		return ok && match(s)
	})
	must(t, err)
	t.Cleanup(capture.Close)
	return capture
}

// sendTCP sends a segment of no connection, with a checksum that is right.
func sendTCP(t *testing.T, n *netlab.Node, src, dst netip.AddrPort, flags uint8) {
	t.Helper()
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], 1000)
	binary.BigEndian.PutUint32(tcp[8:], 2000)
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 1024)
	sum := uint32(6 + len(tcp))
	for _, b := range [][]byte{src.Addr().AsSlice(), dst.Addr().AsSlice(), tcp} {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
	}
	for sum>>16 > 0 {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
	must(t, n.SendIP(netlab.Forgery{Src: src.Addr(), Dst: dst.Addr(), Protocol: 6, Payload: tcp}))
}

// takes tells whether the node's switch for new flows is on.
func takes(t *testing.T, n *netlab.Node) bool {
	t.Helper()
	out, err := n.Exec("nft", "list", "set", "inet", "harouter", "active")
	must(t, err)
	return strings.Contains(out, "elements")
}

// poolTable is the table of the node's own traffic.
func poolTable(t *testing.T, n *netlab.Node) string {
	t.Helper()
	out, err := n.Exec("ip", "route", "show", "table", "7000")
	must(t, err)
	return out
}

// routing is a node's rules and routes without what belongs to the virtual
// addresses themselves: the entries of table local that the kernel makes for
// them. With pool false the table of the node's own traffic is left out too.
func routing(t *testing.T, n *netlab.Node, pool bool) []string {
	t.Helper()
	text, err := n.RouteDump()
	must(t, err)
	ours := map[string]bool{}
	for _, a := range []string{"192.168.77.1", "192.168.77.255", "203.0.113.10", "203.0.113.127", "203.0.113.140", "203.0.113.255"} {
		ours[a] = true
	}
	var out []string
	for line := range strings.Lines(strings.ReplaceAll(text, "\n\tnexthop", " nexthop")) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		if strings.Contains(line, " table local ") && len(words) > 1 && ours[words[1]] {
			continue
		}
		if !pool && strings.Contains(line, " table 7000 ") {
			continue
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

// unchanged hands over to and fro and compares the routing of both nodes with
// what it was.
func unchanged(t *testing.T, c *site.Cluster, pool bool) {
	t.Helper()
	before := map[string][]string{}
	for _, r := range []string{"r1", "r2"} {
		before[r] = routing(t, c.Router(r), pool)
		if !slices.ContainsFunc(before[r], func(l string) bool { return strings.Contains(l, "table 7001") }) {
			t.Fatalf("%s has no routes of ours: %v", r, before[r])
		}
	}
	for _, step := range [][2]string{{"r1", "r2"}, {"r2", "r1"}} {
		handOver(t, c, step[0], step[1])
		for _, r := range []string{"r1", "r2"} {
			var diff string
			if netlab.WaitFor("same routes", time.Second, func() bool {
				diff = cmp.Diff(before[r], routing(t, c.Router(r), pool))
				return diff == ""
			}) != nil {
				t.Errorf("%s after the hand-over to %s (-before +now):\n%s", r, step[1], diff)
			}
		}
	}
}

// TestWarmBackup: DESIGN.md §6 on a pair whose nodes have own addresses
// everywhere.
func TestWarmBackup(t *testing.T) {
	// Without the firewall, which would hide what the routers themselves answer.
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config+"firewall: {enabled: false}\n")
	own := map[string][]netip.Addr{
		"r1": {netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.130")},
		"r2": {netip.MustParseAddr("203.0.113.3"), netip.MustParseAddr("203.0.113.131")},
	}
	net := c.Node("net")

	t.Run("routes stay", func(t *testing.T) { unchanged(t, c, true) })

	t.Run("own traffic", func(t *testing.T) {
		// Probes carry a mark; translated to an address that the other node holds
		// they would see no answer.
		must(t, c.Wait("the backup sees both uplinks itself", "r2", 4*time.Second, func(s ha.Status) bool {
			return s.Uplinks[0].Views["r2"].String() == "up" && s.Uplinks[1].Views["r2"].String() == "up"
		}))
		seen := works(t, "backup", connect(t, c, "r2", echo(site.Server), 40))
		only(t, "backup", seen, own["r2"]...)
		seen = works(t, "master", connect(t, c, "r1", echo(site.Server), 40))
		only(t, "master", seen, append(own["r1"], site.WAN1, site.WAN2)...)
		for _, r := range []string{"r1", "r2"} { // the kernel hashes addresses: one server, one uplink
			if table := poolTable(t, c.Router(r)); !strings.Contains(table, "wan1") || !strings.Contains(table, "wan2") {
				t.Errorf("the own traffic of %s does not use both uplinks: %s", r, table)
			}
		}
		must(t, c.BlackholeBeyond("isp1"))
		down := func(s ha.Status) bool { return s.Uplinks[0].State.String() == "down" && s.Uplinks[0].Share == 0 }
		must(t, c.Wait("cable is down", "r1", 3*time.Second, down))
		must(t, c.Wait("r2 follows", "r2", 3*time.Second, down))
		// The plan is known a moment before it is in the kernel.
		for _, r := range []string{"r1", "r2"} {
			must(t, netlab.WaitFor(r+" routes by dsl alone", time.Second, func() bool {
				table := poolTable(t, c.Router(r))
				return strings.Contains(table, "wan2") && !strings.Contains(table, "wan1")
			}))
			for a := range works(t, r+" with cable dead", connect(t, c, r, echo(site.Server), 20)) {
				if c.ISPOf(a) != "isp2" {
					t.Errorf("%s used %v although that uplink is dead", r, a)
				}
			}
		}
		must(t, c.Restore("isp1"))
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Settled(r, "r1", 5*time.Second))
			if err := netlab.WaitFor("both uplinks", time.Second, func() bool {
				table := poolTable(t, c.Router(r))
				return strings.Contains(table, "wan2") && strings.Contains(table, "wan1")
			}); err != nil {
				t.Errorf("%s after the return of cable: %v", r, err)
			}
		}
	})

	t.Run("silence to strangers", func(t *testing.T) { silence(t, c, own["r1"][0]) })

	t.Run("old flows go on, new ones do not", func(t *testing.T) {
		handOver(t, c, "r1", "r2")
		udp := netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(site.Server2), Flows: 6, Interval: 20 * time.Millisecond}}}
		client, err := c.Load("h1", udp) // entries on r2
		must(t, err)
		handOver(t, c, "r2", "r1")
		must(t, netlab.WaitFor("r2 takes no new flows", 8*time.Second, func() bool { return !takes(t, c.Router("r2")) }))
		// Everything for that server now goes by r2, which is a backup.
		must(t, c.Host("h1").IP("route add 198.51.100.2 via 192.168.77.3"))
		leaving := func(s segment) bool { return s.dst.Addr() == site.Server2 && (s.protocol == 6 || s.protocol == 17) }
		out1, out2 := record(t, c.Port("r2", "wan1"), leaving), record(t, c.Port("r2", "wan2"), leaving)
		forwarded := func() int { return len(out1.Packets()) + len(out2.Packets()) }
		if err := netlab.WaitFor("the backup forwards old flows", 2*time.Second, func() bool { return forwarded() >= 20 }); err != nil {
			t.Errorf("%v: %d packets", err, forwarded())
		}
		_, err = client.Stop()
		must(t, err)
		had := forwarded()
		for _, a := range connect(t, c, "h1", echo(site.Server2), 10) {
			if a.OK {
				t.Error("the backup let a new connection through")
			}
		}
		if n := forwarded() - had; n > 0 {
			t.Errorf("%d packets of new flows left a backup", n)
		}
		// Mid-stream without an entry draws no answer from a backup.
		back := record(t, c.Port("h1", "eth0"), func(s segment) bool { return s.protocol == 6 && s.dst.Addr() == host })
		for range 5 {
			sendTCP(t, c.Host("h1"), netip.AddrPortFrom(host, 40009), echo(site.Server2), ack)
		}
		time.Sleep(200 * time.Millisecond) // nothing is what is waited for
		if n := len(back.Packets()) + forwarded() - had; n > 0 {
			t.Errorf("mid-stream segments drew or passed %d packets on a backup", n)
		}
		must(t, c.Host("h1").IP("route del 198.51.100.2"))
		works(t, "by the master again", connect(t, c, "h1", echo(site.Server2), 10))
	})

	t.Run("mid-stream after a takeover", func(t *testing.T) { midstream(t, c, net) })
	noLeaks(t, c)
}

// silence sends from an ISP to a virtual address what has neither entry nor
// listener.
func silence(t *testing.T, c *site.Cluster, own netip.Addr) {
	net, from := c.Node("net"), netip.AddrPortFrom(site.Server, 4711)
	answers := func(a netip.Addr) func(segment) bool {
		return func(s segment) bool { return s.src.Addr() == a && s.dst.Addr() == site.Server }
	}
	capture, control := record(t, c.Port("r1", "wan1"), answers(site.WAN1)), record(t, c.Port("r1", "wan1"), answers(own))
	out := func(c *netlab.Capture) (n int) {
		for _, p := range c.Packets() {
			if p.Out {
				n++
			}
		}
		return n
	}
	for _, to := range []netip.Addr{site.WAN1, own} {
		for port, flags := range map[uint16]uint8{9001: syn, 9002: ack, 9003: syn | ack, 9004: fin | ack} {
			sendTCP(t, net, from, netip.AddrPortFrom(to, port), flags)
		}
		must(t, net.SendUDP("", from, netip.AddrPortFrom(to, 9005), 64, []byte("x")))
		must(t, net.SendIP(netlab.Forgery{Src: site.Server, Dst: to, Protocol: 132, Payload: make([]byte, 12)})) // SCTP: protocol unreachable
	}
	// What the node's own address answers shows that the packets are sound.
	must(t, netlab.WaitFor("answers of the own address", 2*time.Second, func() bool { return out(control) >= 5 }))
	time.Sleep(100 * time.Millisecond)
	if n := out(capture); n > 0 {
		s, _ := dissect(capture.Packets()[0])
		t.Errorf("the virtual address answered strangers %d times, the first time with %+v", n, s)
	}
	if !net.Reaches(site.WAN1, time.Second) || !net.Reaches(site.WAN2, time.Second) {
		t.Error("the virtual addresses do not answer ping")
	}
	server, err := c.Serve("r1", site.WAN1)
	must(t, err)
	defer server.Stop()
	works(t, "a listener on the virtual address", connect(t, c, "net", echo(site.WAN1), 10))
	udp, err := c.Load("net", netlab.Load{UDP: []netlab.UDPFlows{{Server: echo(site.WAN1), Flows: 4, Interval: 20 * time.Millisecond}}})
	must(t, err)
	_, err = udp.Stop()
	must(t, err)
}

// midstream hands over and sends TCP of which the new master has no entry.
func midstream(t *testing.T, c *site.Cluster, net *netlab.Node) {
	from, to := netip.AddrPortFrom(host, 40001), echo(site.Server)
	ours := func(s segment) bool { return s.protocol == 6 && (s.src.Port() == 40001 || s.dst.Port() == 40001) }
	atHost := record(t, c.Port("h1", "eth0"), ours)
	var outside []*netlab.Capture
	for _, r := range []string{"r1", "r2"} {
		for _, d := range []string{"wan1", "wan2"} {
			outside = append(outside, record(t, c.Port(r, d), ours))
		}
	}
	resets := func() (n int, first netlab.Instant) {
		for _, p := range atHost.Packets() {
			if s, _ := dissect(p); !p.Out && s.flags&rst != 0 {
				if n++; n == 1 {
					first = p.At
				}
			}
		}
		return n, first
	}
	since := netlab.Now()
	failover(t, c, "r1", "r2")
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	var taken netlab.Instant
	for _, ch := range c.Watch().Changes(site.LANAddress) {
		if ch.Router == "r2" && ch.Held && ch.At > since {
			taken = ch.At
		}
	}
	works(t, "new connections right after the takeover", connect(t, c, "h1", to, 5))
	sent := 0
	err := netlab.WaitFor("a reset", 5*time.Second, func() bool {
		if due := int(netlab.Now().Sub(taken)/(50*time.Millisecond)) + 1; due > sent {
			sent = due
			sendTCP(t, c.Host("h1"), from, to, ack)
		}
		n, _ := resets()
		return n > 0
	})
	n, first := resets()
	switch got := first.Sub(taken); {
	case err != nil:
		t.Errorf("after %d segments: %v", sent, err)
	case got < 2900*time.Millisecond || got > 3300*time.Millisecond+noise:
		t.Errorf("the first reset came %v after the takeover, want 3 s", got)
	default:
		t.Logf("the first reset came %v after the takeover", got)
	}
	// A reset of the host's own, and what only looks like an answer, end here.
	for _, flags := range []uint8{rst, rst | ack} {
		sendTCP(t, c.Host("h1"), from, to, flags)
	}
	time.Sleep(100 * time.Millisecond)
	if again, _ := resets(); again > n+1 { // one segment may have been under way
		t.Errorf("a reset of the host was answered: %d, before it %d", again, n)
	}
	for _, capture := range outside {
		for _, p := range capture.Packets() {
			s, _ := dissect(p)
			t.Errorf("mid-stream TCP was seen at an ISP: %+v", s)
		}
	}
	if !net.Reaches(site.WAN1, time.Second) {
		t.Error("the virtual address is not reached after the takeover")
	}
}

// TestWarmBackupWithoutOwnAddresses: a backup without own WAN addresses goes
// through the master; without own LAN addresses too.
func TestWarmBackupWithoutOwnAddresses(t *testing.T) {
	for name, o := range map[string]netlab.PairOptions{
		"no own WAN addresses":         {},
		"no own LAN addresses":         {WANOwn: true, NoLANOwn: true},
		"no own addresses but a cable": {NoLANOwn: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := pair(t, o, site.Config)
			virtual := []netip.Addr{site.WAN1, site.WAN2}
			allowed := map[string][]netip.Addr{"r1": virtual, "r2": virtual}
			if o.WANOwn {
				allowed["r1"] = []netip.Addr{netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.130")}
				allowed["r2"] = []netip.Addr{netip.MustParseAddr("203.0.113.3"), netip.MustParseAddr("203.0.113.131")}
			}
			if o.NoLANOwn {
				for i, r := range []string{"r1", "r2"} {
					have, err := c.Router(r).Addresses()
					must(t, err)
					if want := netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 51, byte(i + 1)}), 32); !slices.Contains(have["lan0"], want) {
						t.Errorf("%s has %v on lan0, want %v", r, have["lan0"], want)
					}
				}
			}
			backup := func(r string) {
				t.Helper()
				// The way through the master is told by gossip, a moment after the
				// role; it must not wait until the old one stops forwarding.
				at := netlab.Now()
				if !c.Router(r).Reaches(site.Server, 3*time.Second) {
					t.Errorf("the backup %s does not reach the internet", r)
				}
				atMost(t, "the backup "+r+" reaches the internet", netlab.Now().Sub(at), 300*time.Millisecond+noise, "at once")
				only(t, r+" as backup", works(t, r+" as backup", connect(t, c, r, echo(site.Server), 20)), allowed[r]...)
			}
			backup("r2")
			// Without own WAN addresses the table of the node's own traffic
			// follows the role: the master goes out itself, the backup through it.
			unchanged(t, c, o.WANOwn)
			// Not one packet of the node that gives the addresses away may leave by an
			// uplink with an address that is not of that uplink.
			client, err := c.Load("r1", netlab.Load{Fresh: []netlab.Fresh{{Server: echo(site.Server), Interval: 2 * time.Millisecond}}})
			must(t, err)
			handOver(t, c, "r1", "r2")
			backup("r1")
			_, err = client.Stop()
			must(t, err)
			works(t, "r2 as master", connect(t, c, "r2", echo(site.Server), 20))
			only(t, "host", works(t, "host", connect(t, c, "h1", echo(site.Server), 20)), virtual...)
			noLeaks(t, c)
		})
	}
}
