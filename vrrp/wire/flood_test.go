package wire

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/vrrp"
)

func TestGate(t *testing.T) {
	begin := time.Unix(1000, 0)
	type packet struct {
		link, src string
		drop      vrrp.DropReason
	}
	peer, rogue := packet{src: "192.168.77.3"}, packet{src: "192.168.77.66"}
	for _, c := range []struct {
		name   string
		before func(*gate)
		n      int // packets within a second, of each in turn
		of     []packet
		over   time.Duration
		passed []int // of each
		floods []int
	}{
		{"the quickest peer", nil, 100, []packet{peer}, time.Second, []int{100}, []int{0}},
		{"one source floods", nil, 1000, []packet{rogue}, time.Second, []int{250}, []int{800}}, // 50 of the 800 are told
		{"a flood does not hold others back", func(g *gate) {
			for range 1000 {
				g.pass(&Received{Src: ip(rogue.src), At: begin})
			}
		}, 100, []packet{peer}, time.Second, []int{100}, []int{0}},
		{"a source counts on each lan by itself", nil, 200, []packet{{link: "a", src: peer.src}, {link: "b", src: peer.src}}, time.Second, []int{200, 200}, []int{0, 0}},
		{"garbage", nil, 1000, []packet{{src: rogue.src, drop: vrrp.DropChecksum}}, time.Second, []int{50}, []int{0}},
		{"each reason by itself", nil, 1000, []packet{{src: rogue.src, drop: vrrp.DropChecksum}, {src: rogue.src, drop: vrrp.DropTTL}, peer}, 10 * time.Second, []int{500, 500, 1000}, []int{0, 0, 0}},
		{"who was there before a flood of sources", func(g *gate) {
			g.pass(&Received{Src: ip(peer.src), At: begin})
			flood(g, begin, 10000)
		}, 100, []packet{peer}, time.Second, []int{100}, []int{0}},
		{"who comes after a flood of sources", func(g *gate) { flood(g, begin.Add(-idleSource-time.Second), 10000) }, 100, []packet{peer}, time.Second, []int{100}, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g gate
			if c.before != nil {
				c.before(&g)
			}
			passed, floods := make([]int, len(c.of)), make([]int, len(c.of))
			for i := range c.n {
				for j, p := range c.of {
					r := Received{Link: p.link, Src: ip(p.src), Drop: p.drop, At: begin.Add(c.over * time.Duration(i) / time.Duration(c.n))}
					if g.pass(&r) {
						passed[j]++
					}
					if r.Drop == vrrp.DropFlood {
						floods[j]++
					}
				}
			}
			for j := range c.of {
				if passed[j] != c.passed[j] || floods[j] != c.floods[j] {
					t.Errorf("%+v: %d passed, %d floods, want %d and %d", c.of[j], passed[j], floods[j], c.passed[j], c.floods[j])
				}
			}
		})
	}
}

// flood sends one good advert from each of n sources.
func flood(g *gate, at time.Time, n int) (passed int) {
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 0x0a000000+uint32(i))
		if r := (Received{Src: netip.AddrFrom4(b), At: at}); g.pass(&r) && r.Drop == "" {
			passed++
		}
	}
	return passed
}

// TestGateOfManySources: they fill neither memory nor the receiver.
func TestGateOfManySources(t *testing.T) {
	var g gate
	if n := flood(&g, time.Unix(1000, 0), 100000); n != maxSources+perSource || len(g.sources) != maxSources {
		t.Errorf("%d taken, %d remembered; want %d and %d", n, len(g.sources), maxSources+perSource, maxSources)
	}
}

// TestFlood: a storm of garbage and of good adverts, and a peer beside it.
func TestFlood(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	ns.sh("ip addr add 192.168.77.66/24 dev lan0")
	a := start(t, nil, one)
	a.ready(t, 1)
	frame := func(src netip.Addr, spoil byte) Frame {
		b, err := vrrp.Advert{Version: 3, VRID: 51, Priority: 9, Interval: time.Second, Addresses: office.Addresses}.Append(nil, src, vrrp.Group4, vrrp.ChecksumPseudo)
		if err != nil {
			t.Fatal(err)
		}
		b[7] += spoil
		return Frame{Device: "lan0", Src: src, Dst: vrrp.Group4, TTL: 255, Payload: b}
	}
	rogue, peer := ip("192.168.77.66"), ip("192.168.77.3")
	var storm []Frame
	for range 50 {
		storm = append(storm, frame(rogue, 0), frame(rogue, 1))
	}
	storm = append(storm, frame(peer, 0))
	const rounds = 20
	begin := time.Now()
	for round := range rounds { // one after the other: the socket's buffer is short
		ns.do(func() {
			if err := SendFrames(storm); err != nil {
				t.Error(err)
			}
		})
		eventually(t, "garbage is counted", func() bool { return a.Counters()["checksum"] == uint64(50*(round+1)) })
	}
	eventually(t, "the last is heard", func() bool {
		all := a.heard.all()
		return all[len(all)-1].Src == peer
	})
	seconds := 1 + int(time.Since(begin)/time.Second)
	got := map[string]int{}
	for _, r := range a.heard.all() {
		got[r.Src.String()+" "+string(r.Drop)]++
	}
	if got["192.168.77.3 "] != rounds {
		t.Errorf("%d adverts of the peer, want %d", got["192.168.77.3 "], rounds)
	}
	if n := got["192.168.77.66 "]; n < perSource || n > perSource*seconds {
		t.Errorf("%d adverts of the rogue", n)
	}
	for _, reason := range []string{"checksum", "flood"} {
		if n := got["192.168.77.66 "+reason]; n < perReason || n > perReason*seconds {
			t.Errorf("%d handed over for %s", n, reason)
		}
	}
}
