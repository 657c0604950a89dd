package dataplane

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

// behind adds to the world a tunnel with hosts behind it, the page of a modem, and
// a router in a lan.
const behind = `ip netns add far; ip -n far link set lo up
ip link add tun0 type veth peer name near netns far; ip link set tun0 up; ip -n far link set near up
ip addr add 10.9.0.2/30 dev tun0; ip -n far addr add 10.9.0.1/30 dev near
ip -n far addr add 10.8.0.5/32 dev lo; ip -n far addr add 10.8.7.5/32 dev lo; ip -n far route add default via 10.9.0.2
ip addr add 192.168.100.2/24 dev wan1 noprefixroute; ip -n isp1 addr add 192.168.100.1/24 dev cust
ip -n guest addr add 10.20.0.7/32 dev lo`

// beyond are the networks there: a masqueraded one, a part of it that is not, and
// those over an uplink's device and over a lan.
func beyond() []balancer.Network {
	p := netip.MustParsePrefix
	return []balancer.Network{
		{To: p("10.8.0.0/16"), Device: "tun0", Gateway: netip.MustParseAddr("10.9.0.1"), Masquerade: true},
		{To: p("10.8.7.0/24"), Device: "tun0", Gateway: netip.MustParseAddr("10.9.0.1"), Source: netip.MustParseAddr("192.168.77.1")},
		{To: p("192.168.100.0/24"), Device: "wan1", Masquerade: true},
		{To: p("10.20.0.0/16"), Gateway: netip.MustParseAddr(guestAddr)},
	}
}

