package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

// knock is a packet that begins a flow.
type knock struct {
	by     string // space, client unless said
	from   string // source, its own unless said; with a port perhaps
	to     string // 198.51.100.1 unless said
	proto  string // tcp unless said
	port   int    // 80 unless said
	dscp   int
	nobody bool // no answer is expected
}

// knocks begins a flow and tells which uplink its mark names: "cable", "dsl", or
// "" for none.
func (s space) knocks(k knock) string {
	s.t.Helper()
	forget(s.t)
	to := k.to
	if to == "" {
		to = serverAddr
	}
	port := k.port
	if port == 0 {
		port = 80
	}
	if k.proto == "icmp" {
		_ = s.ping(to)
	} else {
		proto := k.proto
		if proto == "" {
			proto = "tcp"
		}
		d := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
			failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, k.dscp<<2) })
			if err == nil {
				err = failed
			}
			return err
		}}
		if k.nobody {
			d.Timeout = 150 * time.Millisecond
		}
		if k.from != "" {
			from := k.from
			if !strings.Contains(from, ":") {
				from += ":0"
			}
			ap := netip.MustParseAddrPort(from)
			d.LocalAddr = net.TCPAddrFromAddrPort(ap)
			if proto == "udp" {
				d.LocalAddr = net.UDPAddrFromAddrPort(ap)
			}
		}
		var err error
		s.do(func() {
			var c net.Conn
			if c, err = d.Dial(proto+"4", net.JoinHostPort(to, strconv.Itoa(port))); err != nil {
				return
			}
			if proto == "udp" {
				_, _ = c.Write([]byte("?"))
			} else {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			_ = c.Close()
		})
		if (err != nil) != k.nobody {
			s.t.Errorf("%+v: %v", k, err)
		}
	}
	for _, f := range flows(s.t, to) {
		return map[uint32]string{0: "", 0x100: "cable", 0x200: "dsl"}[f.Mark]
	}
	return ""
}

// TestEachKindOfMatch: what a policy names goes by it, what it does not name goes
// by the next one, packet by packet.
func TestEachKindOfMatch(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	server.serve(81)
	netlab.Sh(t, "ip -n client addr add 192.168.77.11/24 dev eth0; ip -n client link set eth0 address 02:00:00:00:00:07")
	for name, test := range map[string]struct {
		match     balancer.Match
		hit, miss knock
	}{
		"lan":                  {balancer.Match{balancer.MatchLan: spans(1, 1)}, knock{by: "guest"}, knock{}},
		"source":               {balancer.Match{balancer.MatchSource: networks("192.168.77.11/32")}, knock{from: "192.168.77.11"}, knock{}},
		"all sources but one":  {balancer.Match{balancer.MatchSource: networks("0.0.0.0/0").Minus(networks("192.168.77.11/32"))}, knock{}, knock{from: "192.168.77.11"}},
		"destination":          {balancer.Match{balancer.MatchDestination: networks("198.51.100.2/32", "198.51.100.4/31")}, knock{to: "198.51.100.5"}, knock{to: "198.51.100.6"}},
		"the last network":     {balancer.Match{balancer.MatchDestination: networks("198.51.100.2/32", "224.0.0.0/3")}, knock{to: "198.51.100.2"}, knock{to: "198.51.100.3"}},
		"protocol":             {balancer.Match{balancer.MatchProtocol: spans(17, 17)}, knock{proto: "udp"}, knock{}},
		"icmp":                 {balancer.Match{balancer.MatchProtocol: spans(1, 1)}, knock{proto: "icmp"}, knock{proto: "udp"}},
		"destination ports":    {balancer.Match{balancer.MatchProtocol: tcp, balancer.MatchDestinationPort: spans(81, 90)}, knock{port: 81}, knock{}},
		"ports of one only":    {balancer.Match{balancer.MatchProtocol: spans(17, 17), balancer.MatchDestinationPort: spans(80, 80)}, knock{proto: "udp"}, knock{}},
		"source ports":         {balancer.Match{balancer.MatchProtocol: balancer.WithPorts, balancer.MatchSourcePort: spans(1000, 1000)}, knock{from: "192.168.77.10:1000", proto: "udp"}, knock{proto: "udp", from: "192.168.77.10:1001"}},
		"dscp":                 {balancer.Match{balancer.MatchDSCP: spans(46, 46)}, knock{dscp: 46}, knock{dscp: 45}},
		"mac":                  {balancer.Match{balancer.MatchMAC: spans(0x020000000007, 0x020000000007)}, knock{}, knock{by: "guest"}},
		"several":              {balancer.Match{balancer.MatchLan: spans(0, 0), balancer.MatchDestination: networks("198.51.100.0/30"), balancer.MatchProtocol: tcp, balancer.MatchDestinationPort: spans(80, 80), balancer.MatchMAC: spans(0x020000000007, 0x020000000007)}, knock{to: "198.51.100.3"}, knock{to: "198.51.100.3", port: 81}},
		"several and one not":  {balancer.Match{balancer.MatchLan: spans(0, 0), balancer.MatchDestination: networks("198.51.100.0/30")}, knock{to: "198.51.100.3"}, knock{to: "198.51.100.3", by: "guest"}},
		"no packet whatsoever": {balancer.Match{balancer.MatchSource: balancer.Spans{}}, knock{nobody: true}, knock{}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Policies = []balancer.Policy{
				{Name: "special", Match: test.match, Method: balancer.Enforced, WhenNone: balancer.NoneDrop, Uplinks: []string{"dsl"}},
				{Name: "default", Method: balancer.Priority},
			}
			must(t, k.Apply(t.Context(), build(t, c, in)))
			at := map[string]space{"": client, "guest": guest}
			if !test.hit.nobody {
				if got := at[test.hit.by].knocks(test.hit); got != "dsl" {
					t.Errorf("%+v goes to %q", test.hit, got)
				}
			}
			if got := at[test.miss.by].knocks(test.miss); got != "cable" {
				t.Errorf("%+v goes to %q", test.miss, got)
			}
		})
	}
}

