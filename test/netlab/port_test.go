package netlab

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// carrier tells whether the node's device has a signal, as its kernel says.
func carrier(t *testing.T, p *Port) bool {
	t.Helper()
	return strings.TrimSpace(ok(p.Node.Exec("cat", "/sys/class/net/"+p.Device+"/carrier"))(t)) == "1"
}

func TestUnplug(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	lan, other := s.Port("r1", "lan0"), s.Port("r2", "lan0")
	must(t, lan.Unplug())
	if carrier(t, lan) || !carrier(t, other) {
		t.Error("unplugged r1/lan0: want no carrier there, and carrier on r2/lan0")
	}
	if out := ok(lan.Node.Exec("ip", "link", "show", "lan0"))(t); !strings.Contains(out, "NO-CARRIER") || !strings.Contains(out, ",UP") {
		t.Errorf("want the device up without carrier: %s", out)
	}
	must(t, lan.Plug())
	if !carrier(t, lan) || !pings(s.Host("h1"), "192.168.77.2") {
		t.Error("plugged in again: want carrier and an answer")
	}
	// A direct cable: both ends.
	cable := s.Port("r1", "sync0")
	must(t, cable.Unplug())
	if carrier(t, cable) || carrier(t, s.Port("r2", "sync0")) {
		t.Error("a pulled cable: want no carrier on either end")
	}
	must(t, cable.Plug())
	if !pings(s.Router("r2"), "192.0.2.1") {
		t.Error("the cable is back: want an answer")
	}
}

func TestDeviceIsMadeAnew(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	lan := s.Port("r1", "lan0")
	index := func() string { return ok(lan.Node.Exec("cat", "/sys/class/net/lan0/ifindex"))(t) }
	before := index()
	must(t, lan.Remove())
	if _, err := lan.Node.Exec("cat", "/sys/class/net/lan0/ifindex"); err == nil {
		t.Error("removed: the device is still there")
	}
	must(t, lan.Create())
	if index() == before || !pings(s.Host("h1"), "192.168.77.2") {
		t.Error("made anew: want another index and an answer")
	}
	cable := s.Port("r1", "sync0")
	must(t, cable.Remove())
	if carrier(t, s.Port("r2", "sync0")) {
		t.Error("one end of a direct cable is removed: want no carrier at the other")
	}
	must(t, cable.Create())
	if !pings(s.Router("r2"), "192.0.2.1") {
		t.Error("it is made anew: want an answer")
	}
}

func TestCarrierLossIsToldAtOnce(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	port := s.Port("r1", "wan1")
	monitor := ok(port.Node.Start("monitor", "ip", "-o", "monitor", "link"))(t)
	lines := func() int {
		return strings.Count(ok(port.Node.Exec("cat", monitor.Log))(t), "NO-CARRIER")
	}
	pass(50 * time.Millisecond) // ip monitor has no way to say that it listens
	for i := 1; i <= 5; i++ {
		must(t, port.Unplug())
		must(t, WaitFor("notice of lost carrier", 80*time.Millisecond, func() bool { return lines() >= i }))
		must(t, port.Plug())
	}
}

func TestDropIsOneWayAndSelective(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	h1, r1 := s.Host("h1"), s.Router("r1")
	port := r1.Port("lan0")
	if !pings(h1, "192.168.77.2") {
		t.Fatal("no answer before anything is dropped")
	}
	// heard counts requests that r1's own kernel sees, sent by h1.
	heard := func() int {
		c := ok(port.Capture(func(p Packet) bool { return isICMP(p.Frame, 8) }))(t)
		defer c.Close()
		h1.Reaches(netip.MustParseAddr("192.168.77.2"), 90*time.Millisecond) // one request
		return len(c.Packets())
	}
	for _, c := range []struct {
		name  string
		d     Direction
		match string
		heard int
		ping  bool
	}{
		{"towards the router", In, "", 0, false},
		{"from the router", Out, "", 1, false},
		{"only something else", Both, "ip protocol 112", 1, true},
		{"only icmp", In, "ip protocol icmp", 0, false},
	} {
		must(t, port.Drop(c.d, c.match))
		if got := heard(); got != c.heard {
			t.Errorf("%s: router heard %d requests, want %d", c.name, got, c.heard)
		}
		if !carrier(t, port) {
			t.Errorf("%s: no carrier", c.name)
		}
		must(t, port.Pass())
		if !pings(h1, "192.168.77.2") {
			t.Errorf("%s: no answer after Pass", c.name)
		}
	}
	if err := port.Drop(In, "no such words"); err == nil {
		t.Error("nonsense was taken for a match")
	}
	must(t, port.Drop(In, "")) // the bad one has not stayed
}

func isICMP(frame []byte, kind byte) bool {
	return len(frame) > 34 && frame[12] == 8 && frame[13] == 0 && frame[23] == 1 && frame[34] == kind
}

