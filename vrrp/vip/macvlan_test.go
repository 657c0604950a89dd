package vip

import (
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

var (
	office    = VirtualMAC{Name: "hrv-office", Parent: "lan0", MAC: net.HardwareAddr{0, 0, 0x5e, 0, 1, 51}}
	lanMAC    = Address{Device: "hrv-office", Prefix: pfx("192.168.77.1/24"), Link: "office"}
	officeMAC = "00:00:5e:00:01:33"
)

func shown(t *testing.T, device string) string {
	t.Helper()
	return netlab.Sh(t, "ip -d link show "+device+" 2>&1 || true")
}

func isUp(t *testing.T, device string) bool {
	t.Helper()
	return strings.Contains(shown(t, device), ",UP")
}

// TestVirtualMAC: the device is made, carries the addresses while they are held,
// and is off else; ARP is answered with its MAC for what is on it, and with the
// parent's for the parent's own.
func TestVirtualMAC(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	netlab.Sh(t, `ip addr add 192.168.77.2/24 dev lan0
		sysctl -qw net.ipv4.conf.lan0.arp_ignore=1 net.ipv4.conf.lan0.arp_announce=2
		ip link add hrv-gone link lan0 type macvlan mode private; ip link set hrv-gone alias "harouter virtual MAC"
		ip link add mine link lan0 type macvlan mode private`)
	w := tap(t, "far-lan0")
	raised := 0
	k := newKeeper(t, Config{Addresses: []Address{lanMAC}, MACs: []VirtualMAC{office}, Timing: never, Raised: func() { raised++ }})
	stop := start(t, k)
	eventually(t, "it is made", func() bool { return strings.Contains(shown(t, "hrv-office"), "macvlan mode private") })
	if s := shown(t, "hrv-office"); !strings.Contains(s, officeMAC) || !strings.Contains(s, "alias harouter virtual MAC") || isUp(t, "hrv-office") {
		t.Errorf("made: %s", s)
	}
	if s := shown(t, "hrv-gone"); !strings.Contains(s, "does not exist") {
		t.Errorf("a former self's is left: %s", s)
	}
	shown(t, "mine")
	w.reset()
	for range 2 {
		add(t, k)
	}
	if !isUp(t, "hrv-office") || raised != 2 {
		t.Errorf("raised %d times: %s", raised, shown(t, "hrv-office"))
	}
	if six := netlab.Sh(t, "ip -6 -o addr show dev hrv-office"); six != "" {
		t.Errorf("the virtual MAC made an IPv6 address: %s", six)
	}
	if got := on(t, "lan0"); !cmp.Equal(got, []string{"192.168.77.2/24 brd 192.168.77.255 scope global"}) && !cmp.Equal(got, []string{"192.168.77.2/24 scope global"}) {
		t.Errorf("on the parent: %v", got)
	}
	eventually(t, "announced", func() bool {
		return strings.Contains(strings.Join(w.lines(), "\n"), "reply: 192.168.77.1 ")
	})
	removeAll(t, k)
	removeAll(t, k)
	eventually(t, "it is off", func() bool { return !isUp(t, "hrv-office") })
	if got := on(t, "hrv-office"); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	stop()
	if err := k.Cleanup(t.Context()); err != nil {
		t.Error(err)
	}
	if s := shown(t, "hrv-office"); !strings.Contains(s, "does not exist") {
		t.Errorf("after Cleanup: %s", s)
	}
	if s := shown(t, "mine"); !strings.Contains(s, "macvlan") {
		t.Errorf("somebody else's macvlan is gone: %s", s)
	}
}

// TestVirtualMACRepair: switched off or deleted by somebody, it comes back; a
// name that is taken is left alone and told.
func TestVirtualMACRepair(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	var may atomic.Bool
	may.Store(true)
	k := newKeeper(t, Config{Addresses: []Address{lanMAC}, MACs: []VirtualMAC{office}, Timing: Timing{Refresh: time.Hour, Settle: 50 * ms}, MayRepair: may.Load})
	stop := start(t, k)
	add(t, k)
	for n, damage := range []string{"ip link set hrv-office down", "ip link del hrv-office", "ip addr del 192.168.77.1/24 dev hrv-office"} {
		netlab.Sh(t, damage)
		k.LinkChanged("hrv-office")
		eventually(t, "mended after "+damage, func() bool {
			return isUp(t, "hrv-office") && isPresent(t, k)[0] && k.Repairs() == uint64(n+1)
		})
	}
	may.Store(false) // it slept, and the guard was here
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove([]Address{lanMAC}); err != nil {
		t.Error(err)
	}
	if isPresent(t, k)[0] {
		t.Error("the guard left the address")
	}
	r.Close()
	k.LinkChanged("hrv-office")
	time.Sleep(50*ms + 2*lookSoon)
	if isUp(t, "hrv-office") || isPresent(t, k)[0] {
		t.Error("put back by one that is not sure of its role")
	}
	removeAll(t, k)
	stop()

	netlab.Sh(t, "ip link del hrv-office; ip link add hrv-office type bridge")
	if err := k.Add(t.Context()); err == nil || !strings.Contains(err.Error(), "another device has that name") {
		t.Errorf("the name is taken: %v", err)
	}
}

// TestVirtualMACFollowsParent: the parent goes and comes.
func TestVirtualMACFollowsParent(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lanMAC}, MACs: []VirtualMAC{office}, Timing: Timing{Refresh: time.Hour, Settle: 50 * ms}})
	start(t, k)
	add(t, k)
	netlab.Sh(t, "ip link del lan0")
	k.LinkChanged("lan0")
	cable(t, "lan0")
	k.LinkChanged("lan0")
	eventually(t, "it is there again", func() bool { return isUp(t, "hrv-office") && isPresent(t, k)[0] })
	if k.Repairs() != 0 {
		t.Errorf("%d repairs, want none: nobody took the device away", k.Repairs())
	}
}

