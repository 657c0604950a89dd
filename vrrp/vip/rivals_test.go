package vip

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"
)

func TestRivals(t *testing.T) {
	here := spot{"lan0", pfx("192.168.77.1/24")}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	type step struct {
		at   time.Duration
		what string // heard, ask, lost (the address), unsure, hands
		want string
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"nobody", []step{
			{0, "ask", ""}, {999 * ms, "ask", ""}, {1000 * ms, "ask", "asked"}, {2499 * ms, "ask", ""}, {2500 * ms, "ask", "asked"},
		}},
		{"a rival that answers", []step{
			{1000 * ms, "ask", "asked"}, {1001 * ms, "heard", ""}, {1201 * ms, "ask", "asked"}, {1202 * ms, "heard", "conflict"},
			{2500 * ms, "ask", "asked"}, {2501 * ms, "heard", ""}, // once is enough
			{7500 * ms, "ask", "asked"}, {7502 * ms, "ask", "gone"},
		}},
		{"a rival that announces", []step{{1700 * ms, "heard", ""}, {1900 * ms, "ask", "asked"}, {1905 * ms, "heard", "conflict"}}},
		{"heard twice is no proof before it was asked", []step{{1100 * ms, "heard", ""}, {1200 * ms, "heard", ""}, {1299 * ms, "heard", ""}}},
		{"a hand-over: the other announces for a moment", []step{{10 * ms, "heard", ""}, {500 * ms, "heard", ""}, {999 * ms, "heard", ""}, {1000 * ms, "ask", "asked"}, {1600 * ms, "ask", ""}}},
		{"gone when it was asked again", []step{
			{1100 * ms, "heard", ""}, {1300 * ms, "ask", "asked"}, {1801 * ms, "ask", ""}, {1900 * ms, "heard", ""}, {2100 * ms, "ask", "asked"},
		}},
		{"the address goes", []step{
			{1100 * ms, "heard", ""}, {1300 * ms, "ask", "asked"}, {1301 * ms, "heard", "conflict"}, {1400 * ms, "lost", "gone"}, {1500 * ms, "lost", ""},
		}},
		{"the address goes before it was asked again", []step{{1100 * ms, "heard", ""}, {1200 * ms, "lost", ""}, {1300 * ms, "heard", ""}}},
		{"not sure of the role", []step{
			{1100 * ms, "heard", ""}, {1300 * ms, "ask", "asked"}, {1301 * ms, "heard", "conflict"}, {1400 * ms, "unsure", "gone"}, {2900 * ms, "unsure", ""},
		}},
		{"it changes hands again", []step{{1100 * ms, "hands", ""}, {1200 * ms, "heard", ""}, {2099 * ms, "ask", ""}, {2100 * ms, "ask", "asked"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := time.Unix(1000, 0)
			var r rivals
			r.begin(begin)
			held := map[spot]bool{here: true}
			for i, s := range c.steps {
				now := begin.Add(s.at)
				var got []string
				ended := func(cs []Conflict) {
					for _, c := range cs {
						if !c.Gone || c.Address != here.prefix || c.Device != here.device {
							t.Errorf("%+v", c)
						}
						got = append(got, "gone")
					}
				}
				switch s.what {
				case "heard":
					if c, ok := r.hear(here, mac, now); ok {
						got = append(got, "conflict")
						if diff := cmp.Diff(fmt.Sprint(Conflict{here.prefix, here.device, mac, false}), fmt.Sprint(c)); diff != "" {
							t.Error(diff)
						}
					}
				case "ask":
					ask, gone := r.step(held, now)
					for range ask {
						got = append(got, "asked")
					}
					ended(gone)
				case "lost":
					ended(r.keep(nil))
				case "unsure":
					_, gone := r.step(nil, now)
					ended(gone)
				case "hands":
					r.begin(now)
				}
				if diff := cmp.Diff(s.want, strings.Join(got, " ")); diff != "" {
					t.Fatalf("step %d, %s at %v: %s", i, s.what, s.at, diff)
				}
				if s.what == "ask" && !r.deadline().After(now) && s.at >= deafFor {
					t.Fatalf("step %d: the deadline is not ahead", i)
				}
			}
		})
	}
}

// TestFilter: each address, of each number of addresses; the own MAC is not news.
func TestFilter(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	frame := func(mac net.HardwareAddr, last byte) []byte {
		b := make([]byte, 28)
		copy(b[8:], mac)
		copy(b[14:], []byte{10, 0, 0, last})
		return b
	}
	other := func(i int) net.HardwareAddr {
		m := slices.Clone(mac)
		m[i] ^= 1
		return m
	}
	for n := range 200 {
		s := station{mac: string(mac)}
		for i := range n {
			s.ips = append(s.ips, pfx(fmt.Sprintf("10.0.0.%d/24", i)).Addr())
		}
		raw, err := s.filter(false)
		if err != nil {
			t.Fatal(err)
		}
		prog, ok := bpf.Disassemble(raw)
		if !ok {
			t.Fatal("not all instructions are known")
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		got, want := map[string]bool{}, map[string]bool{}
		for last := range byte(201) {
			for i, m := range []net.HardwareAddr{mac, other(0), other(3), other(4), other(5)} {
				name := fmt.Sprintf("%d from %d", last, i)
				took, err := vm.Run(frame(m, last))
				if err != nil {
					t.Fatal(err)
				}
				got[name], want[name] = took > 0, int(last) < n && i > 0
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%d addresses: %s", n, cmp.Diff(want, got))
		}
	}
	if _, err := (station{}).filter(false); err == nil {
		t.Error("a device without MAC")
	}
}

func FuzzHolder(f *testing.F) {
	for _, own := range []Address{lan, wan} {
		fs, err := frames(net.HardwareAddr{2, 0, 0, 0, 0, 1}, own)
		if err != nil {
			f.Fatal(err)
		}
		for _, b := range fs {
			f.Add(b[14:])
			f.Add(b[14:30])
		}
	}
	f.Add([]byte{0, 1, 8, 0, 0xff, 0xff, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, mac, ok := holder4(b)
		if ok && (!ip.Is4() || len(mac) != 6 || len(b) < 28 || string(mac) != string(b[8:14]) || ip.As4() != [4]byte(b[14:18])) {
			t.Fatalf("%x: %v at %v", b, ip, mac)
		}
	})
}
