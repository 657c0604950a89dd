package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// all is everything that harouter could leave on a router.
func all(t *testing.T, c *site.Cluster, router string) string {
	t.Helper()
	out, err := c.Router(router).Exec("sh", "-c", `ip rule; ip route show table all; ip -o addr | sed 's/valid_lft.*//'; nft list ruleset
cd /proc/sys/net/ipv4; for f in ip_forward conf/*/arp_ignore conf/*/arp_announce conf/*/rp_filter conf/*/send_redirects conf/*/promote_secondaries conf/*/src_valid_mark; do echo $f $(cat $f); done`)
	must(t, err)
	return strings.ReplaceAll(out, "ip_forward 1", "ip_forward 0") // never set back
}

func TestCleanLeavesNothing(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before := all(t, c, "r1")
	clean := func(what string) {
		t.Helper()
		_, err := c.Command("r1", "stop", "--clean")
		must(t, err)
		if after := all(t, c, "r1"); after != before {
			t.Errorf("%s: stop --clean left something:\nbefore:\n%s\nafter:\n%s", what, before, after)
		}
		if ps, err := c.Router("r1").Processes(); err != nil || len(ps) > 0 {
			t.Errorf("%s: processes are left: %v %v", what, ps, err)
		}
	}
	must(t, c.Up("r1"))
	must(t, c.Daemons["r1"].Kill())
	clean("a guard alone, no daemon")
	clean("nothing at all")
	must(t, c.Up("r1"))
	clean("a lone master")
	must(t, c.Up("r1", "r2"))
	clean("a master with a peer")
	must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
	if _, err := c.Command("r1", "stop"); err == nil || !strings.Contains(err.Error(), "no harouter daemon runs here") {
		t.Errorf("stop without a daemon: %v", err)
	}

	// Without --clean a lone master keeps all, and a guard that listens.
	_, err := c.Command("r2", "stop")
	must(t, err)
	if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r2"}) {
		t.Errorf("after a plain stop of the last node the address is held by %v", h)
	}
}

