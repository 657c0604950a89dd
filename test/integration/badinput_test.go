package integration

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
	"harouter/vrrp"
)

// advert is an advert as the pair's own, before anything is spoilt.
func advert(t *testing.T, priority uint8, src, dst netip.Addr) []byte {
	t.Helper()
	b, err := vrrp.Advert{Version: vrrp.Version3, VRID: 51, Priority: priority, Interval: advertise, Addresses: []netip.Addr{site.LANAddress}}.
		Append(nil, src, dst, vrrp.ChecksumPseudo)
	must(t, err)
	return b
}

// TestBadPackets sends one kind of bad packet after the other: each is counted
// under its own reason and no other, the alarm is there within 2 s and gone 10 s
// after the last, and neither the role nor the traffic feels anything.
func TestBadPackets(t *testing.T) {
	t.Parallel()
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	must(t, c.Wait("the alarms of the start are gone", "r1", 12*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 }))
	before := map[string]ha.Status{}
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		before[r] = s
	}
	client := load(t, c)
	c.Mark("bad")

	stranger := netip.MustParseAddr("192.168.77.66")
	r1, r2 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	v2, err := vrrp.Advert{Version: vrrp.Version2, VRID: 51, Priority: 254, Interval: time.Second, Addresses: []netip.Addr{site.LANAddress}}.
		Append(nil, stranger, vrrp.Group4, vrrp.ChecksumPlain)
	must(t, err)
	multicast := func(priority uint8, change func([]byte) []byte) netlab.Forgery {
		b := advert(t, priority, stranger, vrrp.Group4)
		if change != nil {
			b = change(b)
		}
		return netlab.Forgery{Device: "eth0", Src: stranger, Dst: vrrp.Group4, TTL: 255, Protocol: vrrp.Protocol, Payload: b}
	}
	unicast := func(src netip.Addr, ttl uint8, change func([]byte) []byte) netlab.Forgery {
		b := advert(t, 254, src, r1)
		if change != nil {
			b = change(b)
		}
		return netlab.Forgery{Device: "sync0", Src: src, Dst: r1, TTL: ttl, Protocol: vrrp.Protocol, Payload: b}
	}
	flip := func(at int) func([]byte) []byte { return func(b []byte) []byte { b[at] ^= 0x40; return b } }
	const each = 5
	for _, v := range []struct {
		name, reason, code string
		from               string
		packet             netlab.Forgery
	}{
		{"an unknown sender with our VRID", "sender", ha.AlarmForeignVRRP, "h1", multicast(254, nil)},
		{"an unknown sender with priority 255", "sender", ha.AlarmForeignVRRP, "h1", multicast(255, nil)},
		{"an unknown sender that leaves", "sender", ha.AlarmForeignVRRP, "h1", multicast(0, nil)},
		{"a wrong checksum", "checksum", ha.AlarmBadAdvert, "h1", multicast(254, flip(6))},
		{"more addresses than there are", "length", ha.AlarmBadAdvert, "h1", multicast(254, func(b []byte) []byte { b[3] = 200; return b })},
		{"half a header", "length", ha.AlarmBadAdvert, "h1", multicast(254, func(b []byte) []byte { return b[:5] })},
		{"nothing at all", "length", ha.AlarmBadAdvert, "h1", multicast(254, func([]byte) []byte { return nil })},
		{"another type", "type", ha.AlarmBadAdvert, "h1", multicast(254, func(b []byte) []byte { b[0] = 0x32; return b })},
		{"version 2", "version", ha.AlarmVersionMix, "h1", netlab.Forgery{Device: "eth0", Src: stranger, Dst: vrrp.Group4, TTL: 255, Protocol: vrrp.Protocol, Payload: v2}},
		{"CARP", "carp", ha.AlarmForeignVRRP, "h1", netlab.Forgery{Device: "eth0", Src: netip.MustParseAddr("192.168.77.67"), Dst: vrrp.Group4, TTL: 255, Protocol: vrrp.Protocol,
			Payload: append([]byte{0x21, 51, 0, 7, 0, 1, 0, 0}, make([]byte, 28)...)}},
		{"version 15", "version", ha.AlarmVersionMix, "h1", multicast(254, func(b []byte) []byte { b[0] = 0xf1; return b })},
		{"unicast from afar", "ttl", ha.AlarmBadAdvert, "r2", unicast(r2, 254, nil)},
		{"unicast with a wrong checksum", "checksum", ha.AlarmBadAdvert, "r2", unicast(r2, 255, flip(7))},
		{"unicast from a stranger", "sender", ha.AlarmForeignVRRP, "r2", unicast(netip.MustParseAddr("192.0.2.99"), 255, nil)},
		{"random bytes after our VRID", "version", ha.AlarmVersionMix, "r2", unicast(r2, 255, func([]byte) []byte { return []byte(strings.Repeat("\xa5\x33\x00\xff", 300)) })},
	} {
		t.Run(v.name, func(t *testing.T) {
			was, err := c.Status("r1")
			must(t, err)
			for range each {
				must(t, c.Node(v.from).SendIP(v.packet))
			}
			must(t, c.Wait("counted and shown", "r1", 2*time.Second, func(s ha.Status) bool {
				return s.Drops.VRRP[v.reason] >= was.Drops.VRRP[v.reason]+each && slices.ContainsFunc(s.Alarms, func(a ha.Alarm) bool {
					return a.Code == v.code && a.Subject == v.packet.Src.String()
				})
			}))
			now, err := c.Status("r1")
			must(t, err)
			for reason, n := range now.Drops.VRRP {
				want := was.Drops.VRRP[reason]
				if reason == v.reason {
					want += each
				}
				if n != want {
					t.Errorf("drops %q: %d, want %d", reason, n, want)
				}
			}
		})
	}
	t.Run("gossip", func(t *testing.T) {
		to := netip.AddrPortFrom(r1, 7946)
		for _, junk := range []string{"", "x", "garbage, not gossip", strings.Repeat("\xff", 1400), "\x0c" + strings.Repeat("\x00", 60)} {
			must(t, c.Router("r2").SendUDP("sync0", netip.AddrPortFrom(r2, 7946), to, 64, []byte(junk)))
		}
		_, err := c.Router("r2").Exec("bash", "-c", `for i in 1 2 3; do head -c 3000 /dev/urandom > /dev/tcp/192.0.2.1/7946 || true; done; exec 7<>/dev/tcp/192.0.2.1/7946; printf '\000\000\377\377\377\377' >&7 || true`)
		if err != nil {
			t.Logf("the daemon hung up: %v", err)
		}
		must(t, c.Wait("counted", "r1", 2*time.Second, func(s ha.Status) bool {
			return s.Drops.Gossip["garbage"] >= before["r1"].Drops.Gossip["garbage"]+4
		}))
	})
	t.Run("control", func(t *testing.T) { badRequests(t, c) })
	last := netlab.Now()

	for _, r := range []string{"r1", "r2"} {
		now, err := c.Status(r)
		must(t, err)
		if now.Role != before[r].Role || now.VRRP.Transitions != before[r].VRRP.Transitions || now.PlanHash != before[r].PlanHash {
			t.Errorf("%s: was %v after %d transitions, is %v after %d", r, before[r].Role, before[r].VRRP.Transitions, now.Role, now.VRRP.Transitions)
		}
		if out, err := c.Command(r, "status"); err != nil || strings.Count(out, "foreign_vrrp") == 0 {
			t.Errorf("%s: status does not show the alarms: %v\n%s", r, err, out)
		} else {
			fits(t, out)
		}
	}
	rep := report(t, client)
	quietly(t, "silence seen by the host", rep, rep.PingGapSince("bad"), noise, "none")
	if n := rep.FreshFailedSince("bad"); n > 0 {
		t.Errorf("%d fresh connections failed", n)
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Wait("the alarms are gone", r, 12*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 }))
		atMost(t, "the alarms are gone on "+r, netlab.Now().Sub(last), 10*time.Second+noise, "9 s")
		if log := c.Log(r); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
			t.Errorf("%s panicked", r)
		}
	}
}

