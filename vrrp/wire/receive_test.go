package wire

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// whole is an IP packet as a raw socket gives it.
func whole(ttl int, version byte, options int, payload []byte) []byte {
	h := make([]byte, 20+options)
	h[0] = version<<4 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	h[8], h[9] = byte(ttl), vrrp.Protocol
	copy(h[12:], []byte{192, 168, 77, 2})
	copy(h[16:], []byte{224, 0, 0, 18})
	return append(h, payload...)
}

func message(t testing.TB, version vrrp.Version, form vrrp.Checksum) (vrrp.Advert, []byte) {
	t.Helper()
	a := vrrp.Advert{Version: version, VRID: 51, Priority: 200, Interval: time.Second, Addresses: []netip.Addr{ip("192.168.77.1")}}
	b, err := a.Append(nil, ip("192.168.77.2"), vrrp.Group4, form)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// judged is what becomes of an IPv4 packet for router 51.
func judged(packet []byte, terms vrrp.Terms) (Received, bool) {
	d, ok := read4(packet)
	if !ok {
		return Received{}, false
	}
	return judge(d, 51, terms)
}

func TestJudge(t *testing.T) {
	src := ip("192.168.77.2")
	a3, b3 := message(t, 3, vrrp.ChecksumPseudo)
	_, plain := message(t, 3, vrrp.ChecksumPlain)
	a2, b2 := message(t, 2, vrrp.ChecksumPlain)
	v3 := vrrp.Terms{Version: 3}
	v2 := vrrp.Terms{Version: 2, Interval: time.Second}
	foreign := func(b []byte) []byte { // its checksum does not fit then, and nobody cares
		b = slices.Clone(b)
		b[1] = 52
		return b
	}
	long := append(whole(255, 4, 0, b3), 0, 0, 0)
	short := whole(255, 4, 0, b3)
	binary.BigEndian.PutUint16(short[2:], 27) // the message ends before it is whole
	for _, c := range []struct {
		name   string
		packet []byte
		terms  vrrp.Terms
		want   *Received // nil: not reported
	}{
		{"good", whole(255, 4, 0, b3), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a3}},
		{"plain checksum", whole(255, 4, 0, plain), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a3, Checksum: vrrp.ChecksumPlain}},
		{"IP options", whole(255, 4, 8, b3), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a3}},
		{"bytes behind the packet", long, v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a3}},
		{"any version", whole(255, 4, 0, b2), vrrp.Terms{}, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a2, Checksum: vrrp.ChecksumPlain}},
		{"other version", whole(255, 4, 0, b2), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a2, Checksum: vrrp.ChecksumPlain, Drop: vrrp.DropVersion}},
		{"version 2", whole(255, 4, 0, b2), v2, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a2, Checksum: vrrp.ChecksumPlain}},
		{"version 2 wants another interval", whole(255, 4, 0, b2), vrrp.Terms{Version: 2, Interval: 2 * time.Second}, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a2, Checksum: vrrp.ChecksumPlain, Drop: vrrp.DropInterval}},
		{"version 2 wants a password", whole(255, 4, 0, b2), vrrp.Terms{Version: 2, Interval: time.Second, Password: "apple"}, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Advert: a2, Checksum: vrrp.ChecksumPlain, Drop: vrrp.DropAuthentication}},
		{"TTL 254", whole(254, 4, 0, b3), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 254, Drop: vrrp.DropTTL}},
		{"TTL 0", whole(0, 4, 0, b3), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 0, Drop: vrrp.DropTTL}},
		{"nothing in it", whole(255, 4, 0, nil), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Drop: vrrp.DropLength}},
		{"the IP length cuts it", short, v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Drop: vrrp.DropLength}},
		{"garbage", whole(255, 4, 0, []byte("g3rbage that is long enough")), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Drop: vrrp.DropVersion}},
		{"one byte", whole(255, 4, 0, b3[:1]), v3, &Received{Src: src, Dst: vrrp.Group4, TTL: 255, Drop: vrrp.DropLength}},
		{"another router", whole(255, 4, 0, foreign(b3)), v3, nil},
		{"another router in the other version", whole(255, 4, 0, foreign(b2)), v3, nil},
		{"another router, TTL 254", whole(254, 4, 0, foreign(b3)), v3, nil},
		{"two bytes of another router", whole(255, 4, 0, foreign(b3)[:2]), v3, nil},
		{"empty", nil, v3, nil},
		{"half a header", whole(255, 4, 0, nil)[:19], v3, nil},
		{"IPv6", whole(255, 6, 0, b3), v3, nil},
		{"header longer than the packet", whole(255, 4, 8, nil)[:20], v3, nil},
		{"header too short", append([]byte{0x44}, whole(255, 4, 0, b3)[1:]...), v3, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := judged(c.packet, c.terms)
			if ok != (c.want != nil) {
				t.Fatalf("ok = %v", ok)
			}
			if !ok {
				return
			}
			if diff := cmp.Diff(*c.want, got, cmpAddr); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzJudge(f *testing.F) {
	_, b := message(f, 3, vrrp.ChecksumPseudo)
	f.Add(whole(255, 4, 0, b))
	f.Add(whole(255, 4, 40, b))
	f.Add(whole(64, 4, 0, b))
	f.Add(whole(255, 4, 8, nil)[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := judged(b, vrrp.Terms{Version: 3})
		if !ok {
			return
		}
		if r.Drop == "" && (r.TTL != 255 || r.Advert.Version != 3 || len(r.Advert.Addresses) == 0) {
			t.Fatalf("taken: %+v", r)
		}
	})
}

// FuzzJudge6: what a peer can put into a message over IPv6, and the kernel
// beside it.
func FuzzJudge6(f *testing.F) {
	a := vrrp.Advert{Version: 3, VRID: 51, Priority: 200, Interval: time.Second, Addresses: []netip.Addr{ip("fe80::1"), ip("2001:db8::1")}}
	b, err := a.Append(nil, ip("fe80::2"), vrrp.Group6, vrrp.ChecksumPseudo)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, hopLimit(255))
	f.Add(b, hopLimit(64))
	f.Add(b, []byte{})
	f.Add(b[:9], cutHopLimit())
	f.Fuzz(func(t *testing.T, b, control []byte) {
		r, ok := judge(datagram{src: ip("fe80::2"), dst: vrrp.Group6, ttl: readHopLimit(control), payload: b}, 51, vrrp.Terms{Version: 3})
		if ok && r.Drop == "" && (r.TTL != 255 || !r.Advert.Addresses[0].IsLinkLocalUnicast()) {
			t.Fatalf("taken: %+v", r)
		}
	})
}

