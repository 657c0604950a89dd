package wire

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"harouter/test/netlab"
	"harouter/vrrp"
)

// TestIPv6: a lan with addresses of both families has adverts of both, each
// with its own source; who hears them names one lan. A list that needs
// fragments arrives whole.
func TestIPv6(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	netlab.Sh(t, "ip addr add fe80::1/64 dev lan0 nodad; ip addr add fe80::2/64 dev lan0 nodad; ip addr add 2001:db8::2/64 dev lan0 nodad")
	ns.sh("ip addr add fe80::3/64 dev lan0 nodad")
	both := Link{Name: "office", Device: "lan0", Addresses: []netip.Addr{ip("2001:db8::1"), ip("192.168.77.1"), ip("fe80::1")}}
	for i := len(both.Addresses); i <= 2+200; i++ {
		both.Addresses = append(both.Addresses, ip(fmt.Sprintf("2001:db8:1::%x", i)))
	}
	set := func(c *Config) { c.Links, c.Virtual = []Link{both}, append(c.Virtual, ip("fe80::1")) }
	// The kernel's own link-local addresses would be as good.
	netlab.Sh(t, "for a in $(ip -6 -o addr show dev lan0 scope link | awk '{print $4}' | grep -v -e '^fe80::[123]/'); do ip addr del $a dev lan0; done")
	a, b := start(t, nil, set), start(t, ns, set)
	a.ready(t, 2)
	b.ready(t, 2)
	a.Once(200)
	eventually(t, "both adverts", func() bool { return len(b.heard.all()) >= 2 })
	want := []string{
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 200",
		"[office] fe80::2 > ff02::12 ttl 255 priority 200",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
	for _, r := range b.heard.all() {
		list, first := 1, ip("192.168.77.1")
		if r.Src.Is6() {
			list, first = 202, ip("fe80::1")
		}
		if len(r.Advert.Addresses) != list || r.Advert.Addresses[0] != first || r.Checksum != vrrp.ChecksumPseudo {
			t.Errorf("%v lists %d addresses, %v first, checksum %v", r.Src, len(r.Advert.Addresses), r.Advert.Addresses[0], r.Checksum)
		}
	}
	if own := a.heard.lines(); len(own) != 0 {
		t.Errorf("heard itself: %q", own)
	}

	// What the guard would send, and what must not be taken.
	b.heard.reset()
	frames, err := a.Frames(0)
	if err != nil {
		t.Fatal(err)
	}
	routed, spoilt := frames[1], frames[1]
	routed.TTL = 254
	spoilt.Src = ip("2001:db8::2") // the checksum is for another source
	if err := SendFrames(append(frames, routed, spoilt)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "four packets", func() bool { return len(b.heard.all()) >= 4 })
	want = []string{
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 0",
		"[office] 2001:db8::2 > ff02::12 ttl 255 drop checksum",
		"[office] fe80::2 > ff02::12 ttl 254 drop ttl",
		"[office] fe80::2 > ff02::12 ttl 255 priority 0",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}

	// Without the address of one family the other goes on, and back.
	b.heard.reset()
	netlab.Sh(t, "ip addr del fe80::2/64 dev lan0")
	a.LinkChanged("lan0")
	a.ready(t, 1)
	netlab.Sh(t, "ip addr add fe80::4/64 dev lan0 nodad")
	a.LinkChanged("lan0")
	a.ready(t, 2)
	a.Once(7)
	eventually(t, "from the new address", func() bool { return len(b.heard.all()) >= 2 })
	want = []string{
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 7",
		"[office] fe80::4 > ff02::12 ttl 255 priority 7",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}

	// A socket without a path serves one of its family only.
	configure(t, b, func(c *Config) { set(c); c.Local = ip("192.168.77.3") })
	configure(t, a, func(c *Config) { c.Links = []Link{office} })
	configure(t, a, func(c *Config) {
		c.Links, c.Local, c.Peers = []Link{office}, ip("192.168.77.2"), []netip.Addr{ip("192.168.77.3")}
	})
	eventually(t, "unicast", func() bool { a.Once(1); return b.heard.links()[""] })
	configure(t, a, set)
	time.Sleep(50 * ms) // for what is still on its way
	b.heard.reset()
	a.Once(8)
	eventually(t, "both again", func() bool { return len(b.heard.all()) >= 2 })
	for _, l := range b.heard.lines() {
		if l != "[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 8" && l != "[office] fe80::4 > ff02::12 ttl 255 priority 8" {
			t.Error(l)
		}
	}
}

// TestUnicast6: nodes whose addresses are of IPv6, on a lan that has IPv4 only and
// on one that has both; what comes to another address, or to the group, is not
// theirs. The guard hears the same.
func TestUnicast6(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	netlab.Sh(t, "ip addr add fd00::2/64 dev lan0 nodad; ip addr add fd00::22/64 dev lan0 nodad; ip addr add fe80::2/64 dev lan0 nodad")
	ns.sh("ip addr add fd00::3/64 dev lan0 nodad; ip addr add fe80::3/64 dev lan0 nodad")
	netlab.Sh(t, "for a in $(ip -6 -o addr show dev lan0 scope link | awk '{print $4}' | grep -v -e '^fe80::[123]/'); do ip addr del $a dev lan0; done")
	here := func(c *Config) {
		c.Links, c.Local, c.Peers = []Link{office}, ip("fd00::2"), []netip.Addr{ip("fd00::3"), ip("192.168.77.3")}
	}
	a := start(t, nil, here)
	b := start(t, ns, func(c *Config) {
		one(c)
		c.Local, c.Peers = ip("fd00::3"), []netip.Addr{ip("fd00::2")}
	})
	h := &heard{t: t}
	done := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- Listen(ctx, Spots{Devices: []string{"lan0"}, Local: ip("fd00::2")}, h.receive) }()
	a.ready(t, 2) // not to the peer's other address
	b.ready(t, 2)
	a.Once(200)
	eventually(t, "both adverts", func() bool { return len(b.heard.all()) >= 2 })
	want := []string{
		"[] fd00::2 > fd00::3 ttl 255 priority 200",
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 200",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
	listed := func() []netip.Addr {
		for _, r := range b.heard.all() {
			if r.Link == "" {
				return r.Advert.Addresses
			}
		}
		return nil
	}
	if got := fmt.Sprint(listed()); got != "[fe80::200:5eff:fe00:233]" { // of a virtual router that has none
		t.Error(got)
	}

	b.heard.reset()
	configure(t, a, func(c *Config) {
		here(c)
		c.Links[0].Addresses = []netip.Addr{ip("2001:db8::1"), ip("fe80::1"), ip("192.168.77.1")}
		c.UnicastAddresses = c.Links[0].Addresses
		c.Virtual = append(c.Virtual, c.UnicastAddresses...)
	})
	a.ready(t, 3)
	a.Once(7)
	eventually(t, "both adverts that it listens for", func() bool { return len(b.heard.all()) >= 2 })
	time.Sleep(20 * ms)
	want = []string{
		"[] fd00::2 > fd00::3 ttl 255 priority 7",
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 7",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
	if got := fmt.Sprint(listed()); got != "[fe80::1 2001:db8::1]" {
		t.Error(got)
	}

	// As the guard hears it: the groups of both families, and its own address.
	configure(t, b, func(c *Config) {
		c.Links = []Link{{Name: "office", Device: "lan0", Addresses: []netip.Addr{ip("fe80::1"), ip("192.168.77.1")}}}
		c.Local, c.Peers = ip("fd00::3"), []netip.Addr{ip("fd00::2")}
	})
	b.ready(t, 3)
	h.reset()
	b.Once(9)
	eventually(t, "three adverts", func() bool { return len(h.all()) >= 3 })
	for i, l := range h.lines() {
		want := []string{"[] fd00::3 > fd00::2 ttl 255 priority 9", "[lan0] 192.168.77.3 > 224.0.0.18 ttl 255 priority 9", "[lan0] fe80::"}[i]
		if !strings.HasPrefix(l, want) {
			t.Errorf("%s, want %s", l, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// FuzzRead6: what is read of a packet lies within it.
func FuzzRead6(f *testing.F) {
	p := newPath("lan office over IPv6", "lan0", vrrp.Group6, 51, nil)
	p.src = ip("fe80::1")
	good := newFramed(p, make([]byte, 6), []byte("an advert")).bytes[etherLen:]
	f.Add(good)
	f.Add(append(good, 0, 0, 0))
	f.Add(good[:41])
	f.Add(good[:39])
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := read6(b)
		if ok && (!d.src.Is6() || !d.dst.Is6() || len(d.payload) > len(b)-ip6Len || d.ttl != int(b[7])) {
			t.Errorf("%x: %+v", b, d)
		}
	})
	if d, ok := read6(append(good, 0, 0, 0)); !ok || d.src != p.src || d.dst != p.dst || d.ttl != 255 || string(d.payload) != "an advert" {
		f.Errorf("%+v, %v", d, ok)
	}
}

// TestNoLoop: the kernel gives nobody here what we send to the group.
func TestNoLoop(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	for _, c := range []struct {
		open        func() (int, error)
		level, name int
	}{
		{openRaw4, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP},
		{openRaw6, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP},
	} {
		fd, err := c.open()
		if err != nil {
			t.Fatal(err)
		}
		if loop, err := unix.GetsockoptInt(fd, c.level, c.name); err != nil || loop != 0 {
			t.Errorf("level %d: %d %v", c.level, loop, err)
		}
		_ = unix.Close(fd)
	}
}

// TestVersion2: adverts of version 2 with a password, for who has it and who
// does not; on each lan with the number of that lan.
func TestVersion2(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	ns.cable("lan1", "lan1")
	netlab.Sh(t, "ip addr add 10.1.0.2/24 dev lan1")
	ns.sh("ip addr add 10.1.0.3/24 dev lan1")
	set := func(password string, labVRID uint8) func(*Config) {
		return func(c *Config) {
			c.Version, c.Interval, c.Password = 2, time.Second, password
			c.Links = []Link{office, {Name: "lab", Device: "lan1", VRID: labVRID}}
			c.Local, c.Peers = ip("192.168.77.2"), []netip.Addr{ip("192.168.77.3")}
			if labVRID == 53 { // the other one
				c.Local, c.Peers = c.Peers[0], []netip.Addr{c.Local}
			}
		}
	}
	a, b := start(t, nil, set("apple", 52)), start(t, ns, set("apple", 53))
	a.ready(t, 3)
	b.ready(t, 3)
	eventually(t, "the neighbour is known", func() bool { a.Once(1); return b.heard.links()[""] })
	time.Sleep(50 * ms) // for what is still on its way
	b.heard.reset()
	a.Once(200)
	eventually(t, "two adverts", func() bool { return len(b.heard.all()) >= 2 })
	// That of the lab is of another virtual router there.
	want := []string{
		"[] 192.168.77.2 > 192.168.77.3 ttl 255 priority 200",
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 priority 200",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
	for _, r := range b.heard.all() {
		if r.Advert.Version != 2 || r.Advert.Password != "apple" || r.Advert.VRID != 51 || r.Advert.Interval != time.Second {
			t.Errorf("%+v", r.Advert)
		}
	}
	// The lab's number and the password change on the receiver while it runs.
	b.heard.reset()
	configure(t, b, func(c *Config) { set("pear", 53)(c); c.Links[1].VRID = 52 })
	a.Once(201)
	eventually(t, "three adverts", func() bool { return len(b.heard.all()) >= 3 })
	want = []string{
		"[] 192.168.77.2 > 192.168.77.3 ttl 255 drop authentication",
		"[lab] 10.1.0.2 > 224.0.0.18 ttl 255 drop authentication",
		"[office] 192.168.77.2 > 224.0.0.18 ttl 255 drop authentication",
	}
	if diff := cmp.Diff(want, b.heard.lines()); diff != "" {
		t.Error(diff)
	}
	b.heard.reset()
	configure(t, b, func(c *Config) { set("apple", 53)(c); c.Links[1].VRID, c.Interval = 52, 2*time.Second })
	a.Once(202)
	eventually(t, "three adverts", func() bool { return len(b.heard.all()) >= 3 })
	if diff := cmp.Diff(map[string]uint64{"authentication": 3, "interval": 3}, b.Counters()); diff != "" {
		t.Error(diff)
	}
}

// TestManyAddresses: an advert lists 255 at most, two lans may have 256.
func TestManyAddresses(t *testing.T) {
	list := func(n, net byte) (out []netip.Addr) {
		for i := range n {
			out = append(out, netip.AddrFrom4([4]byte{10, net, 0, i}))
		}
		return out
	}
	cfg := settings(func(c *Config) {
		c.Links = []Link{{Name: "a", Device: "lan0", Addresses: list(255, 1)}, {Name: "b", Device: "lan1", Addresses: list(1, 2)}}
		c.Local, c.Peers, c.UnicastAddresses = ip("192.0.2.1"), []netip.Addr{ip("192.0.2.2")}, list(255, 1)
	})
	if _, err := New(cfg); err != nil {
		t.Error(err)
	}
	cfg.Links[0].Addresses = append(cfg.Links[0].Addresses, ip("10.3.0.1"))
	if _, err := New(cfg); err == nil {
		t.Error("256 on one lan were taken")
	}
}
