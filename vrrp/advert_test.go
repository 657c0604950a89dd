package vrrp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func ips(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, ip(a))
	}
	return out
}

func said(v Version, vrid, priority uint8, every time.Duration, list []netip.Addr) Advert {
	return Advert{Version: v, VRID: vrid, Priority: priority, Interval: every, Addresses: list}
}

func withPassword(a Advert, password string) Advert {
	a.Password = password
	return a
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// golden bytes were computed by another program; the version 2 one is from a
// capture of a Cisco router.
var golden = []struct {
	name     string
	src, dst string
	form     Checksum
	advert   Advert
	bytes    string
}{
	{"v3 pseudo", "192.168.77.2", "224.0.0.18", ChecksumPseudo,
		said(3, 51, 200, 100*time.Millisecond, ips("192.168.77.1")), "3133c801 000a 0add c0a84d01"},
	{"v3 plain", "192.168.77.2", "224.0.0.18", ChecksumPlain,
		said(3, 51, 200, 100*time.Millisecond, ips("192.168.77.1")), "3133c801 000a f916 c0a84d01"},
	{"v3 farewell, unicast, longest interval", "192.0.2.1", "192.0.2.2", ChecksumPseudo,
		said(3, 51, 0, MaxInterval, ips("192.168.77.1", "203.0.113.10")), "31330002 0fff f091 c0a84d01 cb00710a"},
	{"v3 over IPv6", "fe80::2", "ff02::12", ChecksumPseudo,
		said(3, 10, 254, time.Second, ips("fe80::1", "2001:db8::1")),
		"310afe02 0064 a622 fe800000000000000000000000000001 20010db8000000000000000000000001"},
	{"v2", "192.168.0.30", "224.0.0.18", ChecksumPlain,
		said(2, 1, 100, time.Second, ips("192.168.0.1")), "21016401 0001 ba52 c0a80001 0000000000000000"},
	{"v2 with a password", "192.168.0.30", "224.0.0.18", ChecksumPlain,
		withPassword(said(2, 1, 100, time.Second, ips("192.168.0.1")), "apple"), "21016401 0101 8275 c0a80001 6170706c65000000"},
	{"v2 with the longest password", "192.168.0.30", "224.0.0.18", ChecksumPlain,
		withPassword(said(2, 1, 100, 255*time.Second, ips("192.168.0.1")), "8 bytes!"), "21016401 01ff 3634 c0a80001 3820627974657321"},
}

func TestGolden(t *testing.T) {
	for _, c := range golden {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.advert.Append([]byte("before"), ip(c.src), ip(c.dst), c.form)
			if err != nil {
				t.Fatal(err)
			}
			want := append([]byte("before"), unhex(t, c.bytes)...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			for _, padding := range []int{0, 1, 18} { // Ethernet fills up to 60 bytes
				a, form, err := Parse(append(got[len("before"):], make([]byte, padding)...), ip(c.src), ip(c.dst))
				if err != nil {
					t.Fatalf("with %d bytes of padding: %v", padding, err)
				}
				if diff := cmp.Diff(c.advert, a, cmpAddr); diff != "" || form != c.form {
					t.Errorf("with %d bytes of padding: form %v, %s", padding, form, diff)
				}
			}
		})
	}
}