func TestSwitchLearnsWhereAnAddressIs(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	moving := net.HardwareAddr{2, 0, 0x5e, 0, 1, 51}
	from := func(n *Node) {
		// An announcement, sent as the moving station.
		frame := append(bytes.Repeat([]byte{0xff}, 6), moving...)
		frame = append(frame, 0x88, 0xb5)
		must(t, n.SendFrame("lan0", append(frame, make([]byte, 46)...)))
	}
	to := func() (r1, r2 int) {
		keep := func(p Packet) bool { return !p.Out && bytes.HasPrefix(p.Frame, moving) }
		c1, c2 := ok(s.Port("r1", "lan0").Capture(keep))(t), ok(s.Port("r2", "lan0").Capture(keep))(t)
		frame := append(append(net.HardwareAddr{}, moving...), s.Port("h1", "eth0").MAC...)
		frame = append(frame, 0x88, 0xb5)
		must(t, s.Host("h1").SendFrame("eth0", append(frame, make([]byte, 46)...)))
		_ = WaitFor("the frame", time.Second, func() bool { return len(c1.Packets())+len(c2.Packets()) > 0 })
		pass(5 * time.Millisecond) // a second copy would be there by now
		c1.Close()
		c2.Close()
		return len(c1.Packets()), len(c2.Packets())
	}
	for _, c := range []struct {
		name   string
		act    func()
		r1, r2 int
	}{
		{"unknown: flooded", func() {}, 1, 1},
		{"heard from r1", func() { from(s.Router("r1")) }, 1, 0},
		{"moved to r2", func() { from(s.Router("r2")) }, 0, 1},
		{"r2 unplugged: forgotten", func() { must(t, s.Port("r2", "lan0").Unplug()) }, 1, 0},
	} {
		c.act()
		if r1, r2 := to(); r1 != c.r1 || r2 != c.r2 {
			t.Errorf("%s: r1 got %d, r2 got %d, want %d and %d", c.name, r1, r2, c.r1, c.r2)
		}
	}
}

func TestISPDiesInSilence(t *testing.T) {
	s := plain(t)
	h1, r1 := s.Host("h1"), s.Router("r1")
	for _, c := range []struct {
		name            string
		die             func(string) error
		gateway, server bool
	}{
		{"wholly", s.Blackhole, false, false},
		{"beyond the gateway", s.BlackholeBeyond, true, false},
	} {
		must(t, c.die("isp1"))
		if !carrier(t, r1.Port("wan1")) {
			t.Errorf("%s: no carrier", c.name)
		}
		if pings(r1, "203.0.113.1") != c.gateway || pings(h1, server.String()) != c.server {
			t.Errorf("%s: want gateway %t, server %t", c.name, c.gateway, c.server)
		}
		if !pings(r1, "203.0.113.129") {
			t.Errorf("%s: the other ISP is dead too", c.name)
		}
		must(t, s.Restore("isp1"))
		must(t, WaitFor("the ISP to be back", 3*time.Second, func() bool { return pings(h1, server.String()) }))
	}
}

func TestISPTakesOnlyItsOwnSources(t *testing.T) {
	s := plain(t)
	if leak := ok(s.Leaks("isp1"))(t); leak.Packets != 0 {
		t.Errorf("leaks before any: %+v", leak)
	}
	for range 3 {
		must(t, s.Router("r1").SendIP(Forgery{Device: "wan1", Src: netip.MustParseAddr("192.168.77.100"),
			Dst: server, Protocol: 17, Payload: make([]byte, 8)}))
	}
	var leak Leak
	_ = WaitFor("leaks", time.Second, func() bool { leak = ok(s.Leaks("isp1"))(t); return leak.Packets >= 3 })
	if leak.Packets != 3 || len(leak.Pairs) != 1 || leak.Pairs[0] != "192.168.77.100 > 198.51.100.1" {
		t.Errorf("leaks: %+v", leak)
	}
	if leak := ok(s.Leaks("isp2"))(t); leak.Packets != 0 {
		t.Errorf("leaks of the other ISP: %+v", leak)
	}
}

func TestGatewayMayIgnoreGratuitousARP(t *testing.T) {
	spec := Pair(PairOptions{WANOwn: true})
	spec.ISPs[0].IgnoreGratuitous = true
	s := ForTest(t, spec)
	r1, r2 := s.Router("r1"), s.Router("r2")
	must(t, r1.IP("address add 203.0.113.10/25 dev wan1"))
	if !pings(s.ISP("isp1"), "203.0.113.10") {
		t.Fatal("no answer from the address on r1")
	}
	at := func() string {
		return ok(s.ISP("isp1").Exec("ip", "neigh", "show", "203.0.113.10"))(t)
	}
	mac := r2.Port("wan1").MAC
	arp := func(target string) {
		frame := append(bytes.Repeat([]byte{0xff}, 6), mac...)
		frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
		frame = append(append(frame, mac...), wan1.AsSlice()...)
		frame = append(append(frame, make([]byte, 6)...), netip.MustParseAddr(target).AsSlice()...)
		must(t, r2.SendFrame("wan1", frame))
	}
	arp("203.0.113.10")
	pass(20 * time.Millisecond) // for it to be ignored
	if strings.Contains(at(), mac.String()) {
		t.Errorf("gratuitous ARP was believed: %s", at())
	}
	must(t, WaitFor("a request to the gateway to be believed", 3*time.Second, func() bool {
		arp("203.0.113.1") // the kernel keeps an entry for a second before it changes it
		return strings.Contains(at(), mac.String())
	}))
}

func TestPart(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{Hosts: 2}))
	h1, h2, r1 := s.Host("h1"), s.Host("h2"), s.Router("r1")
	must(t, s.Part([]string{"h1", "r1", "isp1"}, []string{"h2", "r2", "isp2"}))
	for _, c := range []struct {
		from *Node
		to   string
		want bool
	}{
		{h1, "192.168.77.2", true}, {h1, "192.168.77.3", false}, {h2, "192.168.77.3", true}, {h2, "192.168.77.2", false},
		{h1, "192.168.77.101", false}, {r1, "192.0.2.2", false},
		{s.ISP("isp1"), "10.254.1.1", true}, {s.ISP("isp2"), "10.254.2.1", true}, // net is on neither side
	} {
		if pings(c.from, c.to) != c.want {
			t.Errorf("parted: %s reaches %s: %t", c.from.Name, c.to, !c.want)
		}
	}
	must(t, s.Rejoin("h1", "r1", "isp1", "h2", "r2", "isp2"))
	if !pings(h1, "192.168.77.3") || !pings(r1, "192.0.2.2") {
		t.Error("not joined again")
	}
}
