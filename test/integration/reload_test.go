package integration

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
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
	if n := rep.FreshFailedSince(steps[0].name); n > 0 {
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
		if netlab.WaitFor("the same state", 3*time.Second, func() bool {
			diff = cmp.Diff(kernelState(t, c, r), was[r])
			return diff == ""
		}) != nil {
			t.Errorf("%s (-fresh start +reloaded):\n%s", r, diff)
		}
		if s, err := c.Status(r); err != nil || s.PlanHash != hash[r] {
			t.Errorf("%s: plan %s fresh, %s reloaded, %v", r, s.PlanHash, hash[r], err)
		}
	}
	noLeaks(t, c)
}
