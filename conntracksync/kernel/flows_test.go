package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	ct "harouter/conntracksync"
	"harouter/test/netlab"
)

const mask = 0x3f00

// marks are the marks of the test's flows, by the first of their 250 ports.
// Those of uplink 1 are 0x100 in the mask; foreign bits around it are another
// program's.
var marks = map[uint16]uint32{
	10000: 0x100, 11000: 0x200, 12000: 0xa50100, 13000: 0xa50200, 14000: 0x1100, 15000: 0x3f00, 16000: 0xa50000, 17000: 0,
}

const perMark = 250

// fill makes perMark real flows per mark and family, over the loopback, and
// returns the socket for more.
func fill(t *testing.T) *net.UDPConn {
	t.Helper()
	rules := ""
	for port, mark := range marks {
		rules += fmt.Sprintf("udp dport %d-%d ct mark set %#x\n", port, port+perMark-1, mark)
	}
	netlab.Sh(t, `ip link set lo up
		nft -f - <<-E
		table inet t {
			chain out { type filter hook output priority -150
				`+rules+`
			}
		}
		E`)
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: 9000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for port := range marks {
		for n := range uint16(perMark) {
			for _, to := range []string{"127.0.0.1", "::1"} {
				if _, err := conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr(to), port+n)); err != nil {
					// The answer "port unreachable" to an earlier one.
					if !errors.Is(err, unix.ECONNREFUSED) {
						t.Fatal(err)
					}
				}
			}
		}
	}
	return conn
}

// echo pings a host and waits for its answer.
func echo(t *testing.T, network, to string) {
	t.Helper()
	conn, err := net.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request, answer := []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}, byte(0) // with the checksum
	if network != "ip4:icmp" {
		request, answer = []byte{128, 0, 0, 0, 0, 1, 0, 1}, 129 // the kernel adds it
	}
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for { // over the loopback the request is heard too
		if _, err := conn.Read(buf); err != nil {
			t.Fatalf("ping %s: %v", to, err)
		}
		b := buf
		if network == "ip4:icmp" && b[0]>>4 == 4 { // Read, unlike ReadFrom, leaves the IPv4 header
			b = b[4*(b[0]&15):]
		}
		if b[0] == answer {
			return
		}
	}
}

