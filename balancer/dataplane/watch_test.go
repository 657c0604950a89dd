package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// running runs the Kernel's task until the test ends.
func running(t *testing.T, k *Kernel) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Errorf("%v: %v", k, err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// told collects what a Kernel tells.
type told struct {
	mu       sync.Mutex
	repaired []string
	fought   []string
	at       []time.Time // of fought
}

func (l *told) config(t *testing.T) Config {
	return Config{
		StateDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Repaired: func(kind, what string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.repaired = append(l.repaired, kind+": "+what)
		},
		Fought: func(kind string, on bool, _ string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.fought = append(l.fought, fmt.Sprint(kind, " ", on))
			l.at = append(l.at, time.Now())
		},
	}
}

func (l *told) fights() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.fought...)
}

// full is state with the sysctls of the plan.
func full(t *testing.T) string {
	return quiet(state(t)) + netlab.Sh(t, `cd /proc/sys/net/ipv4; grep . ip_forward conf/all/send_redirects
for d in lan0 wan1 wan2; do grep . conf/$d/arp_ignore conf/$d/arp_announce conf/$d/promote_secondaries conf/$d/rp_filter conf/$d/send_redirects conf/$d/forwarding 2>/dev/null || true; done
nft list set inet harouter active 2>/dev/null || true`)
}

// TestWatch: whatever another program takes away is put back within a second,
// counted and told. Each damage is done by tools, as others would.
func TestWatch(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, "ip addr add 203.0.113.130/25 dev wan2; nft list table inet harouter 2>/dev/null || true")
	c, in := twoUplinks()
	var tells told
	k, err := New(tells.config(t))
	must(t, err)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Activate(t.Context(), true, false))
	running(t, k)
	want := full(t)
	for _, damage := range []struct {
		name, do string
		want     Repairs // how many more at least
	}{
		{"a rule deleted", "ip rule del pref 7001", Repairs{Rule: 1}},
		{"all rules flushed", "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default", Repairs{Rule: 5}},
		{"a rule added in our name", "ip rule add pref 7999 lookup 12345 protocol 200", Repairs{Rule: 1}},
		{"a table flushed", "ip route flush table 7001", Repairs{Route: 3}},
		{"the pool flushed", "ip route flush table 7000", Repairs{Route: 1}},
		{"a route replaced by a foreign one", "ip route replace default via 203.0.113.99 dev wan1 onlink table 7001", Repairs{Route: 1}},
		{"a route replaced in our name", "ip route replace default via 203.0.113.99 dev wan1 onlink table 7001 proto 200", Repairs{Route: 1}},
		{"the addresses flushed", "ip addr flush dev wan1; ip addr add 203.0.113.2/25 dev wan1", Repairs{Route: 1}},
		{"the whole ruleset flushed", "nft flush ruleset", Repairs{Table: 1}},
		{"our table deleted", "nft delete table inet harouter", Repairs{Table: 1}},
		{"our table flushed", "nft flush table inet harouter", Repairs{Table: 1}},
		{"a chain flushed", "nft flush chain inet harouter lan", Repairs{Table: 1}},
		{"a slot deleted", "nft delete element inet harouter slots_default '{ 7 }'", Repairs{Table: 1}},
		{"a slot changed", "nft delete element inet harouter slots_default '{ 0 }'; nft add element inet harouter slots_default '{ 0 : goto in_dsl }'", Repairs{Table: 1}},
		{"a set emptied", "nft flush set inet harouter virtual", Repairs{Table: 1}},
		{"a rule inserted", "nft insert rule inet harouter pre counter drop", Repairs{Table: 1}},
		{"a rule deleted from a chain", "nft delete rule inet harouter pre handle $(nft -a list chain inet harouter pre | sed -n 's/.*iifname vmap @way_in.*handle //p')", Repairs{Table: 1}},
		{"a rule replaced under its comment", "l=$(nft -a list chain inet harouter pre | grep 'iifname vmap @way_in'); c=$(echo \"$l\" | sed 's/.*comment \\(\".*\"\\).*/\\1/'); nft replace rule inet harouter pre handle ${l##* } drop comment \"$c\"", Repairs{Table: 1}},
		{"the switch turned", "nft flush set inet harouter active", Repairs{Table: 1}},
		{"a grace time without an end", "nft add element inet harouter grace '{ ipv4 }'", Repairs{Table: 1}},
		{"made dormant", `nft add table inet harouter "{ flags dormant; }"`, Repairs{Table: 1}},
		{"forwarding off", "echo 0 > /proc/sys/net/ipv4/ip_forward", Repairs{Sysctl: 4}},
		{"rp_filter on", "echo 1 > /proc/sys/net/ipv4/conf/wan1/rp_filter", Repairs{Sysctl: 1}},
		{"arp_ignore off", "echo 0 > /proc/sys/net/ipv4/conf/wan2/arp_ignore", Repairs{Sysctl: 1}},
		{"the device down and up", "ip link set wan2 down; ip link set wan2 up", Repairs{}},
		{"the device made anew", "ip link del wan2; ip link add wan2 type veth peer name pwan2; ip link set wan2 up; ip link set pwan2 up; ip addr add 203.0.113.130/25 dev wan2", Repairs{}},
		{"the device made anew, slowly", "ip link del wan2; sleep 0.7; ip link add wan2 type veth peer name pwan2; ip link set wan2 up; ip link set pwan2 up; ip addr add 203.0.113.130/25 dev wan2", Repairs{}},
	} {
		before := k.Repairs()
		k.applying.Lock() // each damage is the first
		k.fights = newFights(usualPace)
		start := time.Now()
		netlab.Sh(t, damage.do)
		if damaged := full(t); damaged == want && !strings.Contains(damage.name, "grace") && !strings.Contains(damage.name, "under its comment") {
			t.Errorf("%s: no damage", damage.name)
		}
		if s := damage.name; strings.Contains(s, "slowly") {
			start = time.Now()
		}
		k.applying.Unlock()
		last := ""
		deadline := start.Add(time.Second + 200*time.Millisecond) // the tools need time too
		content := func() bool {
			after := k.Repairs()
			last = cmp.Diff(sorted(want), sorted(full(t)))
			return last == "" && after.Rule-before.Rule >= damage.want.Rule && after.Route-before.Route >= damage.want.Route &&
				after.Table-before.Table >= damage.want.Table && after.Sysctl-before.Sysctl >= damage.want.Sysctl
		}
		for !content() && time.Now().Before(deadline) {
		}
		if !content() {
			t.Errorf("%s: after %v, repairs before %+v, now %+v:\n%s", damage.name, time.Since(start), before, k.Repairs(), last)
			continue
		}
		t.Logf("%-40s mended within %v", damage.name, time.Since(start).Round(time.Millisecond))
		after := k.Repairs()
		for _, n := range []struct{ want, before, after uint64 }{
			{damage.want.Rule, before.Rule, after.Rule}, {damage.want.Route, before.Route, after.Route},
			{damage.want.Table, before.Table, after.Table}, {damage.want.Sysctl, before.Sysctl, after.Sysctl},
		} {
			if n.want == 0 && n.before != n.after {
				t.Errorf("%s: counted something else: %+v, then %+v", damage.name, before, after)
			}
		}
	}
	if f := tells.fights(); len(f) > 0 {
		t.Errorf("fights: %v", f)
	}
	t.Logf("told: %s", strings.Join(tells.repaired, "\n"))
}

