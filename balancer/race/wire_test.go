package race

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"harouter/balancer"
)

var sameAddr = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

// syn is the beginning of a packet as the queue copies it.
func syn(from, to netip.AddrPort, options int) []byte {
	b := make([]byte, 20+options+20)
	b[0], b[9] = 0x40|byte((20+options)/4), unix.IPPROTO_TCP
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20+options:], from.Port())
	binary.BigEndian.PutUint16(b[20+options+2:], to.Port())
	return b
}

// told is a packet as the kernel tells of it.
func told(p balancer.Held, packet []byte) []byte {
	b := request(msgPacket, 0, p.Queue)
	b = attribute(b, attrPacket, append(number(p.ID), 0x08, 0x00, 0)...)
	if p.Mark != 0 {
		b = attribute(b, attrMark, number(p.Mark)...)
	}
	b = attribute(b, 5, number(7)...) // the device
	b = attribute(b, attrPayload, packet...)
	return finish(b)
}

func refusal(code int32) []byte {
	b := request(unix.NLMSG_ERROR, 0, 0)[:16]
	b = native.AppendUint32(b, uint32(code))
	return finish(append(b, make([]byte, 16)...))
}

func TestParse(t *testing.T) {
	from, to := netip.MustParseAddrPort("192.168.77.10:40000"), netip.MustParseAddrPort("198.51.100.1:443")
	p := balancer.Held{Queue: 7001, ID: 9, Mark: 0x155, From: from, To: to}
	plain := balancer.Held{Queue: 7000, ID: 1 << 31, From: from, To: to}
	stranger := balancer.Held{Queue: 7001, ID: 9, Mark: 0x155}
	udp, fragment, six := syn(from, to, 0), syn(from, to, 0), syn(from, to, 0)
	udp[9], fragment[7], six[0] = unix.IPPROTO_UDP, 2, 0x65
	for _, c := range []struct {
		name string
		b    []byte
		want heard
		err  string
	}{
		{"nothing", nil, heard{}, ""},
		{"a packet", told(p, syn(from, to, 0)), heard{packets: []balancer.Held{p}}, ""},
		{"without a mark", told(plain, syn(from, to, 0)), heard{packets: []balancer.Held{plain}}, ""},
		{"with IP options", told(p, syn(from, to, 40)), heard{packets: []balancer.Held{p}}, ""},
		{"two", slices.Concat(told(p, syn(from, to, 0)), told(plain, syn(from, to, 4))), heard{packets: []balancer.Held{p, plain}}, ""},
		{"UDP", told(p, udp), heard{strange: []balancer.Held{stranger}}, ""},
		{"a later fragment", told(p, fragment), heard{strange: []balancer.Held{stranger}}, ""},
		{"IPv6", told(p, six), heard{strange: []balancer.Held{stranger}}, ""},
		{"cut within TCP", told(p, syn(from, to, 0)[:22]), heard{strange: []balancer.Held{stranger}}, ""},
		{"an answer", refusal(0), heard{acked: true}, ""},
		{"a refusal", refusal(-int32(unix.EBUSY)), heard{acked: true, refused: unix.EBUSY}, ""},
		{"something else", finish(request(unix.NLMSG_DONE, 0, 0)), heard{}, ""},
		{"a packet without a number", finish(attribute(request(msgPacket, 0, 1), attrMark, number(1)...)), heard{}, "no number"},
		{"a short number", finish(attribute(request(msgPacket, 0, 1), attrPacket, 1)), heard{}, "truncated"},
		{"a short mark", finish(attribute(request(msgPacket, 0, 1), attrMark, 1)), heard{}, "truncated"},
		{"cut", told(p, syn(from, to, 0))[:40], heard{}, "truncated"},
		{"cut within the header", told(p, syn(from, to, 0))[:10], heard{}, "truncated"},
		{"a refusal without a code", finish(request(unix.NLMSG_ERROR, 0, 0)[:16]), heard{}, "truncated"},
		{"an attribute that is longer than all", finish(append(request(msgPacket, 0, 1), 0xff, 0, 1, 0)), heard{}, "truncated"},
	} {
		got, err := parse(c.b)
		if text := ""; err != nil || c.err != "" {
			if err != nil {
				text = err.Error()
			}
			if c.err == "" || !strings.Contains(text, c.err) {
				t.Errorf("%s: error %q, want %q", c.name, text, c.err)
			}
			continue
		}
		if d := cmp.Diff(c.want, got, sameAddr, cmp.AllowUnexported(heard{}), cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// TestRequests: what is sent, byte by byte, on a little-endian machine.
func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"bind": {bindRequest(7000, 1024), "40000000" + "0203" + "0500" + "00000000" + "00000000" + "00001b58" +
			"08000100" + "01000000" + "09000200" + "0000005002000000" + "08000300" + "00000400" + "08000400" + "00000001" + "08000500" + "00000001"},
		"verdict": {verdictRequest(balancer.Held{Queue: 7001, ID: 5, Mark: 0x200}, verdictAccept),
			"28000000" + "0103" + "0100" + "00000000" + "00000000" + "00001b59" + "0c000200" + "0000000100000005" + "08000300" + "00000200"},
	} {
		if d := cmp.Diff(c.want, hex.EncodeToString(c.b)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// FuzzParse: no datagram makes it crash, and what it read it reads again.
func FuzzParse(f *testing.F) {
	from, to := netip.MustParseAddrPort("192.168.77.10:40000"), netip.MustParseAddrPort("198.51.100.1:443")
	f.Add(told(balancer.Held{Queue: 7001, ID: 9, Mark: 0x155}, syn(from, to, 4)))
	f.Add(refusal(-16))
	f.Add(bindRequest(7000, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse(b)
		if err != nil {
			return
		}
		for _, p := range got.packets {
			if !p.From.Addr().Is4() || !p.To.Addr().Is4() {
				t.Fatalf("%+v", p)
			}
			again, err := parse(told(p, syn(p.From, p.To, 0)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]balancer.Held{p}, again.packets, sameAddr); d != "" {
				t.Fatal(d)
			}
		}
	})
}
