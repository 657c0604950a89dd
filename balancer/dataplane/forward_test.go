package dataplane

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/netlab"
)

// forwards are of every kind: to another port, of one uplink, for some sources, of
// a range, limited.
func forwards() []balancer.Forward {
	host := netip.MustParseAddr(clientAddr)
	return []balancer.Forward{
		{Protocol: 6, Ports: balancer.Ports{First: 443, Last: 443}, To: host, ToPort: 8443, Hairpin: true},
		{Protocol: 6, Ports: balancer.Ports{First: 81, Last: 81}, To: host, ToPort: 8443, Uplinks: []string{"dsl"}},
		{Protocol: 6, Ports: balancer.Ports{First: 82, Last: 82}, To: host, ToPort: 8443, Source: []netip.Prefix{netip.MustParsePrefix("198.51.100.2/32"), netip.MustParsePrefix("198.18.0.0/15")}},
		{Protocol: 17, Ports: balancer.Ports{First: 5000, Last: 5010}, To: host},
		{Protocol: 6, Ports: balancer.Ports{First: 83, Last: 83}, To: host, ToPort: 8443, Limit: balancer.Rate{Count: 2, Unit: "hour"}},
	}
}

// TestForwards: ports of the uplinks lead to a host, which sees who asks and whose
// answers leave by the uplink that was asked; nothing else gets in that way.
func TestForwards(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, guest, server := world(t)
	c, in := settings()
	c.Forwards = forwards()
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	hold(t)
	client.serve(8443)
	try := func(from space, to string, want string) {
		t.Helper()
		conn, seen, err := from.dial(to, 300*time.Millisecond)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s from %s: a connection, as %s", to, from.name, seen)
		case want != "" && (err != nil || seen != want):
			t.Errorf("%s from %s: %q %v, want it seen as %s", to, from.name, seen, err, want)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	try(server, cableAddr+":443", serverAddr)
	try(server, dslAddr+":443", serverAddr)
	try(server, dslAddr+":81", serverAddr)
	try(server, cableAddr+":81", "")
	try(server, cableAddr+":82", "")
	try(server, cableAddr+":8443", "")
	// Nothing begins in mid-stream: its entry may be on the way from the other node.
	count := func() string { return netlab.Sh(t, "nft list chain inet harouter to_virtual") }
	before := count()
	client.sniffed(t, func() {
		server.segment(t, cableAddr, 443, 0x10)
		eventually(t, time.Second, "it ends at the router", func() bool { return count() != before })
	})
	netlab.Sh(t, "ip -n server route replace 203.0.113.0/25 via 10.0.1.1 src 198.51.100.2")
	try(server, cableAddr+":82", "198.51.100.2")
	// By the outer address from inside: the router speaks for the client.
	try(client, cableAddr+":443", "192.168.77.1")
	try(guest, dslAddr+":443", "192.168.77.1")
	try(guest, dslAddr+":81", "")
	for i, want := range []string{"198.51.100.2", "198.51.100.2", ""} {
		t.Logf("connection %d of two an hour", i+1)
		try(server, cableAddr+":83", want)
	}
	client.echoUDP("5007")
	must(t, server.ask(dslAddr+":5007", time.Second))
	if err := server.ask(dslAddr+":5011", 200*time.Millisecond); err == nil {
		t.Error("port 5011 is beyond the range, and was answered")
	}
	for _, f := range flows(t, dslAddr) {
		if f.Mark != 0x200 && f.Forward.SrcIP.String() == serverAddr {
			t.Errorf("the mark of a flow that came in on dsl is %#x", f.Mark)
		}
	}

	// An uplink that has no virtual address: the node's own.
	c.Uplinks[0].Virtual = nil
	must(t, k.Apply(t.Context(), build(t, c, in)))
	try(server, "203.0.113.2:443", "198.51.100.2")

	must(t, k.Apply(t.Context(), build(t, c, in)))
	before = netlab.Sh(t, "nft -a -s list table inet harouter")
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if d := cmp.Diff(before, netlab.Sh(t, "nft -a -s list table inet harouter")); d != "" {
		t.Errorf("the same again:\n%s", d)
	}
	c.Forwards = nil
	must(t, k.Apply(t.Context(), build(t, c, in)))
	try(server, dslAddr+":443", "")
}

// TestForwardsInScript: the script says the same.
func TestForwardsInScript(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	c.Forwards = forwards()
	p := build(t, c, in)
	k := open(t)
	must(t, k.Apply(t.Context(), p))
	ours := quiet(state(t))
	must(t, k.Cleanup(t.Context()))
	scriptGives(t, p, ours)
}

// answers sends each datagram back until the socket is closed.
func answers(u net.PacketConn) {
	b := make([]byte, 100)
	for {
		n, from, err := u.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = u.WriteTo(b[:n], from)
	}
}

// echoUDP answers on a port until the test ends.
func (s space) echoUDP(port string) {
	var u net.PacketConn
	s.do(func() {
		var err error
		if u, err = net.ListenPacket("udp4", "0.0.0.0:"+port); err != nil {
			s.t.Errorf("listen in %s: %v", s.name, err)
		}
	})
	if u == nil {
		s.t.FailNow()
	}
	s.t.Cleanup(func() { _ = u.Close() })
	go answers(u)
}
