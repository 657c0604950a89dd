package vip

import (
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"harouter/test/netlab"
)

// TestGoldenNeighbour: the checksum was computed by another program.
func TestGoldenNeighbour(t *testing.T) {
	fs, err := frames(net.HardwareAddr{2, 0, 0, 0, 0, 1}, Address{Device: "lan0", Prefix: pfx("2001:db8::1/64")})
	if err != nil || len(fs) != 1 {
		t.Fatalf("%d frames, %v", len(fs), err)
	}
	want := []byte{
		0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
		0x60, 0, 0, 0, 0, 32, 58, 255,
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		136, 0, 0x79, 0x2a, 0xa0, 0, 0, 0,
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
		2, 1, 2, 0, 0, 0, 0, 1,
	}
	if diff := cmp.Diff(want, fs[0]); diff != "" {
		t.Error(diff)
	}
}

// TestNeighbourBelieves: a host that knew another router behind the address
// turns to this one at once.
func TestNeighbourBelieves(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	netlab.Sh(t, "ip -6 neigh add 2001:db8::1 lladdr 02:00:00:00:00:99 dev far-lan0 nud stale; ip -6 neigh add 2001:db8::2 lladdr 02:00:00:00:00:99 dev far-lan0 nud stale")
	link, err := netlink.LinkByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	n := newAnnouncer(slog.New(slog.DiscardHandler))
	defer n.close()
	n.announce(link, Address{Device: "lan0", Prefix: pfx("2001:db8::1/64")})
	eventually(t, "the neighbour is this one", func() bool {
		got := netlab.Sh(t, "ip -6 neigh show dev far-lan0")
		return strings.Contains(got, "2001:db8::1 lladdr 02:00:00:00:00:01 router")
	})
	if got := netlab.Sh(t, "ip -6 neigh show dev far-lan0"); !strings.Contains(got, "2001:db8::2 lladdr 02:00:00:00:00:99") {
		t.Error(got)
	}
}
