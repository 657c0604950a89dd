package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/ha/join"
	"harouter/test/netlab"
	"harouter/test/site"
)

func write(t *testing.T, c *site.Cluster, text string, routers ...string) {
	t.Helper()
	for _, r := range routers {
		must(t, os.WriteFile(c.ConfigFile(r), []byte(text), 0o644))
	}
}

// inUse waits until routers run a generation, agree, and have no alarm.
func inUse(t *testing.T, c *site.Cluster, generation uint64, routers ...string) {
	t.Helper()
	for _, r := range routers {
		must(t, c.Wait(fmt.Sprintf("generation %d is in use without an alarm", generation), r, 10*time.Second, func(s ha.Status) bool {
			return s.Config.Generation == generation && s.Config.InSync && len(s.Alarms) == 0
		}))
	}
}

// reloaded takes a text into use on all routers, asked on the first.
func reloaded(t *testing.T, c *site.Cluster, text string, routers ...string) {
	t.Helper()
	write(t, c, text, routers...)
	if out, err := c.Command(routers[0], "reload"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// refused asks for a reload that has to fail with certain words, within its
// limit, and changes nothing.
func refused(t *testing.T, c *site.Cluster, router string, words ...string) {
	t.Helper()
	before, err := c.Status(router)
	must(t, err)
	at := time.Now()
	out, err := c.Command(router, "reload")
	if err == nil {
		t.Fatalf("the reload on %s was done: %s", router, out)
	}
	text := err.Error()
	text = text[strings.LastIndex(text, "harouter: "):]
	t.Logf("%v: %s", time.Since(at).Round(time.Millisecond), strings.TrimSpace(text))
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("reload on %s says %q, want %q in it", router, text, w)
		}
	}
	if took := time.Since(at); took > 8*time.Second {
		t.Errorf("the answer came after %v", took)
	}
	after, err := c.Status(router)
	must(t, err)
	if after.Config.Generation != before.Config.Generation || after.Config.Hash != before.Config.Hash || after.PlanHash != before.PlanHash {
		t.Errorf("%s: was %+v, is %+v", router, before.Config, after.Config)
	}
}

// manyFiles is the first file of TestReloads: two ISPs of three, one lan of two.
const manyFiles = `cluster: home
nodes:
  r1: {address: 192.0.2.1, priority: 200}
  r2: {address: 192.0.2.2, priority: 150}
vrrp: {id: 51, advertise: 100ms, preempt_delay: 2s}
balance: {flap_hold: 0s, table_base: 7000, rule_priority: 7000}
ports: {gossip: 7946, sync: 7947}
log: {level: info}
lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}
  # another lan
uplinks:
  - {name: cable, device: wan1, id: 1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25], weight: 2, probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms, fall: 3, rise: 2}}
  - {name: dsl, device: wan2, id: 2, gateway: 203.0.113.129, virtual_addresses: [203.0.113.140/25], weight: 1, probe: {targets: [198.51.100.1, 198.51.100.2], interval: 200ms, timeout: 200ms, fall: 3, rise: 2}}
  # another uplink
policies:
  - {name: default, method: weighted}
`

const (
	labLine   = "  - {name: lab, device: lan1, virtual_addresses: [192.168.78.1/24]}\n"
	thirdLine = "  - {name: spare, device: wan3, id: 3, " + spareLine + ", probe: {targets: [198.51.100.1], interval: 150ms, fall: 3, rise: 2}}\n"
)

