package dataplane

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/netlab"
)

func prefix(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }

func twoUplinks() (balancer.Config, balancer.Input) {
	c := balancer.Config{
		Lans: []balancer.Lan{{Name: "office", Device: "lan0", Virtual: prefix("192.168.77.1/24")}},
		Uplinks: []balancer.Uplink{
			{Name: "cable", ID: 1, Device: "wan1", Gateway: netip.MustParseAddr("203.0.113.1"), Virtual: prefix("203.0.113.10/25"), Weight: 2, Tier: 1},
			{Name: "dsl", ID: 2, Device: "wan2", Gateway: netip.MustParseAddr("203.0.113.129"), Virtual: prefix("203.0.113.140/25"), Weight: 1, Tier: 1},
		},
		Policies: []balancer.Policy{{Name: "default"}},
		MarkMask: 0x3f00, TableBase: 7000, RulePriority: 7000,
		Nodes: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
	}
	in := balancer.Input{
		Usable:   map[string]bool{"cable": true, "dsl": true},
		Verdicts: map[string]balancer.Verdict{"cable": balancer.Up, "dsl": balancer.Up},
		Active:   true, Holding: true,
		Own:    map[string][]netip.Addr{"cable": {netip.MustParseAddr("203.0.113.2")}},
		OwnLan: map[string][]netip.Prefix{"office": prefix("192.168.77.2/24")},
	}
	return c, in
}