// TestOutcomes: what a policy does when its uplink is dead, and what goes past
// all uplinks.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	far := balancer.Match{balancer.MatchDestination: networks("198.51.100.2/32")}
	special := balancer.Policy{Name: "special", Match: far, Uplinks: []string{"dsl"}}
	with := func(change func(*balancer.Policy), usable ...string) {
		t.Helper()
		p := special
		change(&p)
		c.Policies = []balancer.Policy{p, {Name: "default", Method: balancer.Priority}}
		in.Usable = map[string]bool{}
		for _, u := range usable {
			in.Usable[u] = true
		}
		must(t, k.Apply(t.Context(), build(t, c, in)))
	}
	to := func(nobody bool, want string) {
		t.Helper()
		if got := client.knocks(knock{to: "198.51.100.2", nobody: nobody}); got != want {
			t.Errorf("goes to %q, want %q", got, want)
		}
	}
	both := []string{"cable", "dsl"}
	with(func(*balancer.Policy) {}, both...)
	to(false, "dsl")
	with(func(*balancer.Policy) {}, "cable") // when_none: next
	to(false, "cable")
	with(func(p *balancer.Policy) { p.WhenNone = balancer.NoneAny }, "cable")
	to(false, "cable")
	with(func(p *balancer.Policy) { p.WhenNone = balancer.NoneDrop }, "cable")
	to(true, "")
	with(func(p *balancer.Policy) { p.Method, p.WhenNone = balancer.Enforced, balancer.NoneNext }, "cable")
	to(false, "cable")

	// Enforced goes nowhere else, with its uplink's routes or without.
	enforced := func(p *balancer.Policy) { p.Method, p.WhenNone = balancer.Enforced, balancer.NoneDrop }
	netlab.Sh(t, "ip route add default via 203.0.113.1 dev wan1 onlink") // what DHCP leaves behind
	with(enforced, "cable")
	to(false, "dsl") // down by its probes, and yet it works
	netlab.Sh(t, "ip link set wan2 down")
	must2(k.Apply(t.Context(), build(t, c, in)))
	netlab.Sh(t, "ip netns exec isp1 nft 'add table ip w; add chain ip w f { type filter hook forward priority 0; }; add rule ip w f ip daddr 198.51.100.2 counter'")
	quietly := func() {
		t.Helper()
		if out := netlab.Sh(t, "ip netns exec isp1 nft list table ip w"); !strings.Contains(out, "packets 0 ") {
			t.Errorf("it left by cable:\n%s", out)
		}
	}
	to(true, "")
	quietly()
	netlab.Sh(t, "ip link set wan2 up; ip addr add 203.0.113.140/25 dev wan2 noprefixroute 2>/dev/null || true")
	eventually(t, 2*time.Second, "the routes of dsl", func() bool { return OnlySkipped(k.Apply(t.Context(), build(t, c, in))) })

	// Dropped is dropped, though the main table has a way too.
	with(func(p *balancer.Policy) { p.WhenNone = balancer.NoneDrop }, "cable")
	to(true, "")
	quietly()

	// A bypass goes where the main table leads, untranslated, and new flows of it
	// only while this node is active.
	with(func(p *balancer.Policy) { p.Bypass = true }, both...)
	netlab.Sh(t, "ip -n isp1 route add 192.168.77.0/24 via 203.0.113.2; ip -n server route add 192.168.77.0/24 via 10.0.1.1")
	seen := client.seen("198.51.100.2:80", 3)
	if seen[clientAddr] != 3 {
		t.Errorf("by bypass the server saw %v", seen)
	}
	to(false, "")
	if got := client.knocks(knock{to: "198.51.100.3"}); got != "cable" {
		t.Errorf("beside the bypass it goes to %q", got)
	}
	must(t, k.Activate(t.Context(), false, false))
	to(true, "")
	must(t, k.Activate(t.Context(), true, false))
	to(false, "")
}

