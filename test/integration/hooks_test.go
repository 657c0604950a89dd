package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// script writes an executable of the admin beside a router's file.
func script(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
}

// TestRow19: hooks, services and messages follow what happens, and while a hook
// hangs, a service hangs, the mail server hangs and the disk is full, nobody waits for them.
func TestRow19(t *testing.T) {
	t.Parallel()
	mute := netip.AddrPortFrom(site.Server, netlab.EchoPort) // whoever connects has to speak first there
	config := site.Config + fmt.Sprintf("services: [dhcpd, hangs]\nmail: {to: admin@example.org, smtp: \"%v\"}\nwebhook: {url: \"http://%v/\"}\n", mute, mute)
	c := installed(t, netlab.PairOptions{WANOwn: true}, config)
	wrote := map[string]func(name string) string{}
	for _, r := range []string{"r1", "r2"} {
		node := c.Router(r)
		hooks, out := filepath.Join(node.ConfigDir(), "hooks"), t.TempDir()
		wrote[r] = func(name string) string { b, _ := os.ReadFile(filepath.Join(out, name)); return string(b) }
		script(t, filepath.Join(out, "bin", "systemctl"), "[ \"$2\" != hangs ] || exec sleep 600\necho \"$@\" >>"+out+"/services\n")
		script(t, filepath.Join(hooks, "uplink-down.d", "show"), "echo $# \"$@\" $HAROUTER_EVENT $HAROUTER_ROLE >>"+out+"/down\n")
		script(t, filepath.Join(hooks, "uplink-up.d", "fails"), "echo not today; exit 1\n")
		script(t, filepath.Join(hooks, "post-apply.d", "show"), "echo $# \"$@\" \"$HAROUTER_DOWN\" >>"+out+"/applied\n")
		script(t, filepath.Join(hooks, "master.d", "hangs"), "echo \"$@\" >>"+out+"/master; sleep 600\n")
		args := append([]string{"env", "PATH=" + filepath.Join(out, "bin") + ":" + os.Getenv("PATH")}, c.Args(r, "run")...)
		if r == "r2" { // its disk is full from the first byte
			args = append([]string{"unshare", "-m", "sh", "-c", `mount -t tmpfs -o size=64k none "$0"; cat /dev/zero >"$0/junk" 2>/dev/null; exec "$@"`, node.StateDir()}, args...)
			script(t, filepath.Join(hooks, "backup.d", "hangs"), "echo \"$@\" >>"+out+"/backup; sleep 600\n")
		} else {
			must(t, os.RemoveAll(filepath.Join(hooks, "master.d"))) // it has to go on to the next hook
		}
		daemon, err := node.Start("harouter", args...)
		must(t, err)
		c.Daemons[r] = daemon
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Settled(r, "r1", 15*time.Second))
	}
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	awaited := func(what, router, name string, ok func(text string) bool) {
		t.Helper()
		if err := netlab.WaitFor(what, 15*time.Second, func() bool { return ok(wrote[router](name)) }); err != nil {
			t.Fatalf("%v: %q", err, wrote[router](name))
		}
	}
	awaited("the service", "r1", "services", func(s string) bool { return s == "start dhcpd\n" })
	must(t, c.Wait("the alarm of a hook", "r1", 5*time.Second, alarmed(ha.AlarmHookFailed, "uplink-up.d/fails")))

	awaited("a hook that hangs", "r2", "backup", func(s string) bool { return s == "backup r2 unknown\n" })
	failover(t, c, "r1", "r2")
	awaited("the service where the role went", "r2", "services", func(s string) bool { return strings.HasSuffix(s, "start dhcpd\n") })
	awaited("the service where it was", "r1", "services", func(s string) bool { return s == "start dhcpd\nstop dhcpd\n" })
	failover(t, c, "r2", "r1")
	awaited("the service where it came back", "r1", "services", func(s string) bool { return s == "start dhcpd\nstop dhcpd\nstart dhcpd\n" })
	awaited("and where it was", "r2", "services", func(s string) bool { return strings.HasSuffix(s, "stop dhcpd\n") })

	must(t, c.Blackhole(c.ISPOf(site.WAN2)))
	down := regexp.MustCompile(`(?m)^16 down dsl 198\.51\.100\.\d+ wan2 admin@example\.org \d+ 0 [1-9]\d* 0 0 0 [1-9]\d* \d+ 203\.0\.113\.\d+ up \d{10} uplink-down master$`)
	awaited("the hook of an uplink that is down", "r1", "down", down.MatchString)
	awaited("the hook of the plan without it", "r1", "applied", func(s string) bool { return strings.Contains(s, "2 post-apply master dsl\n") })

	client, err := c.Load("h1", netlab.Load{Ping: []netlab.Ping{{Target: site.LANAddress, Interval: 2 * time.Millisecond}}})
	must(t, err)
	must(t, c.Wait("the alarm of the disk", "r2", 5*time.Second, func(s ha.Status) bool { return hasAlarm(s, ha.AlarmDiskFull) }))
	crash := c.Mark("crash")
	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	taken := netlab.Now().Sub(crash)
	awaited("the service", "r2", "services", func(s string) bool {
		return strings.HasSuffix(s, "stop dhcpd\nstart dhcpd\n")
	})
	r := report(t, client)
	quietly(t, "silence seen by the host", r, r.PingGapSince("crash"), 3*advertise+skew+20*time.Millisecond+noise, "under 95 ms; 361 ms by the timers")
	t.Logf("r2 held the address %v after the crash", taken)
	if got := wrote["r2"]("master"); got != "" {
		t.Errorf("two hooks ran at once: %q", got)
	}
}