// TestCleanWithoutFile: what a former run left goes away although the present
// file is wrong, or none can be read.
func TestCleanWithoutFile(t *testing.T) {
	t.Parallel()
	config := site.Replace(site.Config, "  r2: {address: 192.0.2.2, priority: 150}\n", "")
	c := installed(t, netlab.PairOptions{Routers: 1}, config) // no own address on the uplinks: link-local ones
	before := all(t, c, "r1")
	state := filepath.Join(c.Router("r1").StateDir(), "accepted")
	wrong := func() { must(t, os.WriteFile(c.ConfigFile("r1"), []byte("cluster: 7\nnode"), 0o644)) }
	for _, v := range []struct {
		name string
		harm func()
		says string // "" all is removed
	}{
		{"the file that ran is kept", wrong, ""},
		{"the guard knows", func() { wrong(); must(t, os.RemoveAll(state)) }, ""},
		{"nobody knows", func() {
			wrong()
			must(t, os.RemoveAll(state))
			ps, err := c.Router("r1").Processes()
			must(t, err)
			for _, p := range ps { // the guard of this site's router
				must(t, syscall.Kill(p.PID, syscall.SIGKILL))
			}
		}, "ip address del 192.168.77.1/24 dev lan0"},
	} {
		t.Run(v.name, func(t *testing.T) {
			must(t, os.WriteFile(c.ConfigFile("r1"), []byte(config), 0o644))
			must(t, c.Up("r1"))
			must(t, c.Daemons["r1"].Kill())
			v.harm()
			_, err := c.Command("r1", "stop", "--clean")
			if v.says == "" {
				must(t, err)
			} else {
				if err == nil || !strings.Contains(err.Error(), v.says) {
					t.Fatalf("stop --clean: %v; want a word that says %q", err, v.says)
				}
				for _, l := range strings.Split(err.Error(), "\n") {
					if l, ok := strings.CutPrefix(strings.TrimSpace(l), "ip address "); ok {
						must(t, c.Router("r1").IP("address "+l))
					}
				}
			}
			if after := all(t, c, "r1"); after != before {
				t.Errorf("stop --clean left something:\nbefore:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

func hasAlarm(s ha.Status, code string) bool {
	return slices.ContainsFunc(s.Alarms, func(a ha.Alarm) bool { return a.Code == code })
}

func TestStartIsRefused(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before := all(t, c, "r1")
	key := filepath.Join(c.Router("r1").ConfigDir(), "cluster.key")
	goodKey, err := os.ReadFile(key)
	must(t, err)
	for name, v := range map[string]struct {
		breakIt, mend func()
		code          string
		want          string
	}{
		"a key that others can read": {func() { must(t, os.Chmod(key, 0o644)) }, func() { must(t, os.Chmod(key, 0o600)) }, "exit status 2", "chmod 600"},
		"no key":                     {func() { must(t, os.Remove(key)) }, func() { must(t, os.WriteFile(key, goodKey, 0o600)) }, "exit status 2", "cluster.key"},
		"a key that is none":         {func() { must(t, os.WriteFile(key, []byte("hello\n"), 0o600)) }, func() { must(t, os.WriteFile(key, goodKey, 0o600)) }, "exit status 2", "base64"},
		"a wrong file": {
			func() {
				bad := site.Replace(site.Config, "id: 51", "id: 0, colour: blue")
				bad = site.Replace(bad, "weight: 2", "weight: heavy")
				must(t, os.WriteFile(c.ConfigFile("r1"), []byte(bad), 0o644))
			},
			func() { must(t, os.WriteFile(c.ConfigFile("r1"), []byte(site.Config), 0o644)) }, "exit status 2", "colour",
		},
	} {
		t.Run(name, func(t *testing.T) {
			v.breakIt()
			defer v.mend()
			_, err := c.Command("r1", "run")
			if err == nil || !strings.Contains(err.Error(), v.code) || !strings.Contains(err.Error(), v.want) {
				t.Errorf("run: %v; want %s and %q", err, v.code, v.want)
			}
		})
	}
	t.Run("the port is taken", func(t *testing.T) {
		// A second configuration of ours on the same address and another run-dir.
		must(t, c.Up("r1"))
		n := c.Router("r1")
		_, err := n.Exec(c.Binary, "--config", c.ConfigFile("r1"), "--node", "r1", "--run-dir", n.Dir()+"/run2", "--state-dir", n.StateDir(), "run")
		if err == nil || !strings.Contains(err.Error(), "port 192.0.2.1:7946 is taken") {
			t.Errorf("second daemon, other run-dir: %v", err)
		}
		_, err = c.Command("r1", "run")
		if err == nil || !strings.Contains(err.Error(), "another harouter daemon") {
			t.Errorf("second daemon, same run-dir: %v", err)
		}
		must(t, c.Settled("r1", "r1", time.Second)) // the first one goes on
		_, err = c.Command("r1", "stop", "--clean")
		must(t, err)
	})
	if after := all(t, c, "r1"); after != before {
		t.Errorf("something was applied:\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestDeviceComesLater: missing at start, then there, then gone and back.
func TestDeviceComesLater(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	r1 := c.Router("r1")
	for _, d := range []string{"lan0", "wan1", "wan2"} { // what a daemon sets on a device that comes, and sets back
		_, err := r1.Exec("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/"+d+"/promote_secondaries")
		must(t, err)
	}
	rename := func(from, to string) {
		must(t, r1.IP("link set "+from+" down", "link set "+from+" name "+to, "link set "+to+" up"))
	}
	state := func(want string) func(ha.Status) bool {
		return func(s ha.Status) bool { return s.Role == ha.RoleMaster && s.Uplinks[1].State.String() == want }
	}
	rename("wan2", "other2")
	must(t, c.Run("r1"))
	must(t, c.Wait("master without wan2", "r1", 5*time.Second, state("down")))
	rename("other2", "wan2")
	must(t, c.Wait("wan2 came", "r1", 8*time.Second, state("up")))
	must(t, c.WaitHolder(site.WAN2, "r1", 2*time.Second))
	rename("wan2", "other2")
	must(t, c.Wait("wan2 went", "r1", 3*time.Second, state("down")))
	rename("other2", "wan2")
	must(t, c.Wait("wan2 came again", "r1", 8*time.Second, state("up")))
	must(t, c.WaitHolder(site.WAN2, "r1", 2*time.Second))

	t.Run("the lan too", func(t *testing.T) {
		rename("lan0", "otherlan")
		must(t, c.Wait("no lan: fault", "r1", 3*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleFault }))
		rename("otherlan", "lan0")
		must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	})

	_, err := c.Command("r1", "stop", "--clean")
	must(t, err)
	if out, err := r1.Exec("sh", "-c", "cd /proc/sys/net/ipv4/conf; cat lan0/promote_secondaries wan1/promote_secondaries wan2/promote_secondaries"); err != nil || strings.Contains(out, "1") {
		t.Errorf("promote_secondaries after stop --clean: %q, %v", out, err)
	}
}
