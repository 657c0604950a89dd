package netlab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	// A process that builds a site and waits, for the tests of what is left
	// behind by one that dies. It says the prefix on standard output.
	Role("builder", func(context.Context, []string) error {
		s, err := New(Pair(PairOptions{}))
		if err != nil {
			return err
		}
		if _, err := s.Router("r1").Start("sleeper", "sleep", "1000"); err != nil {
			return err
		}
		fmt.Println(s.Prefix)
		select {}
	})
	// A process that exits 0 when its first argument answers a connection in 500 ms.
	Role("reach", func(_ context.Context, args []string) error {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", args[0], EchoPort), 500*time.Millisecond)
		if err == nil {
			_, err = readGreeting(conn)
		}
		return err
	})
	Main()
	os.Exit(m.Run())
}

var (
	server  = netip.MustParseAddr("198.51.100.1")
	gateway = netip.MustParseAddr("192.168.77.1")
	wan1    = netip.MustParseAddr("203.0.113.10")
	wan2    = netip.MustParseAddr("203.0.113.140")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ok[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// plain builds a site with r1 as an ordinary Linux router: the gateway's
// address on the LAN, one masquerade rule, isp1 as the default route.
func plain(t testing.TB) *Site {
	t.Helper()
	s := ForTest(t, Pair(PairOptions{}))
	r1 := s.Router("r1")
	must(t, r1.IP("address add 192.168.77.1/24 dev lan0",
		"address add 203.0.113.10/25 dev wan1", "address add 203.0.113.140/25 dev wan2",
		"route add default via 203.0.113.1 dev wan1"))
	must(t, r1.NFT(`table ip plain {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    oifname { "wan1", "wan2" } masquerade
  }
}
`))
	must(t, r1.Sysctl("net.ipv4.ip_forward", "1"))
	ok(s.Serve("net"))(t)
	return s
}

// pass lets that much time of traffic go by: the amount of the load, not a
// wait for something to happen.
func pass(d time.Duration) { <-time.After(d) }

// within tells whether a measured time is in the range.
func within(t testing.TB, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %s, want %s to %s", what, got, low, high)
	}
}

// pings tells whether a node reaches an address.
func pings(n *Node, to string) bool {
	return n.Reaches(netip.MustParseAddr(to), 700*time.Millisecond)
}
