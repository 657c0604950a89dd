package hello

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/ha"
	"harouter/ha/links"
	"harouter/test/netlab"
	"harouter/test/standin"
)

func TestMain(m *testing.M) {
	netlab.Main()
	os.Exit(m.Run())
}

func start(t *testing.T, cfg Config) (*Greeter, *standin.Reports) {
	t.Helper()
	r := &standin.Reports{}
	cfg.LinkLocal = links.LinkLocal
	cfg.Report, cfg.Log, cfg.Cluster, cfg.VRID = r.Add, slog.New(slog.NewTextHandler(io.Discard, nil)), "home", 51
	if cfg.Keys == nil {
		cfg.Keys = [][32]byte{{1}}
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return g, r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if err := netlab.WaitFor(what, 3*time.Second, ok); err != nil {
		t.Fatal(err)
	}
}

// TestGreeters: two on the two ends of a cable, which is two devices of one
// namespace here.
func TestGreeters(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up; ip addr add 192.168.77.2/24 dev lan0")
	one, heard1 := start(t, Config{Node: "r1", Others: []string{"r2"}, Lans: []Lan{{Name: "office", Device: "lan0", Networks: []netip.Prefix{netip.MustParsePrefix("192.168.77.1/24")}}}})
	two, heard2 := start(t, Config{Node: "r2", Others: []string{"r1"}, Lans: []Lan{{Name: "office", Device: "lan1"}}})
	_, heard3 := start(t, Config{Node: "r3", Others: []string{"r1", "r2"}, Keys: [][32]byte{{2}}, Lans: []Lan{{Name: "office", Device: "lan1"}}})

	four, _ := start(t, Config{Node: "r4", Others: []string{"r1"}, Lans: []Lan{{Name: "office", Device: "lan1"}}})

	one.Publish(ha.PeerState{Node: "r1", Priority: 200}.Encode())
	two.Publish(ha.PeerState{Node: "r2", Priority: 150}.Encode())
	told := func(r *standin.Reports, node string, priority uint8) {
		t.Helper()
		eventually(t, "the state of "+node, func() bool {
			return r.Has(func(ev ha.Event) bool {
				told, ok := ev.(ha.PeerTold)
				return ok && told.State.Node == node && told.State.Priority == priority && told.Lan == "office"
			})
		})
	}
	told(heard1, "r2", 150)
	told(heard2, "r1", 200)
	four.Publish(ha.PeerState{Node: "r4", Priority: 100}.Encode())
	told(heard1, "r4", 100) // its file may be newer than that of r1
	eventually(t, "another key is counted", func() bool {
		return heard3.Has(func(ev ha.Event) bool { d, ok := ev.(ha.Dropped); return ok && d.Part == "gossip" && d.Reason == "key" })
	})

	one.Send("r2", ha.Message{Kind: ha.KindVouch, ID: 5}.Encode())
	want := ha.Told{From: "r1", Message: ha.Message{Kind: ha.KindVouch, ID: 5}, Lan: "office"}
	eventually(t, "a message", func() bool { return heard2.Has(func(ev ha.Event) bool { return cmp.Equal(ev, ha.Event(want)) }) })

	// A state that fits into no frame: the node is seen all the same.
	long := ha.PeerState{Node: "r1"}
	for i := range 400 {
		long.Addresses = append(long.Addresses, netip.AddrFrom4([4]byte{byte(i * 77), byte(i * 31), byte(i), byte(i * 13)}))
	}
	one.Publish(long.Encode())
	eventually(t, "a sign of life", func() bool {
		return heard2.Has(func(ev ha.Event) bool { return cmp.Equal(ev, ha.Event(ha.PeerSeen{Node: "r1", Lan: "office"})) })
	})

	// The device is deleted and made anew.
	one.Publish(ha.PeerState{Node: "r1", Priority: 201}.Encode())
	netlab.Sh(t, "ip link del lan0; ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up; ip addr add 192.168.77.2/24 dev lan0")
	one.LinkChanged()
	two.LinkChanged()
	one.Publish(ha.PeerState{Node: "r1", Priority: 202}.Encode())
	told(heard2, "r1", 202)

	// Hosts: one behind the other end of a second cable answers, one does not.
	if err := one.Configure(Config{Cluster: "home", VRID: 51, Node: "r1", Others: []string{"r2"}, Keys: [][32]byte{{1}}, Lans: []Lan{
		{Name: "guests", Device: "guest0", Networks: []netip.Prefix{netip.MustParsePrefix("192.168.78.1/24")}},
	}}); err != nil {
		t.Fatal(err)
	}
	netlab.Sh(t, strings.Join([]string{
		"ip netns add hello-host", "ip link add guest0 type veth peer name eth0 netns hello-host", "ip link set guest0 up",
		"ip -n hello-host link set eth0 up", "ip -n hello-host addr add 192.168.78.100/24 dev eth0", "ip addr add 192.168.78.2/24 dev guest0",
	}, "; "))
	defer netlab.Sh(t, "ip netns del hello-host")
	netlab.Sh(t, "bash -c 'echo x > /dev/udp/192.168.78.100/9; echo x > /dev/udp/192.168.78.101/9'")
	seen := ha.Hosts{Lan: "guests", Seen: []netip.Addr{netip.MustParseAddr("192.168.78.100")}}
	eventually(t, "the host is seen, and one that is not there is not", func() bool {
		return heard1.Has(func(ev ha.Event) bool { return cmp.Equal(ev, ha.Event(seen), cmpopts.EquateComparable(netip.Addr{})) })
	})
	reached := func() bool {
		return heard1.Has(func(ev ha.Event) bool { return cmp.Equal(ev, ha.Event(ha.Reached{Lan: "guests"})) })
	}
	one.Look(ha.Look{Lan: "guests", Hosts: []netip.Addr{netip.MustParseAddr("192.168.78.101")}})
	if netlab.WaitFor("", 700*time.Millisecond, reached) == nil {
		t.Error("a host that is not there was reached")
	}
	one.Look(ha.Look{Lan: "guests", Hosts: []netip.Addr{netip.MustParseAddr("192.168.78.100")}}) // sender 0.0.0.0
	eventually(t, "the host answers", reached)
	one.Look(ha.Look{Lan: "guests"})
}

// TestHostsSix: hosts of a lan that has IPv6 alone are seen and asked as well.
func TestHostsSix(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, strings.Join([]string{
		"sysctl -qw net.ipv6.conf.default.accept_dad=0", "ip netns add hello-six", "ip link add guest0 type veth peer name eth0 netns hello-six", "ip link set guest0 up",
		"ip -n hello-six link set eth0 up", "ip -n hello-six addr add fd00::100/64 dev eth0 nodad", "ip addr add fd00::2/64 dev guest0 nodad",
	}, "; "))
	defer netlab.Sh(t, "ip netns del hello-six")
	one, heard := start(t, Config{Node: "r1", Others: []string{"r2"}, Lans: []Lan{{Name: "guests", Device: "guest0", Networks: []netip.Prefix{netip.MustParsePrefix("fd00::1/64")}}}})
	host := netip.MustParseAddr("fd00::100")
	eventually(t, "the host is seen", func() bool {
		netlab.Sh(t, "bash -c 'echo x > /dev/udp/fd00::100/9'")
		return heard.Has(func(ev ha.Event) bool {
			return cmp.Equal(ev, ha.Event(ha.Hosts{Lan: "guests", Seen: []netip.Addr{host}}), cmpopts.EquateComparable(netip.Addr{}))
		})
	})
	reached := func() bool {
		return heard.Has(func(ev ha.Event) bool { return cmp.Equal(ev, ha.Event(ha.Reached{Lan: "guests"})) })
	}
	one.Look(ha.Look{Lan: "guests", Hosts: []netip.Addr{netip.MustParseAddr("fd00::101")}})
	if netlab.WaitFor("", 700*time.Millisecond, reached) == nil {
		t.Error("a host that is not there was reached")
	}
	one.Look(ha.Look{Lan: "guests", Hosts: []netip.Addr{host}})
	eventually(t, "the host answers", reached)
	one.Look(ha.Look{Lan: "guests"})
}
