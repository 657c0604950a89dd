package dataplane

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestReload walks through changes of the file. After each, nothing of the plan
// before is left, and what stays has had no gap: a client's connection and new
// ones go on all the time.
func TestReload(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	server.serve(80)
	k, c, in := master(t)
	running(t, k)
	in.OwnLan = map[string][]netip.Prefix{"office": prefix("192.168.77.2/24"), "guests": prefix("192.168.88.2/24")}
	steps := []struct {
		name   string
		change func()
		gone   string // no rule, route or line of the table may hold it
	}{
		{"the bases", func() { c.TableBase, c.RulePriority = 8000, 5000 }, "lookup 700"},
		{"the priority back", func() { c.RulePriority = 7000 }, "\n5001:"},
		{"one uplink less", func() { c.Uplinks, in.Usable = c.Uplinks[:1], map[string]bool{"cable": true} }, "wan2"},
		{"a name, the id kept", func() { c.Uplinks[0].Name = "fibre"; in.Usable = map[string]bool{"fibre": true} }, "_cable"},
		{"another uplink", func() {
			_, now := settings()
			was, _ := settings()
			dsl := was.Uplinks[1]
			dsl.ID = 9
			c.Uplinks = append(c.Uplinks, dsl)
			in.Usable, in.Own = map[string]bool{"fibre": true, "dsl": true}, now.Own
		}, "8002"},
		{"the weights", func() { c.Uplinks[0].Weight = 9 }, "harouter_try"},
		{"a policy more", func() {
			c.Policies = []balancer.Policy{{Name: "mail", Uplinks: []string{"fibre"}}, {Name: "default"}}
		}, "harouter_try"},
		{"a lan less", func() { c.Lans = c.Lans[:1] }, "lan1"},
		{"a lan more", func() { full, _ := settings(); c.Lans = full.Lans }, "harouter_try"},
		{"the policies back", func() { c.Policies = c.Policies[1:] }, "slots_mail"},
	}
	flow, _, err := client.dial(serverAddr+":80", time.Second)
	must(t, err)
	stop, done := make(chan struct{}), make(chan struct{})
	var at atomic.Value
	at.Store("before")
	go func() {
		defer close(done)
		client.do(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				step := at.Load()
				fresh, _, err := dial(serverAddr+":80", 5*time.Second)
				switch {
				case err != nil && (step == "one uplink less" || at.Load() == "one uplink less"):
					t.Logf("%v: a new connection, by the uplink that goes: %v", step, err)
				case err != nil:
					t.Errorf("%v: a new connection: %v", step, err)
				default:
					// (Not by the time that it takes: a busy machine needs long for it.)
					if n, err := resent(fresh); n > 0 || err != nil {
						t.Errorf("%v: %d packets of a new connection were lost, %v", step, n, err)
					}
					_ = fresh.Close()
				}
			}
		})
	}()
	for _, step := range steps {
		at.Store(step.name)
		step.change()
		p := build(t, c, in)
		if err := k.Apply(t.Context(), p); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if s := state(t); strings.Contains(s, step.gone) {
			t.Errorf("%s: left is %s:\n%s", step.name, step.gone, s)
		}
		if err := echo(flow, time.Second); step.name != "one uplink less" && err != nil {
			t.Errorf("%s: the connection: %v", step.name, err)
		} else if err != nil { // it was on that uplink
			flow, _, err = client.dial(serverAddr+":80", time.Second)
			must(t, err)
		}
		walked := uncounted(state(t))
		fresh := quietKernel(t)
		must(t, fresh.Apply(t.Context(), p))
		if d := cmp.Diff(sorted(walked), sorted(uncounted(state(t)))); d != "" {
			t.Errorf("%s: -walked +fresh:\n%s", step.name, d)
		}
	}
	close(stop)
	<-done
	_ = flow.Close()
	if r := k.Repairs(); r != (Repairs{}) {
		t.Errorf("repairs: %+v, nobody else changed anything", r)
	}
}

// resent is how many packets this end of a TCP connection had to send again.
func resent(c net.Conn) (n uint32, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil || failed != nil {
		return 0, errors.Join(err, failed)
	}
	return info.Total_retrans, nil
}

var counted = regexp.MustCompile(`counter packets \d+ bytes \d+`)

// uncounted is a state without what the packets changed.
func uncounted(s string) string {
	return quiet(counted.ReplaceAllString(s, "counter packets 0 bytes 0"))
}