// steps are changes of that file, one after the other.
var steps = []struct{ name, old, new string }{
	{"a weight", "weight: 2", "weight: 5"},
	{"a policy", "method: weighted}", "method: priority, uplinks: [dsl, cable]}"},
	{"a policy back", "method: priority, uplinks: [dsl, cable]}", "method: weighted, weights: {cable: 1, dsl: 3}}"},
	{"a lan more", "  # another lan\n", labLine},
	{"an address more", "[192.168.77.1/24]", "[192.168.77.1/24, 192.168.77.7/24]"},
	{"an uplink more", "  # another uplink\n", thirdLine},
	{"probe targets", "targets: [198.51.100.1, 198.51.100.2], interval: 200ms", "targets: [198.51.100.2], interval: 100ms"},
	{"a shorter interval", "advertise: 100ms", "advertise: 50ms"},
	{"a longer interval", "advertise: 50ms", "advertise: 300ms"},
	{"the interval back", "advertise: 300ms", "advertise: 100ms"},
	{"no preemption", "preempt_delay: 2s", "preempt: false, preempt_delay: 2s"},
	{"another vrid", "id: 51", "id: 77"},
	{"priorities", "priority: 200}", "priority: 120}"},
	{"the gossip port", "gossip: 7946", "gossip: 7999"},
	{"the sync port", "sync: 7947", "sync: 7950"},
	{"the log level", "level: info", "level: debug"},
	{"the tables", "table_base: 7000", "table_base: 8100"},
	{"the rules", "rule_priority: 7000", "rule_priority: 9000"},
	{"both, back", "table_base: 8100, rule_priority: 9000", "table_base: 7100, rule_priority: 6000"},
	{"an uplink less", thirdLine, "  # another uplink\n"},
	{"a lan less", labLine, "  # another lan\n"},
	{"an address less", ", 192.168.77.7/24]", "]"},
	{"an uplink's other address", "  # another uplink\n", strings.Replace(thirdLine, "198.18.3.10/25", "198.18.3.11/25", 1)},
	{"everything at once", "advertise: 100ms", "advertise: 70ms"},
}

var counted = regexp.MustCompile(`packets \d+ bytes \d+|valid_lft \S+ preferred_lft \S+|expires \S+|timeout \S+ |# handle \d+| linkdown| dead|cache.*`)

