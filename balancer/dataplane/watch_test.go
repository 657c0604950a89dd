package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
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
		{"a rule deleted from a chain", "nft delete rule inet harouter pre handle $(nft -a list chain inet harouter pre | sed -n 's/.*iifname @lan_if.*handle //p')", Repairs{Table: 1}},
		{"a rule replaced under its comment", "l=$(nft -a list chain inet harouter pre | grep 'iifname @lan_if'); c=$(echo \"$l\" | sed 's/.*comment \\(\".*\"\\).*/\\1/'); nft replace rule inet harouter pre handle ${l##* } drop comment \"$c\"", Repairs{Table: 1}},
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
		k.fights = [kinds]fight{}
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

// cpu is the processor time that this process has had.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	must(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
