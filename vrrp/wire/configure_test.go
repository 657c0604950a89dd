package wire

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
	"harouter/vrrp"
)

// settings is what start makes, for Configure.
func settings(change func(*Config)) Config {
	cfg := Config{VRID: 51, Interval: 100 * ms, Lease: time.Minute, Virtual: []netip.Addr{ip("192.168.77.1"), ip("203.0.113.10")}}
	change(&cfg)
	return cfg
}

func configure(t *testing.T, n *node, change func(*Config)) {
	t.Helper()
	if err := n.Configure(settings(change)); err != nil {
		t.Fatal(err)
	}
}

// sockets are those that this process has open.
func sockets(t *testing.T) []string {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			out = append(out, to)
		}
	}
	slices.Sort(out)
	return out
}

// TestConfigureWhileAdvertising: lists, lans and peers come and go; who
// listens sees no gap, no advert that is neither old nor new, and no return.
func TestConfigureWhileAdvertising(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	const interval = 100 * ms
	netlab.Sh(t, fmt.Sprintf("chrt --all-tasks --rr --pid 10 %d", os.Getpid())) // other tests' load is not meant
	ns := pair(t)
	ns.cable("lan1", "lan1")
	netlab.Sh(t, "ip addr add 10.1.0.2/24 dev lan1")
	ns.sh("ip addr add 10.1.0.3/24 dev lan1")
	lab := Link{Name: "lab", Device: "lan1", Addresses: []netip.Addr{ip("10.1.0.1")}}
	b := start(t, ns, func(c *Config) { c.Links, c.Local = []Link{office, lab}, ip("192.168.77.3") })
	a := start(t, nil, one)
	a.ready(t, 1)
	b.ready(t, 2)
	a.Advertise(200, interval)
	eventually(t, "adverts", func() bool { return len(b.heard.all()) > 3 })
	kept := sockets(t)

	list := func(n int) []netip.Addr {
		var out []netip.Addr
		for i := range n {
			out = append(out, netip.AddrFrom4([4]byte{192, 168, 77, byte(100 + i)}))
		}
		return out
	}
	want := []string{fmt.Sprint(office.Addresses)}
	for n := 1; n <= 12; n++ {
		as := list(n)
		began, before := time.Now(), len(b.heard.all())
		configure(t, a, func(c *Config) {
			c.Links = []Link{{Name: "office", Device: "lan0", Addresses: as}}
			if n%2 == 0 {
				c.Links = append([]Link{lab}, c.Links...)
				c.Local, c.Peers = ip("192.168.77.2"), []netip.Addr{ip("192.168.77.3")}
			}
		})
		want = append(want, fmt.Sprint(as))
		paths := 1 + 2*((n+1)%2)
		eventually(t, "one at once on each path", func() bool { return len(b.heard.all()) >= before+paths })
		if took := time.Since(began); took > interval/2 {
			t.Errorf("change %d: on the wire after %v", n, took)
		}
		time.Sleep(time.Duration(n*17%120) * ms) // at any phase of the interval
	}
	all := b.heard.all()
	var lists []string
	var last time.Time
	for _, r := range all {
		if r.Drop != "" {
			t.Errorf("%+v", r)
		}
		if r.Link != "office" {
			continue
		}
		if gap := r.At.Sub(last); !last.IsZero() && gap > interval*3/2 {
			t.Errorf("a gap of %v", gap)
		}
		last, lists = r.At, append(lists, fmt.Sprint(r.Advert.Addresses))
	}
	if diff := cmp.Diff(want, slices.Compact(lists)); diff != "" {
		t.Errorf("lists, in order: %s", diff)
	}
	for _, s := range kept {
		if !slices.Contains(sockets(t), s) {
			t.Errorf("%s was closed", s)
		}
	}
	if n := len(sockets(t)); n > len(kept)+4 { // two paths and two places more, at most
		t.Errorf("%d sockets, were %d", n, len(kept))
	}
}

