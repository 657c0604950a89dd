package peer

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigRefuses(t *testing.T) {
	good := func() Config {
		c := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})["r1"]
		c.Handler = &recorder{}
		return c
	}
	for name, v := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":            {func(*Config) {}, ""},
		"alone":           {func(c *Config) { c.Peers = nil }, ""},
		"no name":         {func(c *Config) { c.Node = "" }, "a node name is needed"},
		"no key":          {func(c *Config) { c.Seeds = nil }, "a key is needed"},
		"no handler":      {func(c *Config) { c.Handler = nil }, "a handler is needed"},
		"small queue":     {func(c *Config) { c.Queue = 100 }, "a queue of 100 bytes is too small, at least 32768"},
		"no address":      {func(c *Config) { c.Addresses = nil }, "node r1 has no address"},
		"peer without":    {func(c *Config) { c.Peers["r2"] = nil }, "node r2 has no address"},
		"itself":          {func(c *Config) { c.Peers["r1"] = c.Peers["r2"] }, `named "r1" cannot be a peer of r1`},
		"address twice":   {func(c *Config) { c.Peers["r2"] = c.Addresses }, "192.0.2.1:7947 is an address of r1 and cannot be one of r2 too"},
		"no port":         {func(c *Config) { c.Peers["r2"] = []netip.AddrPort{netip.AddrPortFrom(at2.Addr(), 0)} }, "cannot be reached at 192.0.2.2:0"},
		"any address":     {func(c *Config) { c.Addresses = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:1")} }, "cannot be reached at 0.0.0.0:1"},
		"mapped and same": {func(c *Config) { c.Peers["r2"] = []netip.AddrPort{netip.MustParseAddrPort("[::ffff:192.0.2.1]:7947")} }, "192.0.2.1:7947 is an address of r1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good()
			v.change(&c)
			_, err := New(c)
			if v.want != "" {
				wantError(t, err, v.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWays(t *testing.T) {
	parse := func(list string) (out []netip.AddrPort) {
		for _, a := range strings.Fields(list) {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	for name, v := range map[string]struct{ own, peer, want string }{
		"one each":      {"192.0.2.1:1", "192.0.2.2:2", "192.0.2.1-192.0.2.2"},
		"two each":      {"192.0.2.1:1 10.0.0.1:1", "192.0.2.2:2 10.0.0.2:2", "192.0.2.1-192.0.2.2 10.0.0.1-10.0.0.2 192.0.2.1-10.0.0.2 10.0.0.1-192.0.2.2"},
		"peer has more": {"192.0.2.1:1", "10.0.0.2:2 192.0.2.2:2", "192.0.2.1-10.0.0.2 192.0.2.1-192.0.2.2"},
		"two families":  {"[2001:db8::1]:1 192.0.2.1:1", "192.0.2.2:2 [2001:db8::2]:2", "2001:db8::1-2001:db8::2 192.0.2.1-192.0.2.2"},
		"none":          {"[2001:db8::1]:1", "192.0.2.2:2", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := &roster{cfg: Config{Addresses: parse(v.own), Peers: map[string][]netip.AddrPort{"r2": parse(v.peer)}}}
			var got []string
			for _, w := range r.ways("r2") {
				got = append(got, w.local.Addr().String()+"-"+w.remote.Addr().String())
			}
			if diff := cmp.Diff(v.want, strings.Join(got, " ")); diff != "" && name != "two families" {
				t.Error(diff)
			} else if name == "two families" && len(got) != 2 {
				t.Error(got)
			}
		})
	}
}

// TestConfigure: what may change while sessions live, and what ends them.
func TestConfigure(t *testing.T) {
	type nodes = map[string][]string
	base := nodes{"r1": {"192.0.2.1:7947"}, "r2": {"192.0.2.2:7947"}}
	for name, v := range map[string]struct {
		to             nodes
		change         func(*Config) // of both
		only           string        // one node is configured
		r1Told, r2Told string
	}{
		"nothing changed":  {to: base, r1Told: "up r2", r2Told: "up r1"},
		"one more address": {to: nodes{"r1": {"192.0.2.1:7947", "10.0.0.1:7947"}, "r2": {"192.0.2.2:7947"}}, r1Told: "up r2", r2Told: "up r1"},
		"another order":    {to: nodes{"r1": {"10.0.0.1:7947", "192.0.2.1:7947"}, "r2": {"10.0.0.2:7947", "192.0.2.2:7947"}}, r1Told: "up r2", r2Told: "up r1"},
		"one more node": {to: nodes{"r1": base["r1"], "r2": base["r2"], "r3": {"192.0.2.3:7947"}},
			r1Told: "up r2, down r3 unreachable", r2Told: "up r1, down r3 unreachable"},
		"an older key too":  {to: base, change: func(c *Config) { c.Seeds = [][32]byte{seedA, seedB} }, r1Told: "up r2", r2Told: "up r1"},
		"a newer key first": {to: base, change: func(c *Config) { c.Seeds = [][32]byte{seedB, seedA} }, r1Told: "up r2", r2Told: "up r1"},
		"another key": {to: base, change: func(c *Config) { c.Seeds = [][32]byte{seedB} },
			r1Told: "up r2, down r2 configured, up r2", r2Told: "up r1, down r1 left, up r1"},
		"r2 moves": {to: nodes{"r1": base["r1"], "r2": {"192.0.2.22:7947"}},
			r1Told: "up r2, down r2 configured, up r2", r2Told: "up r1, down r1 left, up r1"},
		"r2 forgotten": {to: nodes{"r1": base["r1"]}, only: "r1",
			r1Told: "up r2, down r2 configured", r2Told: "up r1, down r1 left"},
	} {
		t.Run(name, func(t *testing.T) {
			virtually(t, func(t *testing.T, l *lab) {
				r1, r2 := l.pair()
				bothUp(t, r1, r2)
				all := cluster(v.to)
				for name, n := range map[string]*node{"r1": r1, "r2": r2} {
					if v.only != "" && v.only != name {
						continue
					}
					c := all[name]
					if v.change != nil {
						v.change(&c)
					}
					if err := n.Configure(c); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second)
				synctest.Wait()
				// Which of the two ends the session is a matter of chance.
				plain := func(told []string) string {
					return strings.ReplaceAll(strings.Join(told, ", "), "configured", "left")
				}
				got1 := strings.ReplaceAll(plain(r1.told()), "down r2 unreachable, ", "")
				got1 = strings.ReplaceAll(got1, "down r2 key, ", "")
				got2 := strings.ReplaceAll(plain(r2.told()), "down r1 key, ", "")
				if diff := cmp.Diff(strings.ReplaceAll(v.r1Told, "configured", "left"), got1); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(v.r2Told, got2); diff != "" {
					t.Error(diff)
				}
				if up := strings.Contains(got1, "up r2") && !strings.HasSuffix(got1, "left"); up && barrier(r1, "r2") != nil {
					t.Error("no barrier passes")
				}
			})
		})
	}
}

func TestConfigureRefuses(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		c := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at1.String()}})["r1"]
		wantError(t, r1.Configure(c), "cannot be one of r2 too")
		c.Node = "rx"
		wantError(t, r1.Configure(c), "r1 cannot become rx")
		time.Sleep(time.Second)
		if r1.last() != "up r2" {
			t.Error(r1.told())
		}
	})
}

// TestRemovedAndBack: a node that goes and comes again has its events in order.
func TestRemovedAndBack(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		r1, r2 := l.pair()
		bothUp(t, r1, r2)
		with, without := cluster(map[string][]string{"r1": {at1.String()}, "r2": {at2.String()}})["r1"], cluster(map[string][]string{"r1": {at1.String()}})["r1"]
		open := r1.shut()
		r2.Send("r1", []byte("x"))
		time.Sleep(time.Millisecond)
		for _, c := range []Config{without, with} {
			if err := r1.Configure(c); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		time.Sleep(3 * time.Second)
		if r1.last() != "up r2" {
			t.Errorf("while its handler waits: %v", r1.told())
		}
		open()
		within(t, 4*time.Second, "up again", func() bool { return r1.count("up r2") == 2 })
		if diff := cmp.Diff([]string{"up r2", "down r2 configured", "up r2"}, r1.told()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestFallback: the cable dies and the session goes on over the LAN.
func TestFallback(t *testing.T) {
	virtually(t, func(t *testing.T, l *lab) {
		all := cluster(map[string][]string{"r1": {"10.0.0.1:7947", "192.0.2.1:7947"}, "r2": {"10.0.0.2:7947", "192.0.2.2:7947"}})
		r2 := l.node(all["r2"])
		synctest.Wait()
		r1 := l.node(all["r1"])
		bothUp(t, r1, r2)
		via := func() string { return r1.Sessions.session("r2").remote.Addr().String() }
		if via() != "10.0.0.2" {
			t.Errorf("the session is via %s", via())
		}
		l.cut("10.0.0.2", true)
		took := within(t, 2*time.Second, "up again", func() bool { return r1.count("up r2") == 2 && r2.last() == "up r1" })
		if via() != "192.0.2.2" {
			t.Errorf("the session is via %s", via())
		}
		t.Logf("it took %v", took)
		l.cut("10.0.0.2", false)
		time.Sleep(time.Minute)
		if via() != "192.0.2.2" || r1.last() != "up r2" {
			t.Errorf("a session that works was left: %v", r1.told())
		}
	})
}