// TestVirtualMACConfigure: while the addresses are held another MAC comes with
// them, they move to the parent and back, and nobody is said to have done it.
func TestVirtualMACConfigure(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	with := Config{Addresses: []Address{lanMAC}, MACs: []VirtualMAC{office}, Timing: Timing{Refresh: time.Hour, Settle: 50 * ms}}
	other := with
	other.MACs = []VirtualMAC{{Name: "hrv-office", Parent: "lan0", MAC: net.HardwareAddr{0, 0, 0x5e, 0, 1, 77}}}
	without := Config{Addresses: []Address{lan}, Timing: with.Timing}
	k := newKeeper(t, with)
	start(t, k)
	add(t, k)
	for _, c := range []struct {
		name string
		cfg  Config
		mac  string
	}{{"another MAC", other, "00:00:5e:00:01:4d"}, {"none", without, ""}, {"the first", with, officeMAC}, {"the same", with, officeMAC}} {
		if err := k.Configure(t.Context(), c.cfg); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if s := shown(t, "hrv-office"); !isPresent(t, k)[0] || c.mac != "" && (!strings.Contains(s, c.mac) || !strings.Contains(s, ",UP")) || c.mac == "" && !strings.Contains(s, "does not exist") {
			t.Errorf("%s: %v, %s", c.name, isPresent(t, k), s)
		}
		time.Sleep(50*ms + 2*lookSoon)
		if !isPresent(t, k)[0] || k.Repairs() != 0 {
			t.Errorf("%s, a moment later: %v, %d repairs", c.name, isPresent(t, k), k.Repairs())
		}
	}
}

// TestVirtualMACFewer: while the addresses are held one of two goes, and the
// device goes on answering for the other.
func TestVirtualMACFewer(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	other := Address{Device: "hrv-office", Prefix: pfx("192.168.77.9/24"), Link: "office"}
	longer := Address{Device: "hrv-office", Prefix: pfx("192.168.77.1/25"), Link: "office"}
	k := newKeeper(t, Config{Addresses: []Address{lanMAC, other}, MACs: []VirtualMAC{office}, Timing: never})
	start(t, k)
	add(t, k)
	for _, as := range [][]Address{{lanMAC}, {longer}} {
		if err := k.Configure(t.Context(), Config{Addresses: as, MACs: []VirtualMAC{office}, Timing: never}); err != nil {
			t.Fatal(err)
		}
		if s := shown(t, "hrv-office"); !isPresent(t, k)[0] || strings.Contains(s, "NOARP") {
			t.Errorf("with %v: %s", as, s)
		}
	}
	removeAll(t, k)
	if s := shown(t, "hrv-office"); !strings.Contains(s, "NOARP") {
		t.Errorf("not held: %s", s)
	}
}

