package kernel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	ct "harouter/conntracksync"
	"harouter/test/netlab"
)

var equalPort = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

// flows opens n sockets at from and sends to that endpoint from each.
func flows(t *testing.T, n int, from, to string) {
	t.Helper()
	for range n {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() }) // else its port is given away again
		// No error: none of them is told "port unreachable" before it sends.
		if _, err := conn.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort(to)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPortUse(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	if got, err := PortUse(context.Background(), mask); err != nil || len(got) != 0 {
		t.Fatalf("empty table: %v, %v", got, err)
	}
	netlab.Sh(t, `ip link set lo up; ip addr add fd00::50/128 dev lo nodad
		nft -f - <<-E
		table inet t {
			chain out { type filter hook output priority -150
				ip saddr 127.0.0.1 ct mark set 0xa50100
				ip saddr 127.0.0.2 ct mark set 0x200
				ip6 saddr ::1 ct mark set 0x100
			}
			chain post { type nat hook postrouting priority 100
				ip saddr 127.0.0.1 ip daddr 127.0.0.8/29 snat ip to 127.0.0.50
				ip saddr 127.0.0.2 ip daddr 127.0.0.8/29 snat ip to 127.0.0.60
				ip6 saddr ::1 udp dport 53 snat ip6 to fd00::50
			}
		}
		E`)
	flows(t, 20, "127.0.0.1", "127.0.0.9:53")
	flows(t, 120, "127.0.0.1", "127.0.0.9:54")
	flows(t, 30, "127.0.0.1", "127.0.0.10:54")
	flows(t, 5, "127.0.0.50", "127.0.0.9:54")  // own flows take ports too
	flows(t, 200, "127.0.0.50", "127.0.0.9:1") // where no translated one goes
	flows(t, 40, "127.0.0.2", "127.0.0.9:54")
	flows(t, 300, "127.0.0.2", "127.0.0.1:54") // not translated
	flows(t, 10, "::1", "[::1]:53")
	echo(t, "ip4:icmp", "127.0.0.9")

	got, err := PortUse(context.Background(), mask)
	if err != nil {
		t.Fatal(err)
	}
	want := []NATPorts{
		{netip.MustParseAddr("127.0.0.50"), 0x100, ct.UDP, netip.MustParseAddrPort("127.0.0.9:54"), 125},
		{netip.MustParseAddr("127.0.0.60"), 0x200, ct.UDP, netip.MustParseAddrPort("127.0.0.9:54"), 40},
		{netip.MustParseAddr("fd00::50"), 0x100, ct.UDP, netip.MustParseAddrPort("[::1]:53"), 10},
	}
	if diff := cmp.Diff(want, got, equalPort); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if want := "127.0.0.50 uses 125 of 64512 ports towards udp 127.0.0.9:54"; len(got) > 0 && got[0].String() != want {
		t.Errorf("%v, want %s", got[0], want)
	}

	over, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := PortUse(over, mask); !errors.Is(err, context.Canceled) {
		t.Errorf("ctx ended: %v, %v", got, err)
	}
}

// TestManyEndpoints: with far more endpoints than are counted at a time the
// memory stays bounded, and who has many flows is found, no number too high and
// none lower than promised.
func TestManyEndpoints(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	nat := netip.MustParseAddr("203.0.113.10")
	flow := func(to uint32, protocol ct.Protocol) *ct.Flow {
		return &ct.Flow{Status: ct.SourceNAT, Mark: 0x100, Reply: ct.Tuple{Protocol: protocol, Destination: nat,
			Source: netip.AddrFrom4([4]byte{198, byte(to >> 16), byte(to >> 8), byte(to)}), SourcePort: 443}}
	}
	const others, busy, total = 300000, 20000, 300000 + 2*20000
	var all []*ct.Flow
	for i := range others {
		all = append(all, flow(uint32(i), ct.TCP))
	}
	for range busy { // the same address by another protocol is another endpoint
		all = append(all, flow(7, ct.UDP), flow(8, ct.SCTP))
	}
	all = append(all, flow(8, ct.SCTP))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	e := endpoints{mask: mask, counts: map[endpoint]tally{}}
	for _, f := range all {
		if e.add(f); len(e.counts) > maxEndpoints {
			t.Fatalf("%d endpoints are kept", len(e.counts))
		}
	}
	got := e.busiest()
	if len(got) != 1 || got[0].Address != nat || got[0].Mark != 0x100 || got[0].Destination.Port() != 443 {
		t.Fatalf("busiest: %v", got)
	}
	if n := got[0].Used; n > busy+1 || n < busy-total/maxEndpoints {
		t.Errorf("%v, want %d", got[0], busy)
	}
	if fmt.Sprint(got[0].Protocol) == "tcp" {
		t.Errorf("the wrong one: %v", got[0])
	}
}

// TestNoRoom: where all have two flows and there is no room, a new one costs
// each of them one and is not kept.
func TestNoRoom(t *testing.T) {
	e := endpoints{mask: mask, counts: map[endpoint]tally{}}
	add := func(port int) {
		e.add(&ct.Flow{Status: ct.SourceNAT, Reply: ct.Tuple{Protocol: ct.TCP, SourcePort: uint16(port)}})
	}
	for i := range 2 * maxEndpoints {
		add(i % maxEndpoints)
	}
	add(maxEndpoints)
	if got := e.busiest(); len(e.counts) != maxEndpoints || got[0].Used != 1 {
		t.Errorf("%d kept, %v", len(e.counts), got)
	}
	add(maxEndpoints) // and now there is
	add(maxEndpoints)
	if got := e.busiest(); len(e.counts) != 1 || got[0].Destination.Port() != maxEndpoints {
		t.Errorf("%d kept, %v", len(e.counts), got)
	}
}

func BenchmarkEndpoints(b *testing.B) {
	var f ct.Flow
	f.Reply = ct.Tuple{Protocol: ct.TCP, Destination: netip.MustParseAddr("203.0.113.10"), SourcePort: 443}
	f.Status = ct.SourceNAT
	e := endpoints{mask: mask, counts: map[endpoint]tally{}}
	for i := range uint32(b.N) {
		f.Reply.Source = netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})
		e.add(&f)
	}
}