// TestFight: who takes something away again and again is met at growing
// intervals and told of, and when it ends that is told too.
func TestFight(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	var tells told
	k, err := New(tells.config(t))
	must(t, err)
	// A tenth of the usual times, the window aside.
	k.fights = newFights(pace{few: 5, window: time.Minute, first: 100 * time.Millisecond, longest: 6 * time.Second, peace: 800 * time.Millisecond})
	must(t, k.Apply(t.Context(), build(t, c, in)))
	running(t, k)
	end := time.Now().Add(2500 * time.Millisecond)
	for time.Now().Before(end) {
		netlab.Sh(t, "ip rule del pref 7001 2>/dev/null || true; sleep 0.01")
	}
	if d := cmp.Diff([]string{"rule true"}, tells.fights()); d != "" {
		t.Errorf("fights: %s", d)
	}
	n := k.Repairs().Rule
	// 5 at once, and then after 100, 200, 400, 800 ms.
	if n < 7 || n > 10 {
		t.Errorf("%d repairs", n)
	}
	eventually(t, 5*time.Second, "the end of the fight", func() bool { return len(tells.fights()) == 2 })
	if d := cmp.Diff([]string{"rule true", "rule false"}, tells.fights()); d != "" {
		t.Errorf("fights: %s", d)
	}
	if s := netlab.Sh(t, "ip rule show pref 7001"); s == "" {
		t.Error("the rule is not there")
	}
	// The same of a sysctl, which is looked at all the time.
	for len(tells.fights()) < 3 {
		netlab.Sh(t, "echo 0 > /proc/sys/net/ipv4/conf/wan1/arp_ignore; sleep 0.1")
	}
	eventually(t, 5*time.Second, "the end of that fight", func() bool { return len(tells.fights()) == 4 })
	if s := netlab.Sh(t, "cat /proc/sys/net/ipv4/conf/wan1/arp_ignore"); s != "1\n" {
		t.Errorf("arp_ignore: %s", s)
	}
}