// TestRow18ForgedAdvert: adverts of priority 254, and farewells, with the other
// node's own address as source and TTL 255, sent by a host of the LAN: nobody
// obeys, since the node itself denies them. It has 50 ms to do so: not beside other
// tests.
func TestRow18ForgedAdvert(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	client := load(t, c)
	before := map[string]ha.Status{}
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		before[r] = s
	}
	c.Mark("forged")
	from := func(a string, priority uint8) netlab.Forgery {
		src := netip.MustParseAddr(a)
		return netlab.Forgery{Device: "eth0", Src: src, Dst: vrrp.Group4, TTL: 255, Protocol: vrrp.Protocol, Payload: advert(t, priority, src, vrrp.Group4)}
	}
	for range 100 {
		for _, f := range []netlab.Forgery{from("192.168.77.3", 254), from("192.168.77.2", 0)} {
			must(t, c.Host("h1").SendIP(f))
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Wait("forged adverts are counted and shown", r, 2*time.Second, func(s ha.Status) bool {
			return s.Drops.VRRP["forged"] > 0 && hasAlarm(s, ha.AlarmForgedAdvert)
		}))
		s, err := c.Status(r)
		must(t, err)
		if s.Role != before[r].Role || s.VRRP.Transitions != before[r].VRRP.Transitions {
			t.Errorf("%s was %v and is %v, %d transitions", r, before[r].Role, s.Role, s.VRRP.Transitions-before[r].VRRP.Transitions)
		}
	}
	rep := report(t, client)
	quietly(t, "silence seen by the host", rep, rep.PingGapSince("forged"), noise, "none")
}