// TestDevicesThatLeft get their sysctls back, if nobody else has set them since.
func TestDevicesThatLeft(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	read := func(key string) string { return strings.TrimSpace(netlab.Sh(t, "cat /proc/sys/net/ipv4/"+key)) }
	before := map[string]string{"conf/wan2/rp_filter": "2", "conf/wan2/arp_ignore": "0", "conf/wan2/arp_announce": "1"}
	for key, v := range before {
		netlab.Sh(t, "echo "+v+" > /proc/sys/net/ipv4/"+key)
	}
	c, in := twoUplinks()
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	netlab.Sh(t, "echo 0 > /proc/sys/net/ipv4/conf/wan2/arp_announce") // somebody else's will
	before["conf/wan2/arp_announce"] = "0"
	c.Uplinks, in.Usable = c.Uplinks[:1], map[string]bool{"cable": true}
	// Another process, as after a restart: it knows from the file.
	k2, err := New(k.cfg)
	must(t, err)
	must(t, k2.Apply(t.Context(), build(t, c, in)))
	for key, want := range before {
		if got := read(key); got != want {
			t.Errorf("%s = %s, want %s", key, got, want)
		}
	}
	if got := read("conf/wan1/arp_ignore"); got != "1" {
		t.Errorf("wan1 arp_ignore = %s", got)
	}
	b, err := os.ReadFile(filepath.Join(k.cfg.StateDir, "sysctl.json"))
	if must(t, err); strings.Contains(string(b), "wan2") {
		t.Errorf("still remembered: %s", b)
	}
}

// TestBrokenSettings: whatever has become of the file and its directory, plans
// are applied and cleaned up.
func TestBrokenSettings(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	for _, s := range []struct {
		name  string
		spoil func(file string) error
		aside bool
	}{
		{"no JSON", func(f string) error { return os.WriteFile(f, []byte("{oops"), 0o644) }, true},
		{"null", func(f string) error { return os.WriteFile(f, []byte("null"), 0o644) }, false},
		{"other types", func(f string) error { return os.WriteFile(f, []byte(`{"net/ipv4/ip_forward": 7}`), 0o644) }, true},
		{"empty", func(f string) error { return os.WriteFile(f, nil, 0o644) }, true},
		{"a directory", func(f string) error { return os.Mkdir(f, 0o755) }, true},
		{"nowhere to write", func(f string) error {
			return os.Rename(filepath.Dir(f), filepath.Dir(f)+"-away")
		}, false},
	} {
		k := quietKernel(t)
		k.cfg.StateDir = filepath.Join(k.cfg.StateDir, "state")
		must(t, os.Mkdir(k.cfg.StateDir, 0o755))
		must(t, s.spoil(k.sysctlFile()))
		netlab.Sh(t, "echo 2 > /proc/sys/net/ipv4/conf/wan2/rp_filter")
		if err := k.Apply(t.Context(), build(t, c, in)); err != nil {
			t.Errorf("%s: Apply: %v", s.name, err)
		}
		if err := k.Cleanup(t.Context()); err != nil {
			t.Errorf("%s: Cleanup: %v", s.name, err)
		}
		if got := strings.TrimSpace(netlab.Sh(t, "cat /proc/sys/net/ipv4/conf/wan2/rp_filter")); got != "2" {
			t.Errorf("%s: rp_filter was not set back: %s", s.name, got)
		}
		if _, err := os.Stat(k.sysctlFile() + ".broken"); (err == nil) != s.aside {
			t.Errorf("%s: moved aside: %v, want %v", s.name, err, s.aside)
		}
	}
	// A clean-up alone, as of `harouter stop --clean`, over a file that is broken.
	k := quietKernel(t)
	must(t, os.WriteFile(k.sysctlFile(), []byte("{"), 0o644))
	must(t, k.Cleanup(t.Context()))
}

func TestParseSettings(t *testing.T) {
	got, err := parseSettings([]byte(`{
"net/ipv4/conf/wan1/rp_filter": {"before": "1", "ours": "0"},
"net/../../../etc/passwd": {"before": "x", "ours": "y"},
"/etc/passwd": {"before": "x", "ours": "y"},
"kernel/core_pattern": {"before": "x", "ours": "y"}}`))
	must(t, err)
	want := map[string]setting{"net/ipv4/conf/wan1/rp_filter": {Before: "1", Ours: "0"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestPrepareAgain: a device that comes later has its values kept before others
// set it up.
func TestPrepareAgain(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, "ip link del wan2; echo 0 > /proc/sys/net/ipv4/conf/default/promote_secondaries")
	c, in := twoUplinks()
	p := build(t, c, in)
	k := quietKernel(t)
	must(t, k.Prepare(p))
	netlab.Sh(t, "ip link add wan2 type veth peer name pwan2")
	must(t, k.Prepare(p))
	netlab.Sh(t, "echo 1 > /proc/sys/net/ipv4/conf/wan2/promote_secondaries") // vip
	if err := k.Apply(t.Context(), p); !OnlySkipped(err) {
		t.Error(err)
	}
	must(t, k.Cleanup(t.Context()))
	if s := netlab.Sh(t, "cat /proc/sys/net/ipv4/conf/wan2/promote_secondaries"); s != "0\n" {
		t.Errorf("promote_secondaries = %s after Cleanup", s)
	}
}
