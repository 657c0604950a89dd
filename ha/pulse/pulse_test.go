package pulse

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"

	"harouter/ha"
	"harouter/ha/links"
	"harouter/test/netlab"
	"harouter/test/standin"
)

func TestMain(m *testing.M) {
	netlab.Main()
	os.Exit(m.Run())
}

// TestAsker: a node on two cables, one of which has a host too. Its kernel
// answers for as long as it has its addresses.
func TestAsker(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	asker(t, map[string]string{"here": "192.0.2.2/24", "cable": "192.0.2.1/24", "office": "192.168.77.2/32", "host": "192.168.77.100/32"},
		[]ha.Way{cable, office, gateway}, []ha.Way{host, {Device: "no-such", Address: gateway.Address}})
}

// TestAskerSix: the same where there is IPv6 alone.
func TestAskerSix(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	way := func(device, address string) ha.Way {
		return ha.Way{Device: device, Address: netip.MustParseAddr(address)}
	}
	asker(t, map[string]string{"here": "fd00::2/64 nodad", "cable": "fd00::1/64 nodad", "office": "fe80::77:2/64 nodad", "host": "fe80::77:100/64 nodad"},
		[]ha.Way{way("", "fd00::1"), way("lan0", "fe80::77:2")}, []ha.Way{way("lan0", "fe80::77:100")})
}

// asker has the node asked on ways, and others with it.
func asker(t *testing.T, at map[string]string, ways, others []ha.Way) {
	netlab.Sh(t, strings.Join([]string{
		"sysctl -qw net.ipv6.conf.default.accept_dad=0",
		"ip netns add pulse-node", "ip link add sync0 type veth peer name sync0 netns pulse-node", "ip link add lan0 type veth peer name lan0 netns pulse-node",
		"ip link set sync0 up", "ip link set lan0 up", "ip addr add " + at["here"] + " dev sync0",
		"ip -n pulse-node link set sync0 up", "ip -n pulse-node link set lan0 up",
	}, "; "))
	defer netlab.Sh(t, "ip netns del pulse-node")
	addresses := func(verb string) {
		netlab.Sh(t, strings.Join([]string{
			"ip -n pulse-node addr " + verb + " " + at["cable"] + " dev sync0", "ip -n pulse-node addr " + verb + " " + at["office"] + " dev lan0",
		}, "; "))
	}
	addresses("add")
	netlab.Sh(t, "ip -n pulse-node addr add "+at["host"]+" dev lan0") // the host

	r := &standin.Reports{}
	a := New(r.Add, links.LinkLocal, slog.New(slog.NewTextHandler(io.Discard, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	order := ha.Pulse{Node: "r1", Ways: ways, Others: others}
	a.Ask(order)
	settle := func() { // both ways were answered
		t.Helper()
		if err := netlab.WaitFor("a silence of the node", 10*time.Second, func() bool {
			addresses("del")
			defer addresses("add")
			return netlab.WaitFor("", 700*time.Millisecond, func() bool {
				return r.Has(func(ev ha.Event) bool {
					e, ok := ev.(ha.Unanswered)
					return ok && e.Node == "r1" && e.For >= 40*time.Millisecond && e.Rounds >= 3 && e.Witnessed >= 2 && e.Devices == 2 && e.Direct
				})
			}) == nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if netlab.WaitFor("", 1500*time.Millisecond, func() bool {
		return r.Has(func(ev ha.Event) bool {
			e, ok := ev.(ha.Unanswered)
			return ok && e.Rounds >= 3 && e.For > 40*time.Millisecond
		})
	}) == nil {
		t.Error("a node that answers is told silent")
	}
	// Who was late itself when the answer came does not say how long the silence was.
	again := func() bool {
		r.Forget()
		settle()
		return netlab.WaitFor("", time.Second, func() bool {
			return r.Has(func(ev ha.Event) bool {
				e, ok := ev.(ha.Recovered)
				return ok && e.Node == "r1" && e.After > 40*time.Millisecond
			})
		}) == nil
	}
	for try := 1; !again(); try++ {
		if try == 3 {
			t.Fatal("nothing is told of a node that answers again, three times")
		}
	}
	// A device that is made anew.
	netlab.Sh(t, strings.Join([]string{
		"ip link del lan0", "ip link add lan0 type veth peer name lan0 netns pulse-node", "ip link set lan0 up", "ip -n pulse-node link set lan0 up",
		"ip -n pulse-node addr add " + at["office"] + " dev lan0", "ip -n pulse-node addr add " + at["host"] + " dev lan0",
	}, "; "))
	r.Forget()
	settle()
	a.Ask(ha.Pulse{})
}

// FuzzReplier: whatever comes from the wire, nothing breaks, and only replies
// count.
func FuzzReplier(f *testing.F) {
	for _, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		p, err := arp.NewPacket(op, mac, cable.Address, mac, netip.MustParseAddr("192.0.2.2"))
		if err != nil {
			f.Fatal(err)
		}
		b, err := p.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:27])
		f.Add(append(b, make([]byte, 18)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, hw, ok := replier(b)
		if ok && (!ip.Is4() || len(hw) != 6 || b[7] != 2) {
			t.Errorf("%x: %v %v", b, ip, hw)
		}
	})
}