// TestNetworksInScript: the script of a plan with networks and groups gives the
// same as the daemon.
func TestNetworksInScript(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	world(t)
	netlab.Sh(t, behind)
	c, in := settings()
	c.Networks, c.Firewall = beyond(), guarded()
	c.Networks[0].Source = netip.MustParseAddr("192.168.77.1") // a virtual address
	c.Firewall.Groups = balancer.Groups{{"office", "cable"}, {"guests"}}
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

// TestNetworks: what is behind a tunnel, a modem or another router is reached from
// the lans, by no uplink's address, and nothing leaves over an ISP while its way
// lacks.
func TestNetworks(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, _ := world(t)
	netlab.Sh(t, behind)
	far, modem := space{t, "far"}, space{t, "isp1"}
	c, in := settings()
	c.Networks, c.Firewall, c.ClampMSS = beyond(), guarded(), true
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	running(t, k)
	for _, s := range []space{far, modem, guest} {
		s.serve(80)
	}
	router := space{t: t, name: "router"}
	netlab.Sh(t, "touch /run/netns/router; mount --bind /proc/self/ns/net /run/netns/router")

	for _, v := range []struct {
		name       string
		from       space
		to, seenAs string
	}{
		{"behind the tunnel", client, "10.8.0.5", "10.9.0.2"},
		{"behind the tunnel, not masqueraded", client, "10.8.7.5", clientAddr},
		{"the modem", client, "192.168.100.1", "192.168.100.2"},
		{"the modem, from another lan", guest, "192.168.100.1", "192.168.100.2"},
		{"behind a router of a lan", client, "10.20.0.7", clientAddr},
		{"the router itself", router, "10.8.0.5", "10.9.0.2"},
		{"the router itself, with a source", router, "10.8.7.5", "192.168.77.1"},
	} {
		if d := cmp.Diff(map[string]int{v.seenAs: 6}, v.from.seen(v.to+":80", 6)); d != "" {
			t.Errorf("%s: -want +got\n%s", v.name, d)
		}
		for _, f := range flows(t, v.to) {
			if f.Mark != 0 && v.from.name != "router" {
				t.Errorf("%s: a flow of the uplink %#x", v.name, f.Mark)
			}
		}
	}

	// Its line is dead; the page of the modem tells why.
	dead := in
	dead.Usable = map[string]bool{"cable": false, "dsl": true}
	must(t, k.Apply(t.Context(), build(t, c, dead)))
	if d := cmp.Diff(map[string]int{"192.168.100.2": 3}, client.seen("192.168.100.1:80", 3)); d != "" {
		t.Errorf("the modem of a dead line: -want +got\n%s", d)
	}
	must(t, k.Apply(t.Context(), build(t, c, in)))

	route := func() string { return netlab.Sh(t, "ip route show 10.8.0.0/16") }
	const way = "10.8.0.0/16 via 10.9.0.1 dev tun0"
	netlab.Sh(t, "ip route del 10.8.0.0/16 via 10.9.0.1; ip route del unreachable 10.8.0.0/16")
	eventually(t, 2*time.Second, "what a stranger took away is back", func() bool {
		return strings.Contains(route(), way) && strings.Contains(route(), "unreachable")
	})
	if n := k.Repairs().Route; n != 2 {
		t.Errorf("%d repairs of routes, want 2", n)
	}

	netlab.Sh(t, "ip link del tun0")
	if _, _, err := client.dial("10.8.0.5:80", 2*time.Second); err == nil || isTimeout(err) && !strings.Contains(err.Error(), "host") {
		t.Errorf("without the tunnel: %v, want that the host cannot be reached", err)
	}
	for _, f := range flows(t, "10.8.0.5") {
		if f.Mark != 0 {
			t.Errorf("without the tunnel an ISP got %v", f)
		}
	}
	netlab.Sh(t, `ip link add tun0 type veth peer name near netns far; ip -n far link set near up; ip -n far addr add 10.9.0.1/30 dev near
ip addr add 10.9.0.2/30 dev tun0; ip link set tun0 up; ip -n far route add default via 10.9.0.2`)
	eventually(t, 2*time.Second, "the tunnel is back, and its route", func() bool { return strings.Contains(route(), way) })
	if d := cmp.Diff(map[string]int{"10.9.0.2": 3}, client.seen("10.8.0.5:80", 3)); d != "" {
		t.Errorf("the tunnel is back: -want +got\n%s", d)
	}

	// The source comes and goes with the virtual address.
	netlab.Sh(t, "ip addr del 192.168.77.1/24 dev lan0")
	eventually(t, 2*time.Second, "no source that is not here", func() bool {
		out := netlab.Sh(t, "ip route show 10.8.7.0/24")
		return strings.Contains(out, "tun0") && !strings.Contains(out, "src")
	})
	netlab.Sh(t, "ip addr add 192.168.77.1/24 dev lan0 noprefixroute")
	eventually(t, 2*time.Second, "and with it again", func() bool {
		return strings.Contains(netlab.Sh(t, "ip route show 10.8.7.0/24"), "src 192.168.77.1")
	})
	if n := k.Repairs().Route; n != 2 {
		t.Errorf("%d repairs of routes after that: what came and went by itself was counted", n)
	}

	c.Networks = c.Networks[1:]
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if out := route(); strings.TrimSpace(out) != "" {
		t.Errorf("out of the file, and still there:\n%s", out)
	}
}

// TestGroups: a lan begins connections to those only that share a group with it;
// the others answer that it may not.
func TestGroups(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, server := world(t)
	c, in := settings()
	c.Firewall = guarded()
	c.Firewall.Groups = balancer.Groups{{"office", "cable", "dsl"}, {"guests", "dsl"}}
	c.Policies = []balancer.Policy{
		{Name: "to-cable", Match: balancer.Match{balancer.MatchDestination: {balancer.PrefixSpan(netip.MustParsePrefix("198.51.100.2/32"))}}, Uplinks: []string{"cable"}},
		{Name: "default", Uplinks: []string{"dsl"}},
	}
	c.Forwards = []balancer.Forward{{Protocol: 6, Ports: balancer.Ports{First: 443, Last: 443}, To: netip.MustParseAddr(clientAddr), ToPort: 80, Hairpin: true}}
	k := quietKernel(t)
	apply := func() {
		t.Helper()
		must(t, k.Apply(t.Context(), build(t, c, in)))
	}
	apply()
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	client.serve(80)
	guest.serve(80)
	server.serve(80)
	guest.echoUDP("5007")
	open, _, err := guest.dial(serverAddr+":80", time.Second)
	must(t, err)
	defer open.Close()
	refused := func() uint64 {
		t.Helper()
		n, err := Refused()
		must(t, err)
		return n["group"]
	}
	try := func(name string, from space, to string, want bool) {
		t.Helper()
		before, start := refused(), time.Now()
		conn, _, err := from.dial(to, 2*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if !want && !isRefused(err) {
			t.Errorf("%s: %v after %v, want an answer that refuses", name, err, time.Since(start))
		}
		if n := refused() - before; (n > 0) == want {
			t.Errorf("%s: %d counted", name, n)
		}
	}
	try("office to dsl", client, serverAddr+":80", true)
	try("office to cable", client, "198.51.100.2:80", true)
	try("guests to dsl", guest, serverAddr+":80", true)
	try("guests to cable", guest, "198.51.100.2:80", false)
	try("guests to office", guest, clientAddr+":80", false)
	try("office to guests", client, guestAddr+":80", false)
	try("guests by a forward", guest, cableAddr+":443", true)
	if err := client.ask(guestAddr+":5007", time.Second); !isRefused(err) && !isUnreachable(err) {
		t.Errorf("a datagram from office to guests: %v, want that it is prohibited", err)
	}
	c.Firewall.Groups = balancer.Groups{{"office", "guests"}}
	apply()
	try("office to guests, when they share a group", client, guestAddr+":80", true)
	try("guests to office, when they share a group", guest, clientAddr+":80", true)
	must(t, client.ask(guestAddr+":5007", time.Second))
	try("office to dsl, which is in no group now", client, serverAddr+":80", false)
	if err := echo(open, time.Second); err != nil {
		t.Errorf("a connection that was there before: %v", err)
	}
	c.Firewall.Groups = nil
	apply()
	try("without groups", guest, "198.51.100.2:80", true)
}

// TestErrorsReachTheLan: what the router has to say of a flow gets to its host,
// though the flow has the mark of an uplink.
func TestErrorsReachTheLan(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, _ := world(t)
	master(t)
	netlab.Sh(t, "ip link set wan1 mtu 1400; ip link set wan2 mtu 1400")
	client.do(func() {
		u, err := net.Dial("udp4", serverAddr+":5007")
		must(t, err)
		defer u.Close()
		raw, err := u.(*net.UDPConn).SyscallConn()
		must(t, err)
		must(t, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}))
		must(t, err)
		for range 2 { // at the second the flow is known
			_, _ = u.Write(make([]byte, 100))
		}
		_, err = u.Write(make([]byte, 1450))
		must(t, err)
	})
	eventually(t, 2*time.Second, "the client learns how much the way carries", func() bool {
		return strings.Contains(netlab.Sh(t, "ip -n client route get "+serverAddr), "mtu 1400")
	})
}

func isUnreachable(err error) bool {
	return err != nil && (strings.Contains(err.Error(), syscall.EHOSTUNREACH.Error()) || strings.Contains(err.Error(), "unreachable"))
}

func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), syscall.ECONNREFUSED.Error())
}