// badRequests tries what a client of the control socket should not do; the
// daemon answers the next one all the same.
func badRequests(t *testing.T, c *site.Cluster) {
	path := filepath.Join(c.Router("r1").RunDir(), "harouter.sock")
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("unix", path)
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(3*time.Second)))
		return conn
	}
	for name, junk := range map[string]string{
		"zeros":            strings.Repeat("\x00", 100) + "\n",
		"endless":          strings.Repeat("a", 1<<20),
		"half a line":      `{"command":`,
		"a list":           "[1,2]\n",
		"unknown":          `{"command":"nonsense"}` + "\n",
		"no command":       "{}\n",
		"wrong arguments":  `{"command":"failover","args":[1]}` + "\n",
		"wrong argument":   `{"command":"failover","args":{"to":7}}` + "\n",
		"arguments of nil": `{"command":"status","args":null}` + "\n",
	} {
		conn := dial()
		_, _ = conn.Write([]byte(junk)) // it may hang up in the middle
		_ = conn.(*net.UnixConn).CloseWrite()
		answer := make([]byte, 1<<16)
		n, err := conn.Read(answer)
		var said struct{ Error string }
		if name != "arguments of nil" && !errors.Is(err, os.ErrDeadlineExceeded) && n > 0 {
			if json.Unmarshal(answer[:n], &said) != nil || said.Error == "" {
				t.Errorf("%s: answer %q", name, answer[:n])
			}
		} else if n == 0 {
			t.Errorf("%s: no answer: %v", name, err)
		}
		conn.Close()
	}
	var silent []net.Conn
	for range 20 { // clients that connect and say nothing
		silent = append(silent, dial())
	}
	if _, err := c.Status("r1"); err != nil {
		t.Errorf("with silent clients: %v", err)
	}
	for _, s := range silent {
		s.Close()
	}
}

// TestTwoKeys: nodes with different keys cannot gossip, but VRRP still elects
// one of them, and each serves when the other dies.
func TestTwoKeys(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	key := filepath.Join(c.Router("r2").ConfigDir(), "cluster.key")
	must(t, os.WriteFile(key, []byte(base64.StdEncoding.EncodeToString([]byte("this key is not the cluster's !!"))+"\n"), 0o600))
	must(t, c.Run("r1")) // first, or the lesser one may be a moment earlier
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	must(t, c.Run("r2"))
	at := netlab.Now()
	for r, role := range map[string]ha.Role{"r1": ha.RoleMaster, "r2": ha.RoleBackup} {
		must(t, c.Wait("healthy, with the alarm bad_key", r, 5*time.Second, func(s ha.Status) bool {
			return s.Role == role && s.VRRP.Master == "r1" && hasAlarm(s, ha.AlarmBadKey) && s.Drops.Gossip["key"] > 0 &&
				s.Uplinks[0].State.String() == "up" && s.Uplinks[1].State.String() == "up"
		}))
	}
	if o := c.Watch().Overlap(site.LANAddress, at); o > 0 {
		t.Errorf("two held the address for %v", o)
	}
	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	must(t, c.Wait("the alarm bad_key is gone", "r2", 10*time.Second+noise, func(s ha.Status) bool { return !hasAlarm(s, ha.AlarmBadKey) }))
}

