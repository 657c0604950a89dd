package dataplane

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// TestRepairOfTheTable: whatever was done to our table, the next Apply gives
// the table of a fresh start.
func TestRepairOfTheTable(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := quietKernel(t)
	c, in := twoUplinks()
	p := build(t, c, in)
	must(t, k.Apply(t.Context(), p))
	want := quiet(state(t))
	for _, damage := range []string{
		"nft flush ruleset",
		"nft flush table inet harouter",
		"nft flush chain inet harouter post; nft delete chain inet harouter post",
		"nft flush chain inet harouter midstream; nft flush chain inet harouter to_wan; nft delete chain inet harouter midstream",
		"nft add chain inet harouter alien; nft add rule inet harouter alien drop; nft insert rule inet harouter lan jump alien",
		`nft add map inet harouter evil "{ type mark : verdict; }"; nft add chain inet harouter lair; nft add element inet harouter evil "{ 1 : goto lair }"`,
		`nft add set inet harouter odd "{ typeof vlan id . ether type; }"`,
		`nft add set inet harouter odd "{ type ipv4_addr . inet_service; flags interval; }"`,
		`nft chain inet harouter forwarded "{ policy drop; }"`,
		`nft add table inet harouter "{ flags dormant; }"`,
		"nft add element inet harouter virtual '{ 203.0.113.99 }'",
		"nft delete element inet harouter slots_default '{ 7 }'; nft add element inet harouter slots_default '{ 7 : goto in_dsl }'",
		"nft delete table inet harouter; nft add table inet harouter; nft add chain inet harouter pre; nft add set inet harouter lan_if '{ type ipv4_addr; }'",
		"nft delete table inet harouter; nft add table inet harouter; nft add chain inet harouter post '{ type filter hook postrouting priority 0; }'",
	} {
		netlab.Sh(t, damage)
		if quiet(state(t)) == want {
			t.Errorf("%s: no damage", damage)
		}
		if err := k.Apply(t.Context(), p); err != nil {
			t.Errorf("after %q: %v", damage, err)
		}
		if d := cmp.Diff(sorted(want), sorted(quiet(state(t)))); d != "" {
			t.Errorf("after %q:\n%s", damage, d)
		}
		before := netlab.Sh(t, "nft -a list ruleset")
		must(t, k.Apply(t.Context(), p))
		if d := cmp.Diff(before, netlab.Sh(t, "nft -a list ruleset")); d != "" {
			t.Errorf("after %q: not settled by one Apply:\n%s", damage, d)
		}
	}
}

// TestRoutesOfOthers: routes of others with the destination of ours stay.
func TestRoutesOfOthers(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, "ip route add 192.168.77.0/24 dev lan0 metric 5; ip route add 192.168.99.0/24 dev p1 2>/dev/null || true")
	k := quietKernel(t)
	c, in := twoUplinks()
	in.OwnLan = nil // as if there were none: the plan has a route of its own
	netlab.Sh(t, "ip addr flush dev lan0; ip addr add 192.168.77.2/32 dev lan0; ip route add 192.168.77.0/24 dev lan0 metric 0; ip route add 192.168.77.0/24 dev lan0 metric 5")
	before := netlab.Sh(t, "ip route show proto boot")
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if s := netlab.Sh(t, "ip route show proto 200"); !strings.Contains(s, "192.168.77.0/24") {
		t.Errorf("no route of ours: %s", s)
	}
	if d := cmp.Diff(before, netlab.Sh(t, "ip route show proto boot")); d != "" {
		t.Errorf("routes of others changed:\n%s", d)
	}
	must(t, k.Apply(t.Context(), build(t, c, in)))
	must(t, k.Cleanup(t.Context()))
	if d := cmp.Diff(before, netlab.Sh(t, "ip route show proto boot")); d != "" {
		t.Errorf("Cleanup changed routes of others:\n%s", d)
	}
	if s := netlab.Sh(t, "ip route show table all proto 200"); s != "" {
		t.Errorf("Cleanup left %s", s)
	}
}

// TestDeadHopsComeBack: a device that lost its last address, or was down, makes
// its hops dead; Apply revives them.
func TestDeadHopsComeBack(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, "ip addr add 203.0.113.130/25 dev wan2")
	k := quietKernel(t)
	c, in := twoUplinks()
	p := build(t, c, in)
	must(t, k.Apply(t.Context(), p))
	read := func() string { return netlab.Sh(t, "ip route show table all proto 200") }
	want := read()
	for _, damage := range []string{
		"ip addr flush dev wan2; ip addr add 203.0.113.130/25 dev wan2",
		"ip addr flush dev wan2",
		"ip link set wan2 down; ip link set wan2 up",
	} {
		netlab.Sh(t, damage)
		if read() == want {
			t.Errorf("%s: no damage", damage)
		}
		must(t, k.Apply(t.Context(), p))
		if d := cmp.Diff(want, read()); d != "" {
			t.Errorf("after %q:\n%s", damage, d)
		}
	}
	// Down: told as left out, and the multipath route does without it.
	netlab.Sh(t, "ip link set wan2 down")
	err := k.Apply(t.Context(), p)
	var skipped *SkippedError
	if !errors.As(err, &skipped) || !OnlySkipped(err) {
		t.Errorf("error: %v, want only skipped parts", err)
	}
	if s := netlab.Sh(t, "ip route show table 7000"); !strings.HasPrefix(s, "default via 203.0.113.1 dev wan1") {
		t.Errorf("pool: %s", s)
	}
	netlab.Sh(t, "ip link set wan2 up")
	must(t, k.Apply(t.Context(), p))
	if d := cmp.Diff(want, read()); d != "" {
		t.Errorf("after up:\n%s", d)
	}
}

func TestOnlySkipped(t *testing.T) {
	s := &SkippedError{Item: "the route x", Reason: "y"}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":      {nil, true},
		"one":          {s, true},
		"joined":       {errors.Join(errors.Join(s, nil), s), true},
		"another":      {errors.New("z"), false},
		"among others": {errors.Join(s, errors.New("z")), false},
	} {
		if got := OnlySkipped(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestStepDownWithoutWANAddress: the backup's way leads over the virtual
// address, which it still holds when the plan comes; the route to the uplinks
// must not stay.
func TestStepDownWithoutWANAddress(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	netlab.Sh(t, "ip addr del 203.0.113.2/25 dev wan1; ip addr add 192.168.77.1/24 dev lan0 noprefixroute")
	k := quietKernel(t)
	c, in := twoUplinks()
	in.Own = nil
	must(t, k.Apply(t.Context(), build(t, c, in)))
	running(t, k)
	in.Active, in.Holding = false, false
	start := time.Now()
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("Apply waited %v", took)
	}
	pool := func() string { return netlab.Sh(t, "ip route show table 7000") }
	if s := pool(); s != "" {
		t.Errorf("pool: %q, want no way out yet", s)
	}
	netlab.Sh(t, "ip addr del 192.168.77.1/24 dev lan0")
	eventually(t, time.Second, "the way over the master", func() bool { return strings.Contains(pool(), "default via 192.168.77.1 dev lan0") })
	if r := k.Repairs(); r != (Repairs{}) {
		t.Errorf("repairs: %+v, nobody else changed anything", r)
	}
}