// kernelState is what harouter made of a router, comparable between lives.
func kernelState(t *testing.T, c *site.Cluster, router string) []string {
	t.Helper()
	text := counted.ReplaceAllString(all(t, c, router), "")
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

// leftover fails if a router goes on to have what matches.
func leftover(t *testing.T, c *site.Cluster, router, pattern string) {
	t.Helper()
	match, lines := regexp.MustCompile(pattern), []string(nil)
	if netlab.WaitFor("nothing is left", 3*time.Second, func() bool {
		lines = slices.DeleteFunc(kernelState(t, c, router), func(l string) bool { return !match.MatchString(l) })
		return len(lines) == 0
	}) != nil {
		t.Errorf("%s still has\n%s", router, strings.Join(lines, "\n"))
	}
}

// TestReloads changes nearly everything under traffic, one file after the other.
func TestReloads(t *testing.T) {
	spec := netlab.Pair(netlab.PairOptions{ISPs: 3, WANOwn: true})
	spec.ISPs[2].Own = false // there the nodes have addresses of ours only, which carry the vrid
	spec.LANs = append(spec.LANs, netlab.LANSpec{Name: "lab", Net: netip.MustParsePrefix("192.168.78.0/24"), Hosts: 1})
	c := build(t, spec, manyFiles)
	must(t, c.Up("r1", "r2"))
	both := []string{"r1", "r2"}
	before := map[string]ha.Status{}
	for _, r := range both {
		must(t, c.Wait("the start is over", r, 12*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 && s.Nodes[0].Alive && s.Nodes[1].Alive }))
		s, err := c.Status(r)
		must(t, err)
		before[r] = s
	}
	client := load(t, c)
	text, watch := manyFiles, c.Watch()
	for i, step := range steps {
		text = site.Replace(text, step.old, step.new)
		c.Mark(step.name)
		order := []string{both[i%2], both[(i+1)%2]}
		reloaded(t, c, text, order...)
		for _, r := range both {
			must(t, c.Wait(step.name+" is in use", r, 3*time.Second, func(s ha.Status) bool {
				return s.Config.Generation == uint64(i+2) && s.Config.InSync
			}))
		}
		switch step.name {
		case "a lan more":
			must(t, c.WaitHolder(netip.MustParseAddr("192.168.78.1"), "r1", time.Second))
		case "an address more":
			must(t, c.WaitHolder(netip.MustParseAddr("192.168.77.7"), "r1", time.Second))
		case "an uplink more":
			must(t, c.WaitHolder(wan3, "r1", time.Second))
			must(t, c.Wait("the new uplink works", "r1", 3*time.Second, func(s ha.Status) bool { return s.Uplinks[2].State.String() == "up" }))
		case "another vrid":
			for _, r := range both {
				leftover(t, c, r, `169\.254\.51\.`)
			}
		case "the tables", "the rules", "both, back":
			for _, r := range both {
				leftover(t, c, r, map[string]string{"the tables": `(table|lookup) 70\d\d`, "the rules": `^7\d\d\d:`, "both, back": `(table|lookup) 81\d\d|^9\d\d\d:`}[step.name])
			}
		case "an uplink less":
			for _, r := range both {
				leftover(t, c, r, `198\.18\.3\.10|spare|(table|lookup) 7103|wan3\s.*inet 169`)
			}
		case "a lan less":
			for _, r := range both {
				leftover(t, c, r, `192\.168\.78\.1|"lan1"|inet 169\.254`)
			}
		case "an address less":
			for _, r := range both {
				leftover(t, c, r, `192\.168\.77\.7`)
			}
		}
	}
	c.Mark("end")
	for _, r := range both {
		must(t, c.Settled(r, "r1", 5*time.Second))
	}
	time.Sleep(300 * time.Millisecond)
	rep := report(t, client)
	names := []string{steps[0].name}
	for _, s := range steps[1:] {
		names = append(names, s.name)
	}
	for i, name := range names {
		until := append(slices.Clone(names), "end")[i+1]
		lost, gap := 0, rep.GapBetween(name, until)
		for _, f := range rep.UDP {
			lost += f.Lost(rep.Mark(name), rep.Mark(until))
		}
		t.Logf("%-28s lost %d, gap %v", name, lost, gap)
	}
	if n := rep.LostSince(steps[0].name); n > 0 {
		t.Errorf("%d datagrams were lost", n)
	}
	// One that was being born on the uplink that goes may die with it.
	if n := rep.FreshFailedSince(steps[0].name); n > 2 {
		t.Errorf("%d fresh connections failed", n)
	}
	if moved := rep.Renatted(steps[0].name); len(moved) > 0 || rep.Survivors() != len(rep.TCP) {
		t.Errorf("%d flows changed their source, %d of %d TCP flows survived", len(moved), rep.Survivors(), len(rep.TCP))
	}
	if n := watch.Moves(site.LANAddress, rep.Mark(steps[0].name)); n > 0 {
		t.Errorf("the lan's address moved %d times", n)
	}
	for _, r := range both {
		s, err := c.Status(r)
		must(t, err)
		if s.Role != before[r].Role || s.VRRP.Transitions != before[r].VRRP.Transitions {
			t.Errorf("%s was %v after %d transitions, is %v after %d", r, before[r].Role, before[r].VRRP.Transitions, s.Role, s.VRRP.Transitions)
		}
		if s.Repairs.Address+s.Repairs.Rule+s.Repairs.Route+s.Repairs.Table+s.Repairs.Sysctl > 0 {
			t.Errorf("%s repaired what nobody damaged: %+v", r, s.Repairs)
		}
		must(t, c.Wait("no alarm stays", r, 12*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 }))
	}

	// What belonged to the uplink that went leaves by no other.
	for _, isp := range c.Spec.ISPs {
		leak, err := c.Leaks(isp.Name)
		must(t, err)
		for _, pair := range leak.Pairs {
			t.Errorf("%s got %d packets that are not of its network: %s", isp.Name, leak.Packets, pair)
		}
	}

	// A fresh start with the last file makes the same.
	was, hash := map[string][]string{}, map[string]string{}
	for _, r := range both {
		was[r] = kernelState(t, c, r)
		s, err := c.Status(r)
		must(t, err)
		hash[r] = s.PlanHash
	}
	for _, r := range []string{"r2", "r1"} {
		_, err := c.Command(r, "stop", "--clean")
		must(t, err)
		_, err = c.Daemons[r].Wait(5 * time.Second)
		must(t, err)
		must(t, os.RemoveAll(c.Router(r).StateDir()))
	}
	must(t, c.Run("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	must(t, c.Run("r2"))
	for _, r := range both {
		must(t, c.Settled(r, "r1", 10*time.Second))
		var diff string
		if netlab.WaitFor("the same state, after the grace of a takeover", 6*time.Second, func() bool {
			diff = cmp.Diff(kernelState(t, c, r), was[r])
			return diff == ""
		}) != nil {
			t.Errorf("%s (-fresh start +reloaded):\n%s", r, diff)
		}
		if s, err := c.Status(r); err != nil || s.PlanHash != hash[r] {
			t.Errorf("%s: plan %s fresh, %s reloaded, %v", r, s.PlanHash, hash[r], err)
		}
	}
}

// disk checks what stands in the files of routers.
func disk(t *testing.T, c *site.Cluster, want string, routers ...string) {
	t.Helper()
	for _, r := range routers {
		got, err := os.ReadFile(c.ConfigFile(r))
		must(t, err)
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("the file of %s (-want +got):\n%s", r, diff)
		}
	}
}

