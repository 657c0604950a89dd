package vip

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

var (
	lan6  = Address{Device: "lan0", Prefix: pfx("2001:db8::1/64"), Link: "office"}
	link6 = Address{Device: "lan0", Prefix: pfx("fe80::1/64"), Link: "office"}
)

// on6 lists the IPv6 addresses of a device but for those that the kernel made.
func on6(t *testing.T, device string) []string {
	t.Helper()
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(netlab.Sh(t, "ip -o -6 addr show dev "+device)), "\n") {
		if f := strings.Fields(line); len(f) > 3 && !strings.Contains(line, "fe80::ff:fe00:1/64") {
			out = append(out, strings.Join(f[3:slices.Index(f, `\`)], " "))
		}
	}
	slices.Sort(out)
	return out
}

// ownSix waits until the kernel has given the device its own address.
func ownSix(t *testing.T, device string) {
	t.Helper()
	eventually(t, "an own address on "+device, func() bool {
		all := netlab.Sh(t, "ip -6 addr show dev "+device)
		return strings.Contains(all, "fe80::") && !strings.Contains(all, "tentative")
	})
}

// tap6 collects neighbour discovery about addresses, in words.
func tap6(t *testing.T, device string) func() []string {
	t.Helper()
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_IPV6, nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1500)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			f := b[14:n]
			if len(f) < ipv6HeaderLen+24 || f[6] != icmp6 || f[40] != neighbourSolicit && f[40] != neighbourAdvert {
				continue
			}
			kind := map[byte]string{neighbourSolicit: "asked for ", neighbourAdvert: "told of "}[f[40]]
			mu.Lock()
			got = append(got, kind+netip.AddrFrom16([16]byte(f[48:64])).String()+" by "+netip.AddrFrom16([16]byte(f[8:24])).String()+" at "+net.HardwareAddr(b[6:12]).String())
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = c.Close(); <-done })
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		out := slices.Clone(got)
		got = nil
		slices.Sort(out)
		return slices.Compact(out)
	}
}

// TestSixAddAndRemove: addresses are good at once, answer from their network and
// are announced; nobody else's go with them.
func TestSixAddAndRemove(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "sysctl -qw net.ipv6.conf.default.accept_dad=1 net.ipv6.conf.all.accept_dad=1")
	cable(t, "lan0")
	s := newStranger(t, "lan0")
	s.sh("ip addr add 2001:db8::100/64 dev eth0 nodad")
	ownSix(t, "lan0")
	cable(t, "wan0")
	heard := tap6(t, "far-wan0")
	far := Address{Device: "wan0", Prefix: pfx("2001:db8:9::1/64"), Link: "cable"}
	k := newKeeper(t, Config{Addresses: []Address{lan, lan6, link6, far}, Timing: never})
	for range 2 {
		add(t, k)
		want := []string{"2001:db8::1/64 scope global nodad deprecated", "fe80::1/64 scope link nodad deprecated noprefixroute"}
		if diff := cmp.Diff(want, on6(t, "lan0")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]bool{true, true, true, true}, isPresent(t, k)); diff != "" {
			t.Error(diff)
		}
		eventually(t, "announced", func() bool {
			return slices.Contains(heard(), "told of 2001:db8:9::1 by 2001:db8:9::1 at 02:00:00:00:00:01")
		})
	}
	for _, to := range []string{"2001:db8::1", "fe80::1%eth0"} { // it answers, and to whom it does not know
		if got := s.sh("timeout 2 bash -c \"</dev/tcp/" + to + "/9\" 2>&1 || true"); !strings.Contains(got, "refused") {
			t.Errorf("%s: %s", to, got)
		}
	}
	if way := netlab.Sh(t, "ip -6 route get 2001:db8::100"); !strings.Contains(way, "dev lan0") {
		t.Error(way)
	}
	// With an address of its own, what the node itself begins comes from that.
	netlab.Sh(t, "ip addr add 2001:db8::2/64 dev lan0 nodad")
	if way := netlab.Sh(t, "ip -6 route get 2001:db8::100"); !strings.Contains(way, "src 2001:db8::2 ") {
		t.Error(way)
	}
	for range 2 {
		removeAll(t, k)
		if diff := cmp.Diff([]string{"2001:db8::2/64 scope global nodad"}, on6(t, "lan0")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]bool{false, false, false, false}, isPresent(t, k)); diff != "" {
			t.Error(diff)
		}
	}
	// Where it has, its route is the only one.
	netlab.Sh(t, "ip -6 route del 2001:db8::/64 dev lan0; ip -6 route add 2001:db8::/64 dev lan0 metric 100")
	for range 2 {
		add(t, k)
		if ways := netlab.Sh(t, "ip -6 route show dev lan0"); strings.Count(ways, "2001:db8::/64") != 1 || !strings.Contains(ways, "metric 100") {
			t.Error(ways)
		}
		removeAll(t, k)
	}
	if ways := netlab.Sh(t, "ip -6 route show dev lan0"); !strings.Contains(ways, "2001:db8::/64") || !strings.Contains(ways, "fe80::/64") {
		t.Errorf("the own addresses' routes are gone: %s", ways)
	}
}

// TestSixReady: when Add returns, and so before anybody is told, the kernel takes
// what is sent to the addresses.
func TestSixReady(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	var all []Address
	for i := range 50 {
		all = append(all, Address{Device: "lan0", Prefix: pfx(fmt.Sprintf("2001:db8::%x/64", i+1))})
	}
	all = append(all, link6)
	k := newKeeper(t, Config{Addresses: all, Timing: never})
	for range 10 {
		add(t, k)
		for _, a := range all {
			link, err := k.nl.LinkByName("lan0")
			if err != nil {
				t.Fatal(err)
			}
			ways, err := k.nl.RouteGetWithOptions(a.Prefix.Addr().AsSlice(), &netlink.RouteGetOptions{OifIndex: link.Attrs().Index})
			if err != nil || len(ways) != 1 || ways[0].Type != unix.RTN_LOCAL {
				t.Errorf("%v is not ready: %v, %v", a, ways, err)
			}
		}
		removeAll(t, k)
	}
	netlab.Sh(t, "ip link set lan0 down")
	begin := time.Now()
	add(t, k)
	if took := time.Since(begin); took > awaitMost {
		t.Errorf("a device that is down is awaited: %v", took)
	}
}

// TestSixFound: what a former self or the admin left is adopted, or put on anew
// where the kernel does not let it be used.
func TestSixFound(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "sysctl -qw net.ipv6.conf.default.accept_dad=1 net.ipv6.conf.all.accept_dad=1")
	cable(t, "lan0")
	ownSix(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan6}, Timing: never})
	for _, c := range []struct {
		name, found string
		want        bool
		added       []string
	}{
		{"as we set it", "2001:db8::1/64 dev lan0 nodad preferred_lft 0", true, []string{"2001:db8::1/64 scope global nodad deprecated"}},
		{"as the admin set it", "2001:db8::1/64 dev lan0 nodad", true, []string{"2001:db8::1/64 scope global nodad"}},
		{"that waits", "2001:db8::1/64 dev lan0", false, []string{"2001:db8::1/64 scope global nodad deprecated"}},
		{"of another length", "2001:db8::1/80 dev lan0 nodad", false, []string{"2001:db8::1/64 scope global nodad deprecated"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			netlab.Sh(t, "ip addr add "+c.found)
			if got := isPresent(t, k); got[0] != c.want {
				t.Errorf("present: %v", got)
			}
			add(t, k)
			if diff := cmp.Diff(c.added, on6(t, "lan0")); diff != "" {
				t.Error(diff)
			}
			if !isPresent(t, k)[0] {
				t.Errorf("not there: %v", on6(t, "lan0"))
			}
			removeAll(t, k)
			if got := on6(t, "lan0"); len(got) > 0 {
				t.Errorf("left: %v", got)
			}
		})
	}
}

// TestSixRepair: what somebody removes is put back and counted; what the kernel
// takes along with the device is put back only.
func TestSixRepair(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan6, link6}, Timing: Timing{Refresh: time.Hour, Settle: 50 * ms}})
	start(t, k)
	add(t, k)
	netlab.Sh(t, "ip addr del 2001:db8::1/64 dev lan0")
	k.LinkChanged("lan0")
	eventually(t, "it is back", func() bool { return isPresent(t, k)[0] && k.Repairs() == 1 })
	netlab.Sh(t, "ip link set lan0 down")
	k.LinkChanged("lan0")
	eventually(t, "both are back", func() bool { return slices.Equal(isPresent(t, k), []bool{true, true}) })
	netlab.Sh(t, "ip link set lan0 up")
	k.LinkChanged("lan0")
	eventually(t, "the way to their network is", func() bool {
		return strings.Contains(netlab.Sh(t, "ip -6 route show dev lan0"), "2001:db8::/64")
	})
	if n := k.Repairs(); n != 1 {
		t.Errorf("%d repairs", n)
	}
}

// TestSixOff: where IPv6 is switched off the others are put on, and it is told why.
func TestSixOff(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	netlab.Sh(t, "sysctl -qw net.ipv6.conf.lan0.disable_ipv6=1")
	k := newKeeper(t, Config{Addresses: []Address{lan6, lan}, Own: []OwnAddress{{Device: "lan0", Prefix: pfx("fe80::a9fe:33:1/128")}}, Timing: never})
	start(t, k)
	if err := k.Add(t.Context()); err == nil || !strings.Contains(err.Error(), "see net.ipv6.conf.lan0.disable_ipv6") {
		t.Error(err)
	}
	if diff := cmp.Diff([]bool{false, true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
	removeAll(t, k)
}

// TestSixOwnAddress: a device on which the kernel makes no link-local address
// gets one, and loses it when it has another.
func TestSixOwnAddress(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link add lan0 type veth peer name far-lan0; sysctl -qw net.ipv6.conf.lan0.addr_gen_mode=1; ip addr add 2001:db8::5/64 dev lan0; ip link set far-lan0 up; ip link set lan0 up")
	k := newKeeper(t, Config{
		Addresses: []Address{link6}, Timing: never,
		Own: []OwnAddress{{Device: "lan0", Prefix: pfx("169.254.51.1/32")}, {Device: "lan0", Prefix: pfx("fe80::a9fe:33:1/128"), Virtual: []netip.Prefix{link6.Prefix}}},
	})
	start(t, k)
	add(t, k)
	k.LinkChanged("lan0")
	has := func(what string) bool { return strings.Contains(netlab.Sh(t, "ip addr show dev lan0"), what) }
	eventually(t, "both own addresses", func() bool { return has("fe80::a9fe:33:1/128") && has("169.254.51.1/32") })
	netlab.Sh(t, "ip addr add fe80::77/64 dev lan0 nodad")
	k.LinkChanged("lan0")
	eventually(t, "one of them goes", func() bool { return !has("fe80::a9fe:33:1") && has("169.254.51.1/32") })

	removeAll(t, k)
	add(t, k)
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	netlab.Sh(t, "ip addr add fe80::a9fe:33:1/128 dev lan0 nodad preferred_lft 0 valid_lft forever")
	doubtful, err := r.Sweep()
	if want := []Address{{Device: "lan0", Prefix: link6.Prefix}}; err != nil || !slices.Equal(doubtful, want) {
		t.Errorf("%v, %v", doubtful, err)
	}
	if has("fe80::a9fe:33:1") || !has("fe80::77/64") || !has("2001:db8::5/64") {
		t.Error(netlab.Sh(t, "ip addr show dev lan0"))
	}
}

// TestSixConflict: another machine with one of the addresses is found, and gone
// when it is.
func TestSixConflict(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	s := newStranger(t, "lan0")
	s.sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=0")
	c := &conflicts{t: t}
	k := newKeeper(t, Config{Addresses: []Address{lan, lan6, link6}, Timing: Timing{Refresh: 100 * ms}, Conflict: c.tell})
	start(t, k)
	add(t, k)
	time.Sleep(deafFor + askEvery) // announcing and asking is no conflict
	s.sh("ip addr add 2001:db8::1/64 dev eth0 nodad; ip addr add 2001:db8:ffff::1/64 dev eth0 nodad")
	const at = ": 2001:db8::1/64 on lan0 at 02:00:00:00:00:09"
	want := []string{"conflict" + at}
	c.within(2*time.Second, want...)
	if got := on6(t, "lan0"); len(got) != 2 || strings.Contains(got[0]+got[1], "dadfailed") {
		t.Errorf("%v", got)
	}
	s.sh("ip addr del 2001:db8::1/64 dev eth0")
	want = append(want, "gone"+at)
	c.within(10*time.Second, want...)
	removeAll(t, k)
	eventually(t, "the ears are closed", func() bool { return packetSockets(t) == 1 })
}

// TestSixFilter: only neighbour advertisements about what may be ours.
func TestSixFilter(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	about := func(ip string) []byte { return neighbour(mac, netip.MustParseAddr(ip))[14:] }
	s := station{mac: string(mac)}
	for i := range 255 {
		s.ips = append(s.ips, netip.AddrFrom16([16]byte{0: 0x20, 1: 1, 15: byte(i)}))
	}
	raw, err := s.filter(true)
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
	for name, test := range map[string]struct {
		b    []byte
		want bool
	}{
		"the first":      {about("2001::"), true},
		"the last":       {about("2001::fe"), true},
		"another":        {about("2001::ff"), false},
		"a solicitation": {solicitation(mac, s.ips[1])[14:], false},
		"ARP":            {make([]byte, 28), false},
		"TCP":            {append([]byte{0x60, 0, 0, 0, 0, 32, 6, 255}, about("2001::1")[8:]...), false},
	} {
		n, err := vm.Run(test.b)
		if err != nil || (n > 0) != test.want {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func FuzzHolder6(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b := neighbour(mac, lan6.Prefix.Addr())[14:]
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(slices.Clone(b), b[64:]...))
	other := slices.Clone(b)
	other[64] = 14 // a nonce first
	f.Add(append(other, b[64:]...))
	other = slices.Clone(b)
	other[65] = 0
	f.Add(other)
	f.Fuzz(func(t *testing.T, b []byte) {
		ip, mac, ok := holder6(b)
		if ok && (!ip.Is6() || len(mac) != 6 || b[7] != 255) {
			t.Fatalf("%x: %v at %v", b, ip, mac)
		}
	})
}

// TestHolder6 reads what is sent.
func TestHolder6(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	ip, at, ok := holder6(neighbour(mac, lan6.Prefix.Addr())[14:])
	if !ok || ip != lan6.Prefix.Addr() || at.String() != mac.String() {
		t.Error(ip, at, ok)
	}
	b := neighbour(mac, lan6.Prefix.Addr())[14:]
	b = append(append(slices.Clone(b[:64]), 14, 1, 0, 0, 0, 0, 0, 0), b[64:]...)
	if ip, at, ok = holder6(b); !ok || ip != lan6.Prefix.Addr() || at.String() != mac.String() {
		t.Error("behind another option:", ip, at, ok)
	}
	b[7] = 254
	if _, _, ok = holder6(b); ok {
		t.Error("through a router")
	}
}
