package vip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"harouter/test/netlab"
)

// touched collects what happens to IPv4 addresses, in order.
type touched struct {
	mu  sync.Mutex
	got []string
}

func watchAddresses(t *testing.T) *touched {
	t.Helper()
	w := &touched{}
	names := map[int]string{}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	updates, done := make(chan netlink.AddrUpdate, 100), make(chan struct{})
	if err := netlink.AddrSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	go func() {
		for u := range updates {
			if u.LinkAddress.IP.To4() == nil {
				continue
			}
			what := "-"
			if u.NewAddr {
				what = "+"
			}
			bits, _ := u.LinkAddress.Mask.Size()
			w.mu.Lock()
			w.got = append(w.got, fmt.Sprintf("%s%v/%d %s", what, u.LinkAddress.IP, bits, names[u.LinkIndex]))
			w.mu.Unlock()
		}
	}()
	return w
}

func (w *touched) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.got
	w.got = nil
	return out
}

func configure(t *testing.T, k *Keeper, cfg Config) {
	t.Helper()
	if err := k.Configure(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func at(device, prefix string) Address { return Address{Device: device, Prefix: pfx(prefix)} }

// TestConfigure goes from one set to the next, as master and as backup.
func TestConfigure(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	cable(t, "wan0")
	taps := map[string]*wiretap{"lan0": tap(t, "far-lan0"), "wan0": tap(t, "far-wan0")}
	events := watchAddresses(t)
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: never})
	start(t, k)
	add(t, k)
	eventually(t, "the first", func() bool { return taps["lan0"].count() == 2 && len(events.take()) == 1 })
	before := []Address{lan}
	gw := lan
	gw.Gateway, gw.Link = netip.MustParseAddr("192.168.77.254"), "other"
	for _, c := range []struct {
		name      string
		addresses []Address
		events    []string
		announced []string // by device and address
	}{
		{"the same", []Address{lan}, nil, nil},
		{"one more", []Address{lan, lan2}, []string{"+192.168.77.9/24 lan0"}, []string{"lan0 192.168.77.9"}},
		{"the first goes, the second steps up", []Address{lan2}, []string{"-192.168.77.1/24 lan0"}, nil},
		{"another order", []Address{lan2, lan}, []string{"+192.168.77.1/24 lan0"}, []string{"lan0 192.168.77.1"}},
		{"another gateway is no other address", []Address{lan2, gw}, nil, nil},
		{"another length", []Address{lan2, at("lan0", "192.168.77.1/25")}, []string{"+192.168.77.1/25 lan0", "-192.168.77.1/24 lan0"}, []string{"lan0 192.168.77.1"}},
		{"another device", []Address{lan2, at("wan0", "192.168.77.1/25")}, []string{"+192.168.77.1/25 wan0", "-192.168.77.1/25 lan0"}, []string{"wan0 192.168.77.1"}},
		{"all of them others", []Address{at("wan0", "10.0.0.1/24"), at("wan0", "10.0.0.2/24")}, []string{"+10.0.0.1/24 wan0", "+10.0.0.2/24 wan0", "-192.168.77.1/25 wan0", "-192.168.77.9/24 lan0"}, []string{"wan0 10.0.0.1", "wan0 10.0.0.2"}},
		{"none", nil, []string{"-10.0.0.1/24 wan0", "-10.0.0.2/24 wan0"}, nil},
	} {
		for _, w := range taps {
			w.reset()
		}
		events.take()
		configure(t, k, Config{Addresses: c.addresses, Timing: never})
		time.Sleep(20 * ms) // for what should not happen
		got := events.take()
		// A secondary that steps up is told of, too; it was there all the time.
		got = slices.DeleteFunc(got, func(s string) bool {
			return slices.ContainsFunc(before, func(a Address) bool { return s == fmt.Sprintf("+%v %s", a.Prefix, a.Device) })
		})
		before = c.addresses
		slices.Sort(got)
		slices.Sort(c.events)
		if diff := cmp.Diff(c.events, got); diff != "" && len(c.events)+len(got) > 0 {
			t.Errorf("%s: %s", c.name, diff)
		}
		var announced []string
		for d, w := range taps {
			w.mu.Lock()
			for _, p := range w.got {
				announced = append(announced, d+" "+p.SenderIP.String())
			}
			w.mu.Unlock()
		}
		slices.Sort(announced)
		if diff := cmp.Diff(c.announced, slices.Compact(announced)); diff != "" && len(c.announced)+len(announced) > 0 {
			t.Errorf("%s: announced %s", c.name, diff)
		}
		for i, p := range isPresent(t, k) {
			if !p {
				t.Errorf("%s: %v is not there", c.name, c.addresses[i])
			}
		}
	}
	if n := k.Repairs(); n != 0 {
		t.Errorf("%d repairs", n)
	}

	// As backup: what is found of the old set goes, nothing comes.
	configure(t, k, Config{Addresses: []Address{lan, wan}, Timing: never})
	removeAll(t, k)
	netlab.Sh(t, "ip addr add 192.168.77.1/24 dev lan0 noprefixroute; ip addr add 192.168.77.1/25 dev lan0; ip addr add 192.168.77.2/24 dev lan0")
	configure(t, k, Config{Addresses: []Address{lan2, wan}, Timing: never})
	if diff := cmp.Diff([]string{"192.168.77.2/24 scope global"}, dropSecondary(on(t, "lan0"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]bool{false, false}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
	add(t, k)
	if diff := cmp.Diff([]bool{true, true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
}

func dropSecondary(lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, strings.ReplaceAll(l, " secondary", ""))
	}
	return out
}

// TestConfigureRefused: nothing changes; and a device that is missing holds up
// no other address.
func TestConfigureRefused(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: never})
	start(t, k)
	add(t, k)
	err := k.Configure(t.Context(), Config{Addresses: []Address{lan2}, MACs: []VirtualMAC{{Name: "a-name-of-20-bytes-x", Parent: "lan0", MAC: office.MAC}}})
	if err == nil || !strings.Contains(err.Error(), "is no device") {
		t.Errorf("err = %v", err)
	}
	if diff := cmp.Diff([]bool{true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
	err = k.Configure(t.Context(), Config{Addresses: []Address{wan, lan2}, Timing: never})
	if err == nil || !missing(err) || !strings.Contains(err.Error(), "add 203.0.113.10/25 on wan0: ") {
		t.Errorf("err = %v, want the missing device", err)
	}
	if diff := cmp.Diff([]string{"192.168.77.9/24 scope global noprefixroute"}, on(t, "lan0")); diff != "" {
		t.Error(diff)
	}
	cable(t, "wan0")
	k.LinkChanged("wan0")
	eventually(t, "it comes with its device", func() bool { return slices.Equal(isPresent(t, k), []bool{true, true}) })
}

// TestConfigureOwn: the link-local ones follow, and a device is never without.
func TestConfigureOwn(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	cable(t, "wan0")
	cable(t, "opt0")
	own := func(prefix string, devices ...string) Config {
		c := Config{Timing: never}
		for _, d := range devices {
			c.Own = append(c.Own, OwnAddress{Device: d, Prefix: pfx(prefix)})
		}
		return c
	}
	has := func(device string, want ...string) func() bool {
		return func() bool {
			var got []string
			for _, l := range on(t, device) {
				got = append(got, strings.Fields(l)[0])
			}
			return slices.Equal(got, want)
		}
	}
	netlab.Sh(t, "ip addr add 10.9.9.9/24 dev opt0")
	k := newKeeper(t, own("169.254.51.1/32", "lan0", "wan0", "opt0"))
	start(t, k)
	eventually(t, "own addresses", func() bool { return has("lan0", "169.254.51.1/32")() && has("wan0", "169.254.51.1/32")() })
	events := watchAddresses(t)
	configure(t, k, own("169.254.52.1/32", "lan0", "opt0"))
	eventually(t, "another one, and none", func() bool { return has("lan0", "169.254.52.1/32")() && has("wan0")() })
	if diff := cmp.Diff([]string{"10.9.9.9/24 scope global"}, on(t, "opt0")); diff != "" {
		t.Error(diff)
	}
	time.Sleep(20 * ms)
	want := []string{"+169.254.52.1/32 lan0", "-169.254.51.1/32 lan0", "-169.254.51.1/32 wan0"}
	if diff := cmp.Diff(want, events.take()); diff != "" {
		t.Error(diff)
	}
	configure(t, k, own("169.254.52.1/32", "lan0", "wan0"))
	eventually(t, "and back", has("wan0", "169.254.52.1/32"))
}

// TestConfigureAmongOthers: while addresses come and go by other calls.
func TestConfigureAmongOthers(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: Timing{Refresh: 5 * ms}, Conflict: func(Conflict) {}})
	start(t, k)
	var wg sync.WaitGroup
	for _, do := range []func() error{
		func() error { return k.Configure(t.Context(), Config{Addresses: []Address{lan, lan2}, Timing: never}) },
		func() error { return k.Configure(t.Context(), Config{Addresses: []Address{lan2}, Timing: never}) },
		func() error { return k.Add(t.Context()) },
		func() error { return k.Remove(t.Context()) },
		func() error { k.Announce(); k.LinkChanged("lan0"); _, err := k.Present(); return err },
	} {
		wg.Go(func() {
			for range 100 {
				if err := do(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	removeAll(t, k)
	configure(t, k, Config{})
	if got := on(t, "lan0"); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}