// TestMayRepair: a node that must confirm its role first puts nothing back.
func TestMayRepair(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	var tells told
	cfg := tells.config(t)
	var may atomic.Bool
	var asked atomic.Int32
	cfg.MayRepair = func() bool { asked.Add(1); return may.Load() }
	k, err := New(cfg)
	must(t, err)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	running(t, k)
	netlab.Sh(t, "ip rule del pref 7001; nft delete table inet harouter")
	eventually(t, 3*time.Second, "three questions", func() bool { return asked.Load() >= 3 })
	if s := netlab.Sh(t, "ip rule show pref 7001; nft list tables"); s != "" || k.Repairs() != (Repairs{}) {
		t.Errorf("repaired: %s %+v", s, k.Repairs())
	}
	may.Store(true)
	eventually(t, time.Second, "the repair", func() bool { return k.Repairs() == Repairs{Rule: 1, Table: 1} })
	// After a clean-up nothing comes back.
	must(t, k.Cleanup(t.Context()))
	netlab.Sh(t, "nft add table inet harouter; nft delete table inet harouter; ip rule add pref 7001 lookup 7001; ip rule del pref 7001")
	netlab.Sh(t, "sleep 0.3")
	if s := netlab.Sh(t, "ip rule show pref 7001; nft list tables; ip route show table all proto 200"); s != "" {
		t.Errorf("after Cleanup: %s", s)
	}
}

// TestFlood: thousands of routes and rules of others cost next to nothing,
// nothing is written while nothing is wrong, and damage amid them is found.
func TestFlood(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	k := quietKernel(t)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	running(t, k)
	eventually(t, time.Second, "Run looks", func() bool { k.applying.Lock(); defer k.applying.Unlock(); return k.scope.Load() != nil })
	batch := filepath.Join(t.TempDir(), "routes")
	var lines strings.Builder
	for i := range 10000 {
		fmt.Fprintf(&lines, "route add 10.%d.%d.0/24 via 203.0.113.1 proto bird\n", i/256, i%256)
	}
	must(t, os.WriteFile(batch, []byte(lines.String()), 0o644))
	netlab.Sh(t, "sleep 0.2")
	generation, err := k.generation()
	must(t, err)
	used, start := cpu(t), time.Now()
	netlab.Sh(t, "ip -batch "+batch)
	netlab.Sh(t, "nft add table ip others; for i in 1 2 3 4 5 6 7 8 9; do nft add chain ip others c$i; done")
	netlab.Sh(t, "sleep 0.2")
	flood := cpu(t) - used
	t.Logf("10,000 routes of others in %v cost %v", time.Since(start), flood)
	if flood > 500*time.Millisecond {
		t.Errorf("a flood cost %v", flood)
	}
	used = cpu(t)
	netlab.Sh(t, "sleep 1")
	idle := cpu(t) - used
	t.Logf("a second of nothing costs %v", idle)
	if idle > 50*time.Millisecond {
		t.Errorf("idle costs %v a second", idle)
	}
	if now, err := k.generation(); err != nil || now != generation+10 {
		t.Errorf("generation %d after %d and 10 of others: something was written; %v", now, generation, err)
	}
	start = time.Now()
	netlab.Sh(t, "ip rule del pref 7001")
	eventually(t, time.Second, "the rule", func() bool { return netlab.Sh(t, "ip rule show pref 7001") != "" })
	t.Logf("among them a rule came back after %v", time.Since(start))
}

// TestOverrun: what the kernel could not tell, since there was too much of it,
// is looked for.
func TestOverrun(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	k := quietKernel(t)
	k.buffer = 1 // the kernel makes it about 2 KiB
	must(t, k.Apply(t.Context(), build(t, c, in)))
	running(t, k)
	batch := filepath.Join(t.TempDir(), "batch")
	var lines strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&lines, "route add 10.%d.%d.0/24 via 203.0.113.1 proto bird table 7063\n", i/256, i%256)
	}
	fmt.Fprintln(&lines, "rule del pref 7001")
	must(t, os.WriteFile(batch, []byte(lines.String()), 0o644))
	netlab.Sh(t, "ip rule del pref 7002")
	eventually(t, time.Second, "the first look", func() bool { return k.Repairs().Rule == 1 })
	netlab.Sh(t, "sleep 0.2")
	k.applying.Lock() // Run cannot look, and its listeners fill up
	netlab.Sh(t, "sleep 0.6; ip -batch "+batch)
	k.applying.Unlock()
	eventually(t, time.Second, "the rule", func() bool { return netlab.Sh(t, "ip rule show pref 7001") != "" })
}

// cpu is the processor time that this process has had.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