// TestReloadGoesWrong: what must not be taken into use is refused with a
// sentence, and what a person does to the files is shown.
func TestReloadGoesWrong(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	small := c.Router("r2").StateDir()
	must(t, os.MkdirAll(small, 0o755))
	must(t, syscall.Mount("tmpfs", small, "tmpfs", 0, "size=256k"))
	t.Cleanup(func() { must(t, syscall.Unmount(small, syscall.MNT_DETACH)) })
	must(t, c.Up("r1", "r2"))
	both := []string{"r1", "r2"}
	inUse(t, c, 1, both...)
	old, gen := site.Config, uint64(1)
	good := site.Replace(old, "weight: 2", "weight: 3")
	client := load(t, c)
	before, err := c.Status("r1")
	must(t, err)
	c.Mark("begin")

	t.Run("edited by hand", func(t *testing.T) {
		var alarms [2]string
		for i, text := range []string{good, good + "\nnonsense: 1\n"} {
			write(t, c, text, "r2")
			at := time.Now()
			for _, r := range both {
				must(t, c.Wait("the edited file is an alarm", r, 4*time.Second, func(s ha.Status) bool {
					if len(s.Alarms) == 1 && s.Alarms[0].Code == ha.AlarmConfigDiffers {
						alarms[i] = s.Alarms[0].Text
					}
					return alarms[i] != "" && (i == 0 || alarms[1] != alarms[0]) && !s.Config.InSync
				}))
				for _, h := range []string{join.Hash([]byte(old)), join.Hash([]byte(text))} {
					if !strings.Contains(alarms[i], h[:12]) {
						t.Errorf("%s: the alarm does not name %s: %s", r, h[:12], alarms[i])
					}
				}
			}
			atMost(t, "the alarm", time.Since(at), 2*time.Second+noise, "1 s")
		}
		t.Log(alarms)
		write(t, c, old, "r2")
		at := time.Now()
		inUse(t, c, gen, both...)
		atMost(t, "the alarm is gone", time.Since(at), 10*time.Second, "1 s")
	})
	t.Run("refused", func(t *testing.T) {
		_, err := c.Serve("r2")
		must(t, err)
		for _, v := range []struct {
			name, r1, r2 string
			words        []string
		}{
			{"bad there", good, site.Replace(good, "gateway: 203.0.113.1\n", "gateway: nonsense\n"), []string{"r2", "nonsense", "nothing changed"}},
			{"different", good, old, []string{"the file on r2 is another one", "copy one file to all nodes"}},
			{"another cluster", site.Replace(good, "cluster: home", "cluster: away"), "", []string{"the name of the cluster cannot change"}},
			{"another mark", good + "balance: {mark_mask: 0xff0000}\n", "", []string{"balance.mark_mask cannot change while the cluster runs (0x3f00, not 0xff0000)", "stop all nodes"}},
			{"another id", site.Replace(good, "device: wan2", "device: wan2\n    id: 9"), "", []string{"dsl has the id 2"}},
			{"a port that is taken", good + fmt.Sprintf("ports: {gossip: %d}\n", netlab.EchoPort), "", []string{"r2", fmt.Sprintf("192.0.2.2:%d is taken by another program", netlab.EchoPort)}},
			{"no such file", "", "", []string{"harouter.yaml"}},
		} {
			t.Run(v.name, func(t *testing.T) {
				if v.r2 == "" {
					v.r2 = v.r1
				}
				write(t, c, v.r1, "r1")
				write(t, c, v.r2, "r2")
				if v.r1 == "" {
					must(t, os.Remove(c.ConfigFile("r1")))
				}
				refused(t, c, "r1", v.words...)
			})
		}
	})
	t.Run("full disk", func(t *testing.T) {
		filler := filepath.Join(small, "filler")
		err := os.WriteFile(filler, make([]byte, 1<<20), 0o644)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("filling the disk: %v", err)
		}
		write(t, c, good, both...)
		refused(t, c, "r1", "r2", "no space left", "nothing changed")
		refused(t, c, "r2", "no space left", "nothing changed")
		must(t, os.Remove(filler))
		reloaded(t, c, good, "r2", "r1")
		gen++
		inUse(t, c, gen, both...)
	})
	t.Run("SIGHUP", func(t *testing.T) {
		write(t, c, old, both...)
		must(t, c.Daemons["r2"].Signal(syscall.SIGHUP))
		gen++
		inUse(t, c, gen, both...)
	})
	rep := report(t, client)
	if n := rep.LostSince("begin") + rep.FreshFailedSince("begin"); n > 0 || len(rep.Renatted("begin")) > 0 {
		t.Errorf("%d datagrams and connections were lost", n)
	}
	after, err := c.Status("r1")
	must(t, err)
	if after.Role != before.Role || after.VRRP.Transitions != before.VRRP.Transitions {
		t.Errorf("r1 is %v after %d transitions", after.Role, after.VRRP.Transitions)
	}

	t.Run("an uplink's other address", func(t *testing.T) {
		client := load(t, c)
		c.Mark("other")
		reloaded(t, c, site.Replace(old, "203.0.113.140/25", "203.0.113.141/25"), "r1", "r2")
		gen++
		inUse(t, c, gen, both...)
		time.Sleep(500 * time.Millisecond)
		rep := report(t, client)
		for _, f := range rep.UDP {
			a := f.Seen[len(f.Seen)-1].From.Addr()
			if a != site.WAN1 && a != netip.MustParseAddr("203.0.113.141") {
				t.Errorf("%s still comes from %v", f.Name, a)
			}
		}
		if n := rep.FreshFailedSince("other"); n > 0 {
			t.Errorf("%d fresh connections failed", n)
		}
		reloaded(t, c, old, "r1", "r2")
		gen++
	})
	t.Run("a dead peer", func(t *testing.T) {
		must(t, c.Daemons["r2"].Signal(syscall.SIGSTOP))
		write(t, c, good, both...)
		refused(t, c, "r1", "r2", "nothing changed")
		must(t, c.Daemons["r2"].Signal(syscall.SIGCONT))
		must(t, c.Wait("both are back", "r1", 5*time.Second, func(s ha.Status) bool { return s.Nodes[1].Alive && s.Nodes[1].Role == ha.RoleBackup }))
		var err error
		if netlab.WaitFor("a reload afterwards", 9*time.Second, func() bool { _, err = c.Command("r2", "reload"); return err == nil }) != nil {
			t.Fatal(err)
		}
		gen++
		inUse(t, c, gen, both...)
	})
	t.Run("in a hand-over", func(t *testing.T) {
		for i, text := range []string{old, good, old, good} {
			write(t, c, text, both...)
			from, to := both[i%2], both[(i+1)%2]
			done := make(chan error, 1)
			go func() { _, err := c.Command(from, "failover", "--to", to); done <- err }()
			var err error
			if netlab.WaitFor("a reload", 5*time.Second, func() bool { _, err = c.Command(to, "reload"); return err == nil }) != nil {
				t.Fatal(err)
			}
			must(t, <-done)
			gen++
			must(t, c.WaitHolder(site.LANAddress, to, 3*time.Second))
			inUse(t, c, gen, both...)
		}
	})
	noLeaks(t, c)
}