// TestConfigureRouter: id, version, checksum and interval change on both, one
// after the other; between, they ignore each other or count why.
func TestConfigureRouter(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, one)
	a := start(t, nil, one)
	a.ready(t, 1)
	b.ready(t, 1)
	a.Advertise(200, 100*ms)
	eventually(t, "adverts", func() bool { return len(b.heard.all()) > 0 })
	other := func(c *Config) {
		c.Links, c.VRID, c.Version, c.Interval = []Link{office}, 7, vrrp.Version2, time.Second
	}
	configure(t, a, other)
	b.heard.reset()
	time.Sleep(150 * ms)
	if got := b.heard.lines(); len(got) > 0 || len(b.Counters()) > 0 {
		t.Errorf("of another virtual router: %v, %v", got, b.Counters())
	}
	configure(t, b, other)
	eventually(t, "adverts of version 2", func() bool { return len(b.heard.all()) > 0 })
	if r := b.heard.all()[0]; r.Drop != "" || r.Advert.VRID != 7 || r.Advert.Version != 2 || r.Advert.Interval != time.Second {
		t.Errorf("%+v", r)
	}
	configure(t, b, func(c *Config) { other(c); c.Version = vrrp.Version3 })
	eventually(t, "the wrong version", func() bool { return b.Counters()["version"] > 0 })
	b.heard.reset()
	a.Silence()
	configure(t, a, func(c *Config) { other(c); c.Checksum, c.Version = vrrp.ChecksumPlain, vrrp.Version3 })
	time.Sleep(50 * ms)
	if got := b.heard.lines(); len(got) > 0 {
		t.Errorf("sent while silent: %v", got)
	}
	a.Advertise(200, 20*ms)
	eventually(t, "plain ones", func() bool {
		all := b.heard.all()
		return len(all) > 0 && all[0].Drop == "" && all[0].Checksum == vrrp.ChecksumPlain && all[0].Advert.Interval == 20*ms
	})
}

// TestConfigurePlaces: what is not listened at any more is not heard, and the
// other way round.
func TestConfigurePlaces(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, func(c *Config) {
		c.Links, c.Local, c.Peers = []Link{office}, ip("192.168.77.3"), []netip.Addr{ip("192.168.77.2")}
	})
	a := start(t, nil, one)
	b.ready(t, 2)
	b.Advertise(150, 20*ms)
	hears := func(want map[string]bool) {
		t.Helper()
		time.Sleep(50 * ms) // for what is on its way
		a.heard.reset()
		eventually(t, "something", func() bool { return len(a.heard.all()) > 4 })
		if diff := cmp.Diff(want, a.heard.links()); diff != "" {
			t.Error(diff)
		}
	}
	hears(map[string]bool{"office": true})
	configure(t, a, func(c *Config) { c.Links, c.Local = []Link{office}, ip("192.168.77.2") })
	hears(map[string]bool{"": true, "office": true})
	configure(t, a, func(c *Config) { c.Links, c.Local, c.UnicastOnly = []Link{office}, ip("192.168.77.2"), true })
	hears(map[string]bool{"": true})
	configure(t, a, func(c *Config) { c.Links = []Link{{Name: "renamed", Device: "lan0"}} })
	hears(map[string]bool{"renamed": true})
}

func TestConfigureRefused(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, one)
	a := start(t, nil, one)
	a.ready(t, 1)
	b.ready(t, 1)
	a.Advertise(200, 20*ms)
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"router id", func(c *Config) { c.VRID = 0 }, "router id 0"},
		{"interval", func(c *Config) { c.Interval = 5 * ms }, "interval 5ms"},
		{"lease", func(c *Config) { c.Lease = 0 }, "lease"},
		{"IPv6 on a lan", func(c *Config) {
			c.Links = []Link{{Name: "six", Device: "lan6", Addresses: []netip.Addr{ip("2001:db8::1")}}}
		}, "lan six"},
	} {
		if err := a.Configure(settings(c.change)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want one about %s", c.name, err, c.want)
		}
	}
	b.heard.reset()
	eventually(t, "the old ones go on", func() bool { return len(b.heard.all()) > 3 })
	if diff := cmp.Diff(office.Addresses, b.heard.all()[0].Advert.Addresses, cmpAddr); diff != "" {
		t.Error(diff)
	}
}

// TestConfigureBeforeRun: nothing is open, and nothing is lost.
func TestConfigureBeforeRun(t *testing.T) {
	tr, err := New(settings(one))
	if err != nil {
		t.Fatal(err)
	}
	cfg := settings(one)
	cfg.VRID = 7
	if err := tr.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if tr.cfg.VRID != 7 || len(tr.paths) != 1 {
		t.Errorf("%+v", tr.cfg)
	}
}