// TestVirtualMAC6: the device of the IPv6 virtual router has its addresses while
// they are held, and none of its own; from the moment on that they go no frame
// leaves with that MAC, none that tells of groups either.
func TestVirtualMAC6(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	s := newStranger(t, "lan0")
	s.sh("ip addr add 2001:db8::100/64 dev eth0 nodad")
	six := VirtualMAC{Name: "hrv6-office", Parent: "lan0", MAC: net.HardwareAddr{0, 0, 0x5e, 0, 2, 51}}
	a := Address{Device: "hrv6-office", Prefix: pfx("2001:db8::1/64"), Link: "office"}
	b := Address{Device: "hrv6-office", Prefix: pfx("fe80::51/64"), Link: "office"} // not what the kernel makes of that MAC
	k := newKeeper(t, Config{
		Addresses: []Address{lanMAC, a, b}, MACs: []VirtualMAC{office, six}, Timing: never,
		Own:       []OwnAddress{{Device: "lan0", Prefix: pfx("fe80::a9fe:3301/128")}},
		MayRepair: func() bool { return false }, // when the guard was here
	})
	start(t, k)
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ifi, err := net.InterfaceByName("lan0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		t.Fatal(err)
	}
	var frames atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			if n > 12 && string(buf[6:12]) == string(six.MAC) {
				frames.Add(1)
			}
		}
	}()
	defer func() { _ = c.Close(); <-done }()
	for _, remove := range []func() error{
		func() error { return k.Remove(t.Context()) },
		func() error { return r.Remove([]Address{lanMAC, a, b}) }, // as the guard does
		func() error { return k.Remove(t.Context()) },
	} {
		before := frames.Load()
		add(t, k)
		if got := isPresent(t, k); !slices.Equal(got, []bool{true, true, true}) || !isUp(t, "hrv6-office") {
			t.Errorf("%v, %s", got, shown(t, "hrv6-office"))
		}
		eventually(t, "frames with the MAC", func() bool { return frames.Load() > before })
		if got := on6(t, "hrv6-office"); len(got) != 2 {
			t.Errorf("%v", got)
		}
		if got := s.sh("timeout 2 bash -c \"</dev/tcp/2001:db8::1/9\" 2>&1 || true"); !strings.Contains(got, "refused") {
			t.Error(got)
		}
		if got := s.sh("ip -6 neigh show 2001:db8::1"); !strings.Contains(got, "00:00:5e:00:02:33") {
			t.Error(got)
		}
		if err := remove(); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * ms) // for what was captured
		silent := frames.Load()
		if got := isPresent(t, k); slices.Contains(got, true) {
			t.Errorf("still there: %v", got)
		}
		time.Sleep(hushAfter + 100*ms)
		if n := frames.Load() - silent; n > 0 {
			t.Errorf("%d frames with the MAC after its addresses went", n)
		}
		k.LinkChanged("hrv6-office")
		eventually(t, "it is off", func() bool { return !isUp(t, "hrv6-office") })
		removeAll(t, k)
	}
	if got := on6(t, "lan0"); len(got) > 0 {
		t.Errorf("on the parent: %v", got)
	}

	// In a network where the node has an address of its own there is one way: its.
	netlab.Sh(t, "ip addr add 2001:db8::2/64 dev lan0 nodad")
	add(t, k)
	if ways := netlab.Sh(t, "ip -6 route show 2001:db8::/64"); strings.Count(ways, "\n") != 1 || !strings.Contains(ways, "dev lan0") {
		t.Error(ways)
	}
	if got := s.sh("timeout 2 bash -c \"</dev/tcp/2001:db8::1/9\" 2>&1 || true"); !strings.Contains(got, "refused") {
		t.Error(got)
	}
}
