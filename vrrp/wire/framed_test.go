package wire

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdpacket "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

// TestVirtualMAC: adverts with the virtual MAC are heard once, whether the
// device with that MAC is missing, down or up here, and so are those of routers
// that use their own; the farewell has the device's own MAC.
func TestVirtualMAC(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	ns.sh("ip addr add fe80::3/64 dev lan0 nodad")
	both := Link{Name: "office", Device: "lan0", MACDevice: "hrv-office", MACDevice6: "hrv6-office", Addresses: []netip.Addr{ip("192.168.77.1"), ip("fe80::1")}}
	set := func(c *Config) { c.Links, c.Virtual = []Link{both}, append(c.Virtual, ip("fe80::1")) }
	ns.sh("for a in $(ip -6 -o addr show dev lan0 scope link | awk '{print $4}' | grep -v '^fe80::3/'); do ip addr del $a dev lan0; done")
	a, b := start(t, nil, set), start(t, ns, set)
	b.ready(t, 2)
	a.ready(t, 2)
	// What of a MAC reaches each of the other's devices.
	seen := tap(t, "lan0")
	want := []string{
		"[office] 192.168.77.3 > 224.0.0.18 ttl 255 priority 200",
		"[office] fe80::3 > ff02::12 ttl 255 priority 200",
	}
	const make = "ip link add hrv-office link lan0 address 00:00:5e:00:01:33 type macvlan mode private; ip link add hrv6-office link lan0 address 00:00:5e:00:02:33 type macvlan mode private"
	sent := 0
	for _, step := range []struct{ name, line string }{
		{"missing", "true"},
		{"down", make},
		{"up", "ip link set hrv-office up; ip link set hrv6-office up"},
		{"another", "ip link del hrv-office; ip link del hrv6-office; " + make + "; ip link set hrv-office up; ip link set hrv6-office up"},
		{"gone", "ip link del hrv-office; ip link del hrv6-office"},
	} {
		netlab.Sh(t, step.line)
		a.LinkChanged("hrv-office")
		eventually(t, step.name+": it is heard", func() bool {
			b.Once(200)
			sent += 2
			lines := a.heard.lines()
			return slices.Contains(lines, want[0]) && slices.Contains(lines, want[1])
		})
		time.Sleep(20 * ms) // for what should not come
		a.heard.reset()
		b.Once(200)
		sent += 2
		eventually(t, step.name+": both adverts", func() bool { return len(a.heard.all()) >= 2 })
		time.Sleep(20 * ms)
		if diff := cmp.Diff(want, a.heard.lines()); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
		a.heard.reset()
	}
	b.Once(0)
	eventually(t, "the farewell", func() bool { return len(a.heard.all()) >= 2 })
	macs := map[string]int{}
	eventually(t, "all are captured", func() bool {
		clear(macs)
		for _, mac := range seen() {
			macs[mac]++
		}
		return len(macs) == 3
	})
	if macs["00:00:5e:00:01:33"] != sent/2 || macs["00:00:5e:00:02:33"] != sent/2 {
		t.Errorf("%d adverts came from %v", sent, macs)
	}

	// One that does not fit is refused at once.
	long := both
	for i := byte(0); i < 90; i++ {
		long.Addresses = append(long.Addresses, netip.AddrFrom16([16]byte{0x20, 1, 15: i}))
	}
	cfg := Config{VRID: 51, Interval: 100 * ms, Lease: time.Second, Links: []Link{long}}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "91 addresses do not fit into one frame") {
		t.Errorf("too many addresses: %v", err)
	}
}

// tap tells the MACs of the adverts that came to a device so far, a line each.
func tap(t *testing.T, device string) (lines func() []string) {
	t.Helper()
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := mdpacket.Listen(ifi, mdpacket.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if n > 40 && (b[23] == 112 && b[12] == 8 && b[13] == 0 || b[20] == 112 && b[12] == 0x86) {
				mu.Lock()
				all = append(all, net.HardwareAddr(b[6:12]).String())
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}