// TestOtherForm: version 2 never has the pseudo-header, IPv6 always.
func TestOtherForm(t *testing.T) {
	for _, c := range golden {
		if c.advert.Version == 3 && ip(c.src).Is4() {
			continue
		}
		a, err := c.advert.Append(nil, ip(c.src), ip(c.dst), ChecksumPseudo)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.advert.Append(nil, ip(c.src), ip(c.dst), ChecksumPlain)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// fix sets a valid checksum on what a test has spoiled.
func fix(b []byte, src, dst netip.Addr, form Checksum) []byte {
	b[6], b[7] = 0, 0
	sum := checksum(b, src, dst, form)
	b[6], b[7] = byte(sum>>8), byte(sum)
	return b
}

func TestParseRefuses(t *testing.T) {
	src, dst := ip("192.168.77.2"), Group4
	src6 := ip("fe80::2")
	good := "3133c801 000a 0000 c0a84d01"
	for _, c := range []struct {
		name     string
		bytes    string
		src, dst netip.Addr
		form     Checksum
		want     DropReason
	}{
		{"empty", "", src, dst, 0xff, DropLength},
		{"one byte short of a header", "3133c801000a00", src, dst, 0xff, DropLength},
		{"one byte short of its list", "3133c801 000a 0000 c0a84d", src, dst, 0xff, DropLength},
		{"second address is missing", "3133c802 000a 0000 c0a84d01", src, dst, ChecksumPseudo, DropLength},
		{"v2 without authentication data", "2133c801 0001 0000 c0a84d01", src, dst, ChecksumPlain, DropLength},
		{"v2 with half of it", "2133c801 0001 0000 c0a84d01 00000000", src, dst, ChecksumPlain, DropLength},
		{"CARP", "2133c807 0001 0000 " + strings.Repeat("5a", 28), src, dst, ChecksumPlain, DropCARP},
		{"version 1", "1133c801 000a 0000 c0a84d01", src, dst, ChecksumPseudo, DropVersion},
		{"version 4", "4133c801 000a 0000 c0a84d01", src, dst, ChecksumPseudo, DropVersion},
		{"type 0", "3033c801 000a 0000 c0a84d01", src, dst, ChecksumPseudo, DropType},
		{"type 2", "3233c801 000a 0000 c0a84d01", src, dst, ChecksumPseudo, DropType},
		{"no address", "3133c800 000a 0000", src, dst, ChecksumPseudo, DropCount},
		{"no address, v2", "2133c800 0001 0000 0000000000000000", src, dst, ChecksumPlain, DropCount},
		{"interval 0", "3133c801 0000 0000 c0a84d01", src, dst, ChecksumPseudo, DropInterval},
		{"interval 0 beside reserved bits", "3133c801 f000 0000 c0a84d01", src, dst, ChecksumPlain, DropInterval},
		{"interval 0, v2", "2133c801 0000 0000 c0a84d01 0000000000000000", src, dst, ChecksumPlain, DropInterval},
		{"checksum 0", good, src, dst, 0xff, DropChecksum},
		{"pseudo for another source", "3133c801 000a 0ade c0a84d01", src, dst, 0xff, DropChecksum},
		{"unicast, with the pseudo-header of the group", "3133c801 000a 0add c0a84d01", src, ip("192.168.77.3"), 0xff, DropChecksum},
		{"v2 with pseudo-header", "2133c801 0001 0000 c0a84d01 0000000000000000", src, dst, ChecksumPseudo, DropChecksum},
		{"IPv6 without pseudo-header", "3133c801 000a 0000 fe800000000000000000000000000001", src6, Group6, ChecksumPlain, DropChecksum},
		{"IPv6, first address is global", "3133c801 000a 0000 20010db8000000000000000000000001", src6, Group6, ChecksumPseudo, DropFamily},
		{"v2 over IPv6", "2133c801 0001 0000 fe800000000000000000000000000001 0000000000000000", src6, Group6, ChecksumPlain, DropFamily},
		{"mixed families", good, src, Group6, 0xff, DropFamily},
		{"no source", good, netip.Addr{}, netip.Addr{}, 0xff, DropFamily},
		{"v2 with a password that is empty", "2133c801 0101 0000 c0a84d01 0000000000000000", src, dst, ChecksumPlain, DropAuthentication},
		{"v2 with a digest", "2133c801 0201 0000 c0a84d01 6170706c65000000", src, dst, ChecksumPlain, DropAuthentication},
		{"v2, the checksum leaves the password out", "2133c801 0101 0820 c0a84d01 6170706c65000000", src, dst, 0xff, DropChecksum},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.bytes)
			if c.form != 0xff {
				b = fix(b, c.src, c.dst, c.form)
			}
			_, _, err := Parse(b, c.src, c.dst)
			var de *DropError
			if !errors.As(err, &de) {
				t.Fatalf("err = %v, want a DropError", err)
			}
			if de.Reason != c.want || de.Detail == "" || !strings.Contains(de.Error(), string(c.want)) {
				t.Errorf("got %v, want reason %s", err, c.want)
			}
		})
	}
}