// must2 takes an Apply that may leave out what a device that is down cannot carry.
func must2(err error) {
	if !OnlySkipped(err) {
		panic(err)
	}
}

// TestOwnTrafficByPolicy: the node's own traffic chooses uplink and source by the
// policies with router: true, and by no other.
func TestOwnTrafficByPolicy(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	_, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	server.serve(81)
	c.Policies = []balancer.Policy{
		{Name: "lans", Uplinks: []string{"dsl"}, Match: balancer.Match{balancer.MatchProtocol: tcp}},
		{Name: "web", Router: true, Method: balancer.Enforced, WhenNone: balancer.NoneDrop, Uplinks: []string{"dsl"}, Match: balancer.Match{
			balancer.MatchDestination: networks("198.51.100.2/31"), balancer.MatchProtocol: tcp, balancer.MatchDestinationPort: spans(80, 80),
		}},
		{Name: "none", Router: true, WhenNone: balancer.NoneDrop, Uplinks: []string{"dsl"}, Match: balancer.Match{balancer.MatchDestination: networks("198.51.100.8/32")}},
		{Name: "default", Method: balancer.Priority},
	}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	from := func(to string) string {
		conn, seen, err := dial(to, 300*time.Millisecond)
		if err != nil {
			return "nowhere"
		}
		_ = conn.Close()
		return seen
	}
	for _, want := range [][2]string{
		{"198.51.100.2:80", dslAddr}, {"198.51.100.3:80", dslAddr}, {"198.51.100.8:80", dslAddr},
		{"198.51.100.2:81", "203.0.113.2"}, {"198.51.100.4:80", "203.0.113.2"},
	} {
		if got := from(want[0]); got != want[1] {
			t.Errorf("to %s from %s, want %s", want[0], got, want[1])
		}
	}
	in.Usable = map[string]bool{"cable": true}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if got := from("198.51.100.8:80"); got != "nowhere" {
		t.Errorf("without dsl: from %s", got)
	}
	if got := from("198.51.100.2:80"); got != dslAddr {
		t.Errorf("enforced, with dsl down by its probes: from %s", got)
	}
	c.Policies = slices.DeleteFunc(c.Policies, func(p balancer.Policy) bool { return p.Router })
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if rules := netlab.Sh(t, "ip rule; ip route show table 7064"); strings.Contains(rules, "dport") || strings.Contains(rules, "unreachable") {
		t.Errorf("left behind:\n%s", rules)
	}
}

// TestPersistence: the same source and destination take the same uplink, by hash
// alone, and with what was learned also when the weights change. Another node is
// told what was learned.
func TestPersistence(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.Persistence}}
	c.Uplinks[0].Weight, c.Uplinks[1].Weight = 1, 1
	where := func() (all [8]string) {
		t.Helper()
		for i := range all {
			seen := client.seen(fmt.Sprintf("198.51.100.%d:80", i+1), 3)
			if len(seen) != 1 {
				t.Errorf("198.51.100.%d was reached from %v", i+1, seen)
			}
			for from := range seen {
				all[i] = from
			}
		}
		return all
	}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	hashed := where()
	if !slices.Contains(hashed[:], cableAddr) || !slices.Contains(hashed[:], dslAddr) {
		t.Errorf("all to one uplink: %v", hashed)
	}

	c.Policies[0].Learned = time.Minute
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if got := where(); got != hashed {
		t.Errorf("learned: %v, by hash: %v", got, hashed)
	}
	c.Uplinks[0].Weight = 255
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if got := where(); got != hashed {
		t.Errorf("with other weights: %v, learned: %v", got, hashed)
	}
	places, err := k.Learned()
	must(t, err)
	if len(places) != 8 {
		t.Errorf("%d places: %+v", len(places), places)
	}
	for i, p := range places {
		if p.Source.String() != clientAddr || p.Left <= 0 || p.Left > time.Minute {
			t.Errorf("%+v", p)
		}
		places[i].Uplink = map[string]string{"cable": "dsl", "dsl": "cable"}[p.Uplink]
	}

	// As another node would, with all the other way round.
	must(t, k.Cleanup(t.Context()))
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Learn(places))
	got := where()
	for i := range got {
		if got[i] == hashed[i] {
			t.Errorf("198.51.100.%d was told and is not known", i+1)
		}
	}
	// A dead uplink is forgotten, and its clients find another.
	in.Usable["dsl"] = false
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if got := where(); slices.Contains(got[:], dslAddr) {
		t.Errorf("without dsl: %v", got)
	}
	if k.Repairs() != (Repairs{}) {
		t.Errorf("repairs %+v", k.Repairs())
	}
}