// cutHopLimit ends in the middle of the number.
func cutHopLimit() []byte { return hopLimit(255)[:unix.CmsgLen(0)+2] }

func TestHopLimit(t *testing.T) {
	for _, c := range []struct {
		name    string
		control []byte
		want    int
	}{
		{"there", hopLimit(255), 255},
		{"behind something else", append(unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: 7}), hopLimit(64)...), 64},
		{"not there", unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: 7}), -1},
		{"nothing", nil, -1},
		{"cut", cutHopLimit(), -1},
	} {
		if got := readHopLimit(c.control); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSource(t *testing.T) {
	addr := func(index int, s string, flags int) netlink.Addr {
		ip, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		n.IP = ip
		return netlink.Addr{IPNet: n, LinkIndex: index, Flags: flags}
	}
	const permanent, leased = unix.IFA_F_PERMANENT, 0
	virtual := []netip.Addr{ip("192.168.77.1"), ip("192.168.77.9"), ip("fe80::1")}
	for _, c := range []struct {
		name  string
		addrs []netlink.Addr
		six   bool
		want  string // "" none
	}{
		{"none", nil, false, ""},
		{"on another device", []netlink.Addr{addr(8, "192.168.77.2/24", permanent)}, false, ""},
		{"only virtual ones", []netlink.Addr{addr(7, "192.168.77.1/24", permanent), addr(7, "192.168.77.9/24", permanent)}, false, ""},
		{"behind a virtual one", []netlink.Addr{addr(7, "192.168.77.1/24", permanent), addr(7, "192.168.77.2/24", permanent|unix.IFA_F_SECONDARY)}, false, "192.168.77.2"},
		{"the first of two", []netlink.Addr{addr(7, "192.168.77.2/24", permanent), addr(7, "10.0.0.1/8", permanent)}, false, "192.168.77.2"},
		{"link-local, if there is no other", []netlink.Addr{addr(7, "169.254.51.1/32", permanent), addr(7, "192.168.77.1/24", permanent)}, false, "169.254.51.1"},
		{"not link-local, if there is another", []netlink.Addr{addr(7, "169.254.51.1/32", permanent), addr(7, "192.168.77.2/24", permanent)}, false, "192.168.77.2"},
		{"not leased, if there is a permanent one", []netlink.Addr{addr(7, "192.168.77.5/24", leased), addr(7, "169.254.51.1/32", permanent)}, false, "169.254.51.1"},
		{"leased, if there is no other", []netlink.Addr{addr(7, "192.168.77.5/24", leased)}, false, "192.168.77.5"},
		{"IPv6 wants a link-local one", []netlink.Addr{addr(7, "2001:db8::2/64", permanent), addr(7, "192.168.77.2/24", permanent), addr(7, "fe80::2/64", permanent)}, true, "fe80::2"},
		{"IPv6, none that is link-local", []netlink.Addr{addr(7, "2001:db8::2/64", permanent), addr(7, "192.168.77.2/24", permanent)}, true, ""},
		{"IPv6, behind a virtual one", []netlink.Addr{addr(7, "fe80::1/64", permanent), addr(7, "fe80::2/64", permanent)}, true, "fe80::2"},
		{"IPv6, not yet to be used", []netlink.Addr{addr(7, "fe80::2/64", permanent|unix.IFA_F_TENTATIVE)}, true, ""},
		{"IPv6, somebody else has it", []netlink.Addr{addr(7, "fe80::2/64", permanent|unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED)}, true, ""},
		{"not IPv6", []netlink.Addr{addr(7, "fe80::2/64", permanent), addr(7, "192.168.77.2/24", permanent)}, false, "192.168.77.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := netip.Addr{}
			if c.want != "" {
				want = ip(c.want)
			}
			if got := source(c.addrs, 7, virtual, c.six); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