// mistakes are changes of the standard file that make it wrong, each with a
// word that must be in the answer.
var mistakes = []struct{ name, old, text, want string }{
	{"an unknown key", "cluster: home", "cluster: home\ncolour: blue", `unknown key "colour"`},
	{"no cluster", "cluster: home\n", "", "cluster is missing"},
	{"a tab", "  r1: {", "\tr1: {", ""},
	{"a brace that stays open", "priority: 150}", "priority: 150", ""},
	{"a key twice", "weight: 2", "weight: 2\n    weight: 3", "stands twice"},
	{"VRID 0", "id: 51", "id: 0", "1 to 255"},
	{"VRID 256", "id: 51", "id: 256", "1 to 255"},
	{"an interval of 5 ms", "advertise: 100ms", "advertise: 5ms", "10ms"},
	{"an interval without unit", "advertise: 100ms", "advertise: 100", "advertise"},
	{"priority 255", "priority: 200", "priority: 255", "1 to 254"},
	{"one address for two nodes", "address: 192.0.2.2", "address: 192.0.2.1", "twice"},
	{"a node on the virtual address", "address: 192.0.2.2", "address: 192.168.77.1", "twice"},
	{"a node twice", "  r2: {", "  r1: {", "stands twice"},
	{"no address", "address: 192.0.2.2, ", "", "address is missing"},
	{"a name twice", "name: dsl", "name: cable", "a different name"},
	{"networks that overlap", "203.0.113.140/25", "203.0.113.11/25", "overlap"},
	{"an address twice", "203.0.113.140/25", "203.0.113.10/25", ""},
	{"an address without prefix", "192.168.77.1/24", "192.168.77.1", "prefix"},
	{"a weight in words", "weight: 2", "weight: heavy", "heavy"},
	{"a weight of 256", "weight: 2", "weight: 256", "0 to 255"},
	{"weights all 0", "weight: 2\n", "weight: 0\n", "weight"}, // dsl's too: see below
	{"a gateway that is none", "gateway: 203.0.113.129", "gateway: router", "router"},
	{"a gateway of IPv6", "gateway: 203.0.113.1\n", "gateway: fd00::1\n", "IPv4 only"},
	{"a method that is none", "weight: 2", "weight: 2\npolicies: [{name: default, method: fastest}]", ""},
	{"fall 0", "fall: 3", "fall: 0", "fall"},
}

// TestMistakes: check and run tell every mistake, with line and column, end
// with 2, and nothing is applied.
func TestMistakes(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before := all(t, c, "r1")
	place := c.ConfigFile("r1") + ":"
	refused := func(t *testing.T, text string, wants ...string) {
		t.Helper()
		must(t, os.WriteFile(c.ConfigFile("r1"), []byte(text), 0o644))
		for _, verb := range []string{"check", "run"} {
			_, err := c.Command("r1", verb)
			if err == nil {
				t.Fatalf("%s accepts it", verb)
			}
			said := err.Error()
			if !strings.Contains(said, "exit status 2") || !strings.Contains(said, place) {
				t.Errorf("%s: %v; want exit status 2 and %s", verb, err, place)
			}
			for _, want := range wants {
				if !strings.Contains(said, want) {
					t.Errorf("%s: %v; want %q", verb, err, want)
				}
			}
		}
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			text := site.Replace(site.Config, m.old, m.text)
			if m.name == "weights all 0" {
				text = site.Replace(text, "weight: 1\n", "weight: 0\n")
			}
			refused(t, text, m.want)
		})
	}
	t.Run("all at once", func(t *testing.T) {
		text := site.Config
		var wants []string
		for _, name := range []string{"an unknown key", "VRID 0", "an interval of 5 ms", "priority 255", "a weight in words", "fall 0"} {
			m := mistakes[slices.IndexFunc(mistakes, func(m struct{ name, old, text, want string }) bool { return m.name == name })]
			text = site.Replace(text, m.old, m.text)
			wants = append(wants, m.want)
		}
		refused(t, text, append(wants, "colour", "5ms", "priority")...)
	})
	t.Run("no file", func(t *testing.T) {
		must(t, os.Remove(c.ConfigFile("r1")))
		for _, verb := range []string{"check", "run"} {
			if _, err := c.Command("r1", verb); err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), "harouter.yaml") {
				t.Errorf("%s: %v", verb, err)
			}
		}
	})
	must(t, os.WriteFile(c.ConfigFile("r1"), []byte(site.Config), 0o644))
	if after := all(t, c, "r1"); after != before {
		t.Errorf("something was applied:\nbefore:\n%s\nafter:\n%s", before, after)
	}
	t.Run("places that cannot be used", func(t *testing.T) { badPlaces(t, c, before) })
}