// trial takes a text into use for a while.
func trial(t *testing.T, c *site.Cluster, text, router string) {
	t.Helper()
	write(t, c, text, "r1", "r2")
	var err error
	if netlab.WaitFor("a reload on trial", 2*time.Second, func() bool { // the end of the last one may be under way
		_, err = c.Command(router, "reload", "--confirm", "5s")
		return err == nil
	}) != nil {
		t.Fatal(err)
	}
}

// TestReloadOnTrial: a change that nobody keeps goes away by itself, whatever
// happens meanwhile.
func TestReloadOnTrial(t *testing.T) {
	t.Parallel()
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	both := []string{"r1", "r2"}
	old := site.Config
	good := site.Replace(old, "weight: 2", "weight: 3")
	runs := func(t *testing.T, text string, within time.Duration, routers ...string) {
		t.Helper()
		for _, r := range routers {
			must(t, c.Wait("the file runs", r, within, func(s ha.Status) bool { return s.Config.Hash == join.Hash([]byte(text)) }))
		}
	}
	quiet := func(t *testing.T, text string) {
		t.Helper()
		runs(t, text, 8*time.Second, both...)
		for _, r := range both {
			must(t, c.Wait("in sync, no alarm", r, 10*time.Second, func(s ha.Status) bool {
				return s.Config.InSync && len(s.Alarms) == 0 && s.Nodes[0].Alive && s.Nodes[1].Alive
			}))
		}
		disk(t, c, text, both...)
	}
	quiet(t, old)

	t.Run("kept", func(t *testing.T) {
		trial(t, c, good, "r1")
		runs(t, good, time.Second, both...)
		_, err := c.Command("r2", "reload")
		must(t, err)
		quiet(t, good)
	})
	t.Run("cuts the nodes apart", func(t *testing.T) {
		away := strings.NewReplacer("192.0.2.1,", "192.0.2.101,", "192.0.2.2,", "192.0.2.102,").Replace(good)
		write(t, c, away, both...)
		at := time.Now()
		out, err := c.Command("r1", "reload", "--confirm", "5s")
		t.Logf("%v: %s %v", time.Since(at).Round(time.Millisecond), out, err)
		runs(t, away, time.Second, both...)
		quiet(t, good)
		for _, r := range both { // nobody's work is lost
			if tried, err := os.ReadFile(filepath.Join(c.Router(r).StateDir(), "tried", filepath.Base(c.ConfigFile(r)))); err != nil || string(tried) != away {
				t.Errorf("the file that was tried on %s: %v\n%s", r, err, tried)
			}
		}
		atMost(t, "all as it was", time.Since(at), 12*time.Second, "6 s")
		must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	})
	t.Run("the master is killed", func(t *testing.T) {
		trial(t, c, old, "r2")
		runs(t, old, time.Second, both...)
		must(t, c.Daemons["r1"].Kill())
		must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
		must(t, c.Run("r1"))
		runs(t, good, 2*time.Second, "r1")
		runs(t, old, time.Second, "r2")
		quiet(t, good)
		must(t, c.WaitHolder(site.LANAddress, "r1", 8*time.Second))
	})
	t.Run("kept after the backup was killed", func(t *testing.T) {
		trial(t, c, old, "r1")
		must(t, c.Daemons["r2"].Kill())
		must(t, c.Run("r2"))
		runs(t, good, 2*time.Second, "r2")
		if netlab.WaitFor("kept", 3*time.Second, func() bool { _, err := c.Command("r1", "reload"); return err == nil }) != nil {
			t.Fatal("not kept")
		}
		quiet(t, old)
	})
	t.Run("off during three reloads", func(t *testing.T) {
		for _, v := range []struct{ off, on string }{{"r1", "r2"}, {"r2", "r1"}} {
			code, err := c.Daemons[v.off].Stop(10 * time.Second)
			must(t, err)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			must(t, c.WaitHolder(site.LANAddress, v.on, time.Second))
			var last string
			for i := range 3 {
				last = site.Replace(old, "weight: 2", fmt.Sprintf("weight: %d", 4+i))
				reloaded(t, c, last, v.on)
			}
			disk(t, c, old, v.off)
			must(t, c.Run(v.off))
			quiet(t, last)
			must(t, c.WaitHolder(site.LANAddress, "r1", 8*time.Second))
			reloaded(t, c, old, "r2", "r1")
			quiet(t, old)
		}
	})
	t.Run("another mark in a cold start", func(t *testing.T) {
		marked := old + "balance: {mark_mask: 0xff0000}\n"
		write(t, c, marked, both...)
		for _, r := range []string{"r2", "r1"} {
			_, err := c.Daemons[r].Stop(10 * time.Second)
			must(t, err)
		}
		must(t, c.Run(both...))
		quiet(t, marked)
		only(t, "with the new marks", works(t, "with the new marks", connect(t, c, "h1", echo(site.Server), 30)), site.WAN1, site.WAN2)
	})
	noLeaks(t, c)
}