func build(t *testing.T, c balancer.Config, in balancer.Input) balancer.Plan {
	t.Helper()
	p, err := balancer.Build(c, in)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func open(t *testing.T) *Kernel {
	t.Helper()
	k, err := New(Config{StateDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func devices(t *testing.T) {
	netlab.Sh(t, `ip link set lo up
for d in lan0 wan1 wan2; do ip link add $d type veth peer name p$d; ip link set $d up; ip link set p$d up; done
ip addr add 192.168.77.2/24 dev lan0; ip addr add 203.0.113.2/25 dev wan1`)
}

// state is all that a plan makes, as the tools show it.
func state(t *testing.T) string {
	return netlab.Sh(t, "ip rule; ip -4 route show table all proto 200 | sort; nft list table inet harouter 2>/dev/null || true")
}

// quiet is state without what counts or carries our tags.
func quiet(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\n")
		if i := strings.Index(line, " comment "); i >= 0 {
			line = line[:i]
		}
		line = strings.ReplaceAll(line, "counter packets 0 bytes 0", "counter")
		line = strings.ReplaceAll(line, "type mark : verdict", "typeof numgen random mod 256 : verdict")
		line = strings.ReplaceAll(line, "meta l4proto tcp iifname", "iifname") // nft adds it for the reset
		out = append(out, line)
	}
	text := slotNumber.ReplaceAllStringFunc(strings.Join(out, "\n"), func(m string) string {
		n, err := strconv.ParseUint(m[2:10], 16, 32)
		if err != nil {
			return m
		}
		return fmt.Sprint(n) + m[10:]
	})
	return elementBreak.ReplaceAllString(text, ", ")
}

// Slots are listed in hex or in decimals, as their type has a name or not.
var (
	slotNumber   = regexp.MustCompile(`0x[0-9a-f]{8} : goto (?:up|learn|over)_`)
	elementBreak = regexp.MustCompile(`,\s+`)
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestApplyTwiceIsOnce(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := open(t)
	p := build(t, first(twoUplinks()), second(twoUplinks()))
	must(t, k.Apply(t.Context(), p))
	before := netlab.Sh(t, "nft -a list ruleset; ip rule; ip -4 route show table all")
	must(t, k.Apply(t.Context(), p))
	if d := cmp.Diff(before, netlab.Sh(t, "nft -a list ruleset; ip rule; ip -4 route show table all")); d != "" {
		t.Errorf("the second Apply changed something:\n%s", d)
	}
}

// TestFormerMetricGoes: an older version gave the last route of each table another
// metric, and its routes are found at the start of this one.
func TestFormerMetricGoes(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	p := build(t, first(twoUplinks()), second(twoUplinks()))
	must(t, open(t).Apply(t.Context(), p))
	before := netlab.Sh(t, "ip -4 route show table all")
	netlab.Sh(t, `for table in 7001 7002; do ip route add unreachable default metric 4278198272 proto 200 table $table; done
ip route del unreachable default metric 2147483647 proto 200 table 7001`)
	must(t, open(t).Apply(t.Context(), p))
	if d := cmp.Diff(before, netlab.Sh(t, "ip -4 route show table all")); d != "" {
		t.Errorf("-wanted +found:\n%s", d)
	}
}

func first(c balancer.Config, _ balancer.Input) balancer.Config  { return c }
func second(_ balancer.Config, in balancer.Input) balancer.Input { return in }

// TestScriptGivesTheSame runs the plan's own text with the tools and compares.
func TestScriptGivesTheSame(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	c, in := twoUplinks()
	for _, active := range []bool{true, false} {
		t.Run(fmt.Sprintf("active=%t", active), func(t *testing.T) {
			netlab.Sh(t, "for d in lan0 wan1 wan2; do ip link del $d 2>/dev/null || true; done; nft flush ruleset")
			devices(t)
			in.Active, in.Holding = active, active
			p := build(t, c, in)
			k := open(t)
			must(t, k.Apply(t.Context(), p))
			ours := quiet(state(t))
			must(t, k.Cleanup(t.Context()))
			if s := state(t); strings.Contains(s, "700") || strings.Contains(s, "harouter") {
				t.Fatalf("Cleanup left:\n%s", s)
			}
			scriptGives(t, p, ours)
		})
	}
}

// scriptGives runs a plan's script, which has to give what was there when the plan
// was applied.
func scriptGives(t *testing.T, p balancer.Plan, ours string) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "plan.sh")
	must(t, os.WriteFile(script, []byte(p.String()), 0o755))
	netlab.Sh(t, script)
	if d := cmp.Diff(ours, quiet(state(t))); d != "" {
		t.Errorf("-applied +script:\n%s", d)
	}
}

func TestRepair(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, `nft add table inet other; nft add chain inet other c '{ type filter hook forward priority 0; }'; nft add rule inet other c counter
ip rule add pref 100 lookup 99; ip route add 10.9.9.0/24 dev lan0 table 99; ip route add 10.8.0.0/24 dev lan0`)
	foreign := func() string {
		return netlab.Sh(t, "nft list table inet other; ip rule show pref 100; ip route show table 99; ip route show 10.8.0.0/24")
	}
	others := foreign()
	k := open(t)
	p := build(t, first(twoUplinks()), second(twoUplinks()))
	must(t, k.Apply(t.Context(), p))
	want := quiet(state(t))
	for _, damage := range []string{
		"nft delete table inet harouter",
		"nft flush chain inet harouter lan",
		"nft add rule inet harouter pre counter drop",
		"nft delete element inet harouter way_in '{ wan1 }'",
		"nft flush map inet harouter slots_default",
		"nft add element inet harouter nodes '{ 9.9.9.9 }'",
		"for p in $(ip rule | sed -n 's/^\\(7[0-9]*\\):.*/\\1/p'); do ip rule del pref $p; done",
		"ip route flush table 7001",
		"ip route flush table 7000",
		"ip route replace default via 203.0.113.99 dev wan1 onlink table 7001 proto 200",
		"ip rule add pref 7999 lookup 12345 protocol 200",
		"ip link set wan1 down; ip link set wan1 up",
	} {
		netlab.Sh(t, damage)
		if quiet(state(t)) == want {
			t.Errorf("%s: no damage", damage)
		}
		must(t, k.Apply(t.Context(), p))
		if d := cmp.Diff(want, quiet(state(t))); d != "" {
			t.Errorf("after %q:\n%s", damage, d)
		}
	}
	if d := cmp.Diff(others, foreign()); d != "" {
		t.Errorf("what others wrote was touched:\n%s", d)
	}
	must(t, k.Cleanup(t.Context()))
	if d := cmp.Diff(others, foreign()); d != "" {
		t.Errorf("Cleanup touched what others wrote:\n%s", d)
	}
}

// TestSequence walks through many inputs: after each the kernel is as if the
// plan had been applied to an empty one.
func TestSequence(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	walker := open(t)
	steps := []func(){
		func() {},
		func() { in.Usable = map[string]bool{"cable": true} },
		func() { in.Active, in.Holding = false, false },
		func() { in.Own = nil },
		func() { in.OwnLan = nil },
		func() { in.Active, in.Holding, in.Usable = true, true, map[string]bool{"dsl": true} },
		func() { c.Uplinks[0].Weight = 7; in.Usable = map[string]bool{"cable": true, "dsl": true} },
		func() { c.Uplinks[1].Virtual = nil },
		func() {
			c.Uplinks = append(c.Uplinks, balancer.Uplink{Name: "lte", ID: 9, Device: "wan3", Gateway: netip.MustParseAddr("198.51.100.1"), Weight: 1, Tier: 2})
			netlab.Sh(t, "ip link add wan3 type veth peer name pwan3; ip link set wan3 up; ip link set pwan3 up; ip addr add 198.51.100.2/24 dev wan3")
		},
		func() { in.Usable["lte"] = true },
		func() { c.Uplinks[0].Name = "fibre"; in.Usable["fibre"] = true },
		func() { c.Uplinks = c.Uplinks[1:] },
		func() { c.Lans = nil },
	}
	for i, step := range steps {
		step()
		p := build(t, c, in)
		if err := walker.Apply(t.Context(), p); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		walked := quiet(state(t))
		if err := walker.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		must(t, open(t).Apply(t.Context(), p))
		if d := cmp.Diff(sorted(quiet(state(t))), sorted(walked)); d != "" {
			t.Errorf("step %d: -fresh +walked:\n%s", i, d)
		}
	}
}

// sorted makes texts comparable that differ in the order of chains and sets.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	m := map[string]int{}
	for _, l := range lines {
		m[l]++
	}
	return fmt.Sprint(m)
}