// badPlaces: no root, no run directory, an unknown node end with one sentence
// and change nothing; a state directory that cannot be written does not matter.
func badPlaces(t *testing.T, c *site.Cluster, before string) {
	n := c.Router("r1")
	// Somebody without rights cannot look into the site's folders.
	open, err := os.MkdirTemp("", "harouter-nobody-")
	must(t, err)
	defer os.RemoveAll(open)
	must(t, os.Chmod(open, 0o777))
	for _, f := range []struct {
		from, to string
		mode     os.FileMode
	}{{c.Binary, "harouter", 0o755}, {c.ConfigFile("r1"), "harouter.yaml", 0o644}} {
		b, err := os.ReadFile(f.from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(open, f.to), b, f.mode))
	}
	file := filepath.Join(open, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	nobody := []string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", filepath.Join(open, "harouter"),
		"--config", filepath.Join(open, "harouter.yaml"), "--node", "r1", "--run-dir", filepath.Join(open, "run"), "--state-dir", open}
	for _, v := range []struct {
		name, code, want string
		argv             []string
	}{
		{"run without root", "exit status 1", "needs root", append(slices.Clone(nobody), "run")},
		{"stop --clean without root", "exit status 1", "needs root", append(slices.Clone(nobody), "stop", "--clean")},
		{"no run-dir", "exit status 1", "file", []string{c.Binary, "--config", c.ConfigFile("r1"), "--node", "r1", "--run-dir", filepath.Join(file, "run"), "--state-dir", open, "run"}},
		{"a run-dir that takes no file", "exit status 1", "/proc/sys", []string{c.Binary, "--config", c.ConfigFile("r1"), "--node", "r1", "--run-dir", "/proc/sys", "--state-dir", open, "run"}},
		{"an unknown node", "exit status 2", `no node "r9"`, []string{c.Binary, "--config", c.ConfigFile("r1"), "--node", "r9", "--run-dir", n.RunDir(), "--state-dir", open, "run"}},
		{"another key file", "exit status 2", "elsewhere", []string{c.Binary, "--config", c.ConfigFile("r1"), "--key-file", "/elsewhere", "--node", "r1", "--run-dir", n.RunDir(), "--state-dir", open, "run"}},
	} {
		_, err := n.Exec(v.argv...)
		if err == nil || !strings.Contains(err.Error(), v.code) || !strings.Contains(err.Error(), v.want) || strings.Contains(err.Error(), "goroutine ") {
			t.Errorf("%s: %v; want %s and %q", v.name, err, v.code, v.want)
		}
	}
	if after := all(t, c, "r1"); after != before {
		t.Errorf("something was applied:\nbefore:\n%s\nafter:\n%s", before, after)
	}
	// /proc/sys is there, and nobody writes into it.
	p, err := n.Start("stateless", c.Binary, "--config", c.ConfigFile("r1"), "--node", "r1", "--run-dir", n.RunDir(), "--state-dir", "/proc/sys", "run")
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	must(t, c.Settled("r1", "r1", 5*time.Second))
	must(t, c.Run("r2"))
	must(t, c.Wait("a backup", "r2", 5*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleBackup && s.Nodes[0].Alive }))
	code, err := p.Stop(10 * time.Second)
	if err != nil || code != 0 {
		t.Errorf("SIGTERM: exit code %d, %v", code, err)
	}
	must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
}

// fits fails for a table that is wider than a terminal.
func fits(t *testing.T, table string) {
	t.Helper()
	for line := range strings.Lines(table) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}