// TestReloadThreeNodes: all three or none; one that is off comes after.
func TestReloadThreeNodes(t *testing.T) {
	t.Parallel()
	c := pair(t, netlab.PairOptions{Routers: 3, WANOwn: true}, site.Config)
	r2 := "  r2: {address: 192.0.2.2, priority: 150}\n"
	three := site.Replace(site.Config, r2, r2+"  r3: {address: 192.0.2.3, priority: 100}\n")
	all := []string{"r1", "r2", "r3"}
	inUse(t, c, 1, "r1", "r2")
	reloaded(t, c, three, "r2", "r1") // a node more, which is off
	write(t, c, three, "r3")
	must(t, c.Run("r3"))
	inUse(t, c, 2, all...)
	heavier := site.Replace(three, "weight: 2", "weight: 9")
	write(t, c, heavier, "r1", "r3")
	refused(t, c, "r3", "the file on r2 is another one")
	reloaded(t, c, heavier, "r3", "r2", "r1")
	inUse(t, c, 3, all...)
	must(t, c.Daemons["r2"].Kill())
	write(t, c, three, "r1", "r3")
	at := time.Now()
	if out, err := c.Command("r3", "reload"); err != nil { // r2 is not known to be dead yet
		t.Logf("%v: %s %v", time.Since(at), out, err)
		must(t, netlab.WaitFor("a reload once r2 is known to be dead", 4*time.Second, func() bool { _, err := c.Command("r3", "reload"); return err == nil }))
	}
	must(t, c.Run("r2"))
	inUse(t, c, 4, all...)
	disk(t, c, three, all...)
	must(t, c.WaitHolder(site.LANAddress, "r1", time.Second))
	write(t, c, site.Config, all...)
	refused(t, c, "r1", `no node "r3"`, "nothing changed anywhere")
	_, err := c.Command("r3", "leave")
	must(t, err)
	must(t, netlab.WaitFor("a reload once r3 is gone", 4*time.Second, func() bool { _, err = c.Command("r2", "reload"); return err == nil }))
	s, err := c.Status("r2")
	must(t, err)
	inUse(t, c, s.Config.Generation, "r1", "r2") // the first after the leave takes r3 out, be it this reload or not

	// The master is taken out while it is cut off: it gives way when it hears of it.
	must(t, c.WaitHolder(site.LANAddress, "r1", time.Second))
	must(t, c.Part([]string{"r1"}, []string{"r2"}))
	write(t, c, site.Replace(site.Config, "  r1: {address: 192.0.2.1, priority: 200}\n", ""), "r2")
	must(t, netlab.WaitFor("a reload once r1 is gone", 4*time.Second, func() bool { _, err = c.Command("r2", "reload"); return err == nil }))
	must(t, c.Wait("two masters", "r2", 2*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleMaster }))
	must(t, c.Rejoin("r1", "r2"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 2*time.Second))
	must(t, c.Wait("the alarm", "r1", 2*time.Second, alarmed(ha.AlarmConfigDiffers, "node r1")))
	if s, err := c.Status("r1"); err != nil || s.Role != ha.RoleFault {
		t.Errorf("r1 is %v, %v", s.Role, err)
	}
	refused(t, c, "r1", "taken out of the file of r2")
}