// count returns the number of flows per mark and family to the ports of marks.
func count(t *testing.T) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	err := dump(context.Background(), func() { clear(counts) }, func(f *ct.Flow) {
		if f.Original.Protocol != ct.UDP || f.Original.SourcePort != 9000 {
			return
		}
		family := "v4"
		if f.Original.Source.Is6() {
			family = "v6"
		}
		counts[fmt.Sprintf("%s %#x", family, f.Mark)]++
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestDeleteByMark(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	fill(t)
	want := make(map[string]int)
	for _, mark := range marks {
		for _, family := range []string{"v4", "v6"} {
			want[fmt.Sprintf("%s %#x", family, mark)] = perMark
		}
	}
	check := func(what string) {
		t.Helper()
		if diff := cmp.Diff(want, count(t)); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("at first")

	for _, c := range []struct {
		mark uint32
		gone []uint32
	}{
		{0x300, nil}, // no flow has it
		{0x100, []uint32{0x100, 0xa50100}},
		{0x100, nil},
		{0x3f00, []uint32{0x3f00}},
		{0x1100, []uint32{0x1100}},
		{0x200, []uint32{0x200, 0xa50200}},
	} {
		if err := DeleteByMark(context.Background(), c.mark, mask); err != nil {
			t.Fatal(err)
		}
		for _, mark := range c.gone {
			delete(want, fmt.Sprintf("v4 %#x", mark))
			delete(want, fmt.Sprintf("v6 %#x", mark))
		}
		check(fmt.Sprintf("after %#x", c.mark))
	}
	for _, c := range []struct{ mark, mask uint32 }{{0, mask}, {0, 0}, {0x100, 0}, {0x40100, mask}} {
		if err := DeleteByMark(context.Background(), c.mark, c.mask); err == nil {
			t.Errorf("mark %#x/%#x was taken", c.mark, c.mask)
		}
	}
	check("after wrong marks")
}

func TestCountByMark(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	if counts, err := CountByMark(context.Background(), mask); err != nil || len(counts) != 0 {
		t.Fatalf("empty table: %v, %v", counts, err)
	}
	fill(t)
	echo(t, "ip4:icmp", "127.0.0.1")
	echo(t, "ip6:ipv6-icmp", "::1")
	got, err := CountByMark(context.Background(), mask)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint32]int{0x100: 4 * perMark, 0x200: 4 * perMark, 0x1100: 2 * perMark, 0x3f00: 2 * perMark,
		0: 4*perMark + 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	used, limit, err := TableUse()
	if err != nil || used != 16*perMark+2 || limit < used {
		t.Errorf("table: %d of %d, %v; want %d", used, limit, err, 16*perMark+2)
	}
	n := testing.AllocsPerRun(5, func() {
		if _, err := CountByMark(context.Background(), mask); err != nil {
			t.Fatal(err)
		}
	})
	if n > 300 { // of 4,002 flows in some 40 datagrams
		t.Errorf("%v allocations", n)
	}

	var kinds []string
	err = dump(context.Background(), func() { kinds = nil }, func(f *ct.Flow) {
		if f.Original.Protocol != ct.UDP {
			kinds = append(kinds, fmt.Sprintf("%v type %d", f.Original.Protocol, f.Original.Type))
			if f.Reply.ID != f.Original.ID || f.Status&ct.SeenReply == 0 || f.Reply.Source != f.Original.Destination {
				t.Errorf("%+v", *f)
			}
		}
	})
	if err != nil || len(kinds) != 2 || kinds[0] == kinds[1] {
		t.Errorf("pings: %v, %v", kinds, err)
	}
}

// Deletions, dumps and new flows at the same time: the flows of the other
// marks all stay.
func TestDeleteWhileTheTableChanges(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	conn := fill(t)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() {
		for n := uint16(0); ctx.Err() == nil; n++ {
			// An error is a "port unreachable".
			_, _ = conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 10000+n%perMark))
		}
	})
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				if err := DeleteByMark(ctx, 0x100, mask); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				if counts, err := CountByMark(ctx, mask); err != nil && ctx.Err() == nil {
					t.Error(err)
				} else if err == nil && (counts[0x200] < 4*perMark-20 || counts[0x200] > 4*perMark+20) {
					t.Errorf("%d flows of mark 0x200", counts[0x200])
				}
			}
		})
	}
	all.Wait()
	if err := DeleteByMark(context.Background(), 0x100, mask); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]int)
	for _, mark := range []uint32{0x200, 0xa50200, 0x1100, 0x3f00, 0xa50000, 0} {
		want[fmt.Sprintf("v4 %#x", mark)], want[fmt.Sprintf("v6 %#x", mark)] = perMark, perMark
	}
	if diff := cmp.Diff(want, count(t)); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestContextEnds(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if err := DeleteByMark(over, 0x100, mask); !errors.Is(err, context.Canceled) {
		t.Errorf("delete: %v", err)
	}
	if counts, err := CountByMark(over, mask); !errors.Is(err, context.Canceled) {
		t.Errorf("count: %v, %v", counts, err)
	}
	// A request that the kernel does not answer.
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := exchange(short, ofFlow|msgDelete, 0, appendUint32(nil, ctaMark, 0x100), func() {}, func([]byte) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	// One that it refuses: to get one connection, without saying which.
	err = exchange(context.Background(), ofFlow|msgGet, unix.NLM_F_ACK, nil, func() {}, func([]byte) error { return nil })
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("refused: %v", err)
	}
}