func TestParseTakes(t *testing.T) {
	src, dst := ip("192.168.77.2"), Group4
	for _, c := range []struct {
		name  string
		bytes string
		form  Checksum
		want  Advert
	}{
		{"reserved bits are ignored", "3133c801 f00a 0000 c0a84d01", ChecksumPseudo, said(3, 51, 200, 100*time.Millisecond, ips("192.168.77.1"))},
		{"shortest interval", "31ff0101 0001 0000 c0a84d01", ChecksumPlain, said(3, 255, 1, 10*time.Millisecond, ips("192.168.77.1"))},
		{"owner", "3101ff01 0064 0000 c0a84d01", ChecksumPlain, said(3, 1, 255, time.Second, ips("192.168.77.1"))},
		{"router id 0 is for others to judge", "3100c801 0064 0000 c0a84d01", ChecksumPseudo, said(3, 0, 200, time.Second, ips("192.168.77.1"))},
		{"v2, data of type 0", "2133c801 0001 0000 c0a84d01 6170706c65000000", ChecksumPlain, said(2, 51, 200, time.Second, ips("192.168.77.1"))},
		{"v2, a password ends at the first zero", "2133c801 0101 0000 c0a84d01 6100626364656667", ChecksumPlain, withPassword(said(2, 51, 200, time.Second, ips("192.168.77.1")), "a")},
		{"bytes behind the message", "3133c801 000a 0000 c0a84d01 c0a84d02", 0xff, said(3, 51, 200, 100*time.Millisecond, ips("192.168.77.1"))},
		{"v2, seven addresses are no CARP", "2133c807 0001 0000" + strings.Repeat("c0a84d01", 7) + "0000000000000000", ChecksumPlain, said(2, 51, 200, time.Second, slices.Repeat(ips("192.168.77.1"), 7))},
		{"v2, longest interval", "2133c801 00ff 0000 c0a84d01 0000000000000000", ChecksumPlain, said(2, 51, 200, 255*time.Second, ips("192.168.77.1"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := unhex(t, c.bytes)
			if c.form == 0xff { // for a message of one address, whatever follows
				c.form = ChecksumPlain
				fix(b[:12], src, dst, c.form)
			} else {
				fix(b, src, dst, c.form)
			}
			got, form, err := Parse(b, src, dst)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpAddr); diff != "" || form != c.form {
				t.Errorf("form %v, %s", form, diff)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	good := said(Version3, 51, 200, time.Second, ips("192.168.77.1"))
	src, dst := ip("192.168.77.2"), Group4
	for _, c := range []struct {
		name     string
		change   func(*Advert)
		src, dst netip.Addr
	}{
		{"version", func(a *Advert) { a.Version = 4 }, src, dst},
		{"router id 0", func(a *Advert) { a.VRID = 0 }, src, dst},
		{"no address", func(a *Advert) { a.Addresses = nil }, src, dst},
		{"too many addresses", func(a *Advert) { a.Addresses = slices.Repeat(a.Addresses, 256) }, src, dst},
		{"interval 0", func(a *Advert) { a.Interval = 0 }, src, dst},
		{"interval too long", func(a *Advert) { a.Interval = 41 * time.Second }, src, dst},
		{"interval between two steps", func(a *Advert) { a.Interval = 15 * time.Millisecond }, src, dst},
		{"v2 below a second", func(a *Advert) { a.Version, a.Interval = 2, 500*time.Millisecond }, src, dst},
		{"v2 too long", func(a *Advert) { a.Version, a.Interval = 2, 256*time.Second }, src, dst},
		{"v2 over IPv6", func(a *Advert) { a.Version, a.Addresses = 2, ips("fe80::1") }, ip("fe80::2"), Group6},
		{"a password of 9 bytes", func(a *Advert) { a.Version, a.Password = 2, "9 bytes !" }, src, dst},
		{"a password with a zero in it", func(a *Advert) { a.Version, a.Password = 2, "a\x00b" }, src, dst},
		{"a password in v3", func(a *Advert) { a.Password = "apple" }, src, dst},
		{"other family in the list", func(a *Advert) { a.Addresses = ips("192.168.77.1", "fe80::1") }, src, dst},
		{"first IPv6 address is global", func(a *Advert) { a.Addresses = ips("2001:db8::1") }, ip("fe80::2"), Group6},
		{"source and destination differ", func(*Advert) {}, src, Group6},
		{"no source", func(*Advert) {}, netip.Addr{}, netip.Addr{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := good
			c.change(&a)
			if b, err := a.Append(nil, c.src, c.dst, ChecksumPseudo); err == nil {
				t.Errorf("wrote %x", b)
			}
		})
	}
}

func TestLongestList(t *testing.T) {
	a := said(Version3, 51, 200, time.Second, nil)
	for i := range MaxAddresses {
		a.Addresses = append(a.Addresses, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	b, err := a.Append(nil, ip("10.0.1.1"), Group4, ChecksumPlain)
	if err != nil {
		t.Fatal(err)
	}
	got, form, err := Parse(b, ip("10.0.1.1"), Group4)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got, cmpAddr); diff != "" || form != ChecksumPlain {
		t.Errorf("form %v, %s", form, diff)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	for _, c := range golden[:3] {
		buf := make([]byte, 0, 128)
		src, dst := ip(c.src), ip(c.dst)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := c.advert.Append(buf, src, dst, c.form); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func TestChecksumString(t *testing.T) {
	got := []string{ChecksumPseudo.String(), ChecksumPlain.String(), Checksum(9).String()}
	if diff := cmp.Diff([]string{"pseudo", "plain", "checksum(9)"}, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzParse: whatever is taken is written again the same way, but for what is
// ignored on reading (reserved bits, bytes behind the message).
func FuzzParse(f *testing.F) {
	for _, c := range golden {
		f.Add(unhex(f, c.bytes), ip(c.src).AsSlice(), ip(c.dst).AsSlice())
	}
	src, dst := ip("192.168.77.2").AsSlice(), Group4.AsSlice()
	f.Add(unhex(f, "3133c801f00a0000c0a84d01ffff"), src, dst)
	f.Add(unhex(f, "2133c8070001000000"), src, dst)
	f.Add(unhex(f, "2133c80101010000c0a84d016100626364656667"), src, dst)
	f.Add(unhex(f, "2133c80101010000c0a84d010000000000000000"), src, dst)
	f.Add(unhex(f, "3100000100010000ffffffff"), make([]byte, 4), make([]byte, 4))
	f.Fuzz(func(t *testing.T, b, src, dst []byte) {
		from, _ := netip.AddrFromSlice(src)
		to, _ := netip.AddrFromSlice(dst)
		for _, form := range []Checksum{0xff, ChecksumPseudo, ChecksumPlain} {
			if form != 0xff { // give the fuzzer a checksum that it cannot guess
				n := 8
				if len(b) < 8 || !from.IsValid() || !to.IsValid() {
					return
				}
				n += int(b[3]) * len(src)
				if b[0]>>4 == 2 {
					n += 8
				}
				if n > len(b) {
					return
				}
				fix(b[:n], from, to, form)
			}
			a, got, err := Parse(b, from, to)
			if err != nil {
				var de *DropError
				if !errors.As(err, &de) || de.Reason == "" {
					t.Fatalf("%v is no DropError", err)
				}
				continue
			}
			if a.VRID == 0 {
				continue // read, but never written
			}
			w, err := a.Append(nil, from, to, got)
			if err != nil {
				t.Fatalf("%+v cannot be written: %v", a, err)
			}
			again, form, err := Parse(w, from, to)
			if err != nil {
				t.Fatalf("%x: %v", w, err)
			}
			if diff := cmp.Diff(a, again, cmpAddr); diff != "" || form != got {
				t.Fatalf("form %v, was %v; %s", form, got, diff)
			}
			if a.Version == Version3 && b[4]>>4 != 0 {
				continue
			}
			if a.Version == Version2 && !bytes.Equal(w[len(w)-8:], b[len(w)-8:len(w)]) {
				continue // whatever stands for authentication data of type 0, or behind the end of a password
			}
			w[6], w[7], b[6], b[7] = 0, 0, 0, 0 // 0 and 0xffff are one
			if diff := cmp.Diff(w, b[:len(w)]); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
