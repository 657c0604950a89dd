package netlab

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestCaptureOfForgeries(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	h1, r1 := s.Host("h1"), s.Router("r1")
	capture := ok(r1.Port("lan0").Capture(nil))(t)
	peer, group := netip.MustParseAddr("192.168.77.3"), netip.MustParseAddr("224.0.0.18")
	// Version 3, VRID 51, priority 254, one address, 0.1 s, a wrong checksum.
	advert := append([]byte{0x31, 51, 254, 1, 0, 10, 0xde, 0xad}, gateway.AsSlice()...)
	before := Now()
	must(t, h1.SendIP(Forgery{Device: "eth0", Src: peer, Dst: group, TTL: 255, Protocol: 112, Payload: advert}))
	after := Now()
	must(t, h1.SendIP(Forgery{Device: "eth0", Src: peer, Dst: group, TTL: 1, Protocol: 112, Payload: []byte("garbage")}))
	must(t, h1.SendUDP("eth0", netip.MustParseAddrPort("192.168.77.3:7946"), netip.MustParseAddrPort("192.168.77.2:7946"), 1, []byte("x")))
	var adverts []Advert
	seen := func(n int) { // two frames that are sent on two CPUs may overtake each other
		t.Helper()
		must(t, WaitFor("the adverts", time.Second, func() bool { adverts = capture.Adverts(); return len(adverts) == n }))
	}
	seen(2)
	must(t, r1.SendIP(Forgery{Device: "lan0", Src: netip.MustParseAddr("192.168.77.2"), Dst: group, TTL: 255, Protocol: 112, Payload: advert}))
	seen(3)
	want := []Advert{
		{MAC: s.Port("h1", "eth0").MAC, Src: peer, Dst: group, TTL: 255, Version: 3, Type: 1, VRID: 51, Priority: 254,
			Interval: 100 * time.Millisecond, Checksum: 0xdead, Addresses: []netip.Addr{gateway}, Payload: advert},
		{MAC: s.Port("h1", "eth0").MAC, Src: peer, Dst: group, TTL: 1, Payload: []byte("garbage")},
		{Out: true, MAC: r1.Port("lan0").MAC, Src: netip.MustParseAddr("192.168.77.2"), Dst: group, TTL: 255, Version: 3, Type: 1,
			VRID: 51, Priority: 254, Interval: 100 * time.Millisecond, Checksum: 0xdead, Addresses: []netip.Addr{gateway}, Payload: advert},
	}
	if diff := cmp.Diff(want, adverts, cmpopts.IgnoreFields(Advert{}, "At"), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("adverts (-want +got):\n%s", diff)
	}
	if at := adverts[0].At; at < before-Instant(time.Millisecond) || at > after+Instant(5*time.Millisecond) {
		t.Errorf("stamped %s after it was sent, which took %s", at.Sub(before), after.Sub(before))
	}
	if n := len(capture.Packets()); n != 3+len(capture.ARPs()) {
		t.Errorf("%d packets: the usual capture is of ARP and VRRP alone", n)
	}
}

func TestCaptureOfAnnouncements(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{}))
	capture := ok(s.Port("r1", "lan0").Capture(nil))(t)
	mac := s.Port("r1", "lan0").MAC
	broadcast := bytes.Repeat([]byte{0xff}, 6)
	send := func(op byte, target netip.Addr, targetMAC []byte) {
		frame := append(append([]byte{}, broadcast...), mac...)
		frame = append(frame, 8, 6, 0, 1, 8, 0, 6, 4, 0, op)
		frame = append(append(frame, mac...), gateway.AsSlice()...)
		must(t, s.Router("r1").SendFrame("lan0", append(append(frame, targetMAC...), target.AsSlice()...)))
	}
	seen := func(n int) { // two frames that are sent on two CPUs may overtake each other
		must(t, WaitFor("the frame", time.Second, func() bool { return len(capture.ARPs()) >= n }))
	}
	send(1, gateway, make([]byte, 6))
	seen(1)
	send(2, gateway, broadcast)
	seen(2)
	send(1, netip.MustParseAddr("192.168.77.100"), make([]byte, 6)) // a question, no announcement
	seen(3)
	got := capture.GratuitousARPs()
	if len(got) != 2 || got[0].Op != 1 || got[1].Op != 2 || !got[0].Out || got[0].Sender != gateway ||
		got[1].SenderMAC.String() != mac.String() || got[1].TargetMAC.String() != "ff:ff:ff:ff:ff:ff" {
		t.Errorf("announcements %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	ethernet := func(kind uint16, rest ...byte) []byte {
		return append(append(make([]byte, 12), byte(kind>>8), byte(kind)), rest...)
	}
	f.Add(ethernet(0x0806, append([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 20)...)...))
	f.Add(ethernet(0x0800, append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 255, 112, 0, 0, 1, 2, 3, 4, 224, 0, 0, 18}, 0x31, 1, 2, 255, 0, 1, 2, 3)...))
	f.Add(ethernet(0x0800, append([]byte{0x4f, 0, 0, 28, 0, 0, 0, 0, 255, 112, 0, 0, 1, 2, 3, 4, 224, 0, 0, 18}, 0x21, 1, 2, 255, 0, 1, 2, 3)...))
	f.Add(ethernet(0x86dd, append(append([]byte{0x60, 0, 0, 0, 0, 8, 112, 255}, make([]byte, 32)...), 0x31, 1, 2, 1, 0, 1, 2, 3)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := Packet{Frame: b}
		if a, ok := parseAdvert(p); ok && len(a.Payload) > len(b) {
			t.Errorf("payload of %d bytes in a frame of %d", len(a.Payload), len(b))
		}
		parseARP(p)
		addressNotices(b)
		if d, ok := parseDatagram(b); ok {
			again := make([]byte, datagramSize)
			d.put(again)
			if e, _ := parseDatagram(again); e != d {
				t.Errorf("%+v came back as %+v", d, e)
			}
		}
	})
}