func TestMissingDevice(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := open(t)
	c, in := twoUplinks()
	p := build(t, c, in)
	must(t, k.Apply(t.Context(), p))
	want := quiet(state(t))
	netlab.Sh(t, "ip link del wan2")
	err := k.Apply(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "the device wan2 is missing") {
		t.Fatalf("error: %v", err)
	}
	if s := state(t); !strings.Contains(s, "default via 203.0.113.1 dev wan1 table 7001") {
		t.Errorf("the other uplink's routes are gone:\n%s", s)
	}
	netlab.Sh(t, "ip link add wan2 type veth peer name pwan2; ip link set wan2 up; ip link set pwan2 up")
	must(t, k.Apply(t.Context(), p))
	if d := cmp.Diff(sorted(want), sorted(quiet(state(t)))); d != "" {
		t.Errorf("after the device came back:\n%s", d)
	}
}

func TestActivate(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := open(t)
	c, in := twoUplinks()
	in.Active, in.Holding = false, false
	must(t, k.Activate(t.Context(), false, false)) // before there is a table
	p := build(t, c, in)
	must(t, k.Apply(t.Context(), p))
	active := func() bool {
		return strings.Contains(netlab.Sh(t, "nft list set inet harouter active"), "elements")
	}
	if active() {
		t.Fatal("active at first")
	}
	start := time.Now()
	must(t, k.Activate(t.Context(), true, true))
	t.Logf("the switch took %v", time.Since(start))
	if !active() {
		t.Fatal("not active after Activate")
	}
	if s := netlab.Sh(t, "nft list set inet harouter grace"); !strings.Contains(s, "timeout 3s") {
		t.Errorf("no grace:\n%s", s)
	}
	must(t, k.Apply(t.Context(), p)) // an older plan does not turn it back
	if !active() {
		t.Error("Apply undid Activate")
	}
	must(t, k.Activate(t.Context(), false, false))
	if active() {
		t.Error("still active")
	}
}

func TestSlotSwapIsQuick(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := open(t)
	c, in := twoUplinks()
	must(t, k.Apply(t.Context(), build(t, c, in)))
	var took []time.Duration
	for i := range 20 {
		c.Uplinks[0].Weight = 1 + i%5
		p := build(t, c, in)
		start := time.Now()
		must(t, k.Apply(t.Context(), p))
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("changes of weights: %v (aim: under 10 ms)", took)
	if took[0] > 100*time.Millisecond { // the others had to wait, perhaps
		t.Errorf("a change of weights took %v at the best", took[0])
	}
}

func TestSysctlsGoBack(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	read := func(key string) string { return strings.TrimSpace(netlab.Sh(t, "cat /proc/sys/net/ipv4/"+key)) }
	netlab.Sh(t, "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 1 > /proc/sys/net/ipv4/conf/wan1/rp_filter")
	before := read("conf/wan2/arp_ignore")
	k := open(t)
	c, in := twoUplinks()
	must(t, k.Apply(t.Context(), build(t, c, in)))
	for key, want := range map[string]string{"ip_forward": "1", "conf/wan1/rp_filter": "2", "conf/wan2/arp_ignore": "1", "conf/lan0/arp_announce": "2"} {
		if got := read(key); got != want {
			t.Errorf("%s = %s, want %s", key, got, want)
		}
	}
	netlab.Sh(t, "echo 8 > /proc/sys/net/ipv4/conf/lan0/arp_ignore") // somebody else's will
	must(t, k.Cleanup(t.Context()))
	for key, want := range map[string]string{"ip_forward": "1", "conf/wan1/rp_filter": "1", "conf/wan2/arp_ignore": before, "conf/lan0/arp_ignore": "8"} {
		if got := read(key); got != want {
			t.Errorf("after Cleanup %s = %s, want %s", key, got, want)
		}
	}
}
