package vip

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// routes are all routes of all tables, but for those of the local table that
// belong to a virtual address.
func routes(t *testing.T, all bool) []string {
	t.Helper()
	var out []string
	for _, line := range strings.Split(netlab.Sh(t, "ip route show table all"), "\n") {
		f := strings.Fields(line)
		own := slices.Contains(f, "local") && slices.ContainsFunc(f, func(w string) bool {
			return slices.Contains([]string{"192.168.77.1", "192.168.77.9", "192.168.77.255", "203.0.113.10", "203.0.113.127"}, w)
		})
		if line != "" && (all || !own) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	slices.Sort(out)
	return out
}

// settled: either the admin's address is there or ours.
func settled(t *testing.T) bool {
	all := strings.Join(on(t, "lan0"), " ")
	return strings.Contains(all, "169.254.51.1/32") != (strings.Contains(all, "192.168.77.2/24") || strings.Contains(all, "10.0.0.1"))
}

// TestRoutes: adding and removing virtual addresses changes no route, whatever
// the admin does, and in whatever order.
func TestRoutes(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	const (
		ownAdd = "ip addr add 192.168.77.2/24 dev lan0"
		ownDel = "ip addr del 192.168.77.2/24 dev lan0"
		plan   = "ip route add 192.168.77.0/24 dev lan0 table 7001; ip route add default via 203.0.113.1 dev wan0 onlink table 7001; "
	)
	// IPv6 routes come when they please, and are not what this is about. The
	// kernel has no local table before the first address.
	netlab.Sh(t, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; ip link set lo up")
	own := func(d string) OwnAddress { return OwnAddress{Device: d, Prefix: pfx("169.254.51.1/32")} }
	setup := func(t *testing.T, before string) *Keeper {
		t.Helper()
		netlab.Sh(t, "ip link del lan0 || true; ip link del wan0 || true")
		cable(t, "lan0")
		cable(t, "wan0")
		netlab.Sh(t, plan+before)
		k := newKeeper(t, Config{Addresses: []Address{lan, lan2, wan}, Own: []OwnAddress{own("lan0"), own("wan0")}, Timing: never})
		t.Cleanup(start(t, k))
		eventually(t, "own addresses", func() bool { return settled(t) && len(on(t, "wan0")) == 1 })
		return k
	}
	for _, c := range []struct {
		name   string
		before string // what stands when the virtual addresses come
		while  string // what the admin does while they are there
		undo   string // what comes to the same without virtual addresses
	}{
		{"no own address", "true", "true", "true"},
		{"own address first", ownAdd, "true", "true"},
		{"own address of another network first", "ip addr add 10.0.0.1/8 dev lan0", "true", "true"},
		{"own address later", "true", ownAdd, ownAdd},
		{"two own addresses later", "true", ownAdd + "; ip addr add 192.168.77.3/24 dev lan0", ownAdd + "; ip addr add 192.168.77.3/24 dev lan0"},
		{"own address goes and comes", ownAdd, ownDel + "; " + ownAdd, "true"},
		// Not the last one: with that the kernel takes all routes of a device.
		{"own address goes", ownAdd + "; ip addr add 10.0.0.1/8 dev lan0", ownDel, ownDel},
		{"without promote_secondaries, own address first", "echo 0 > /proc/sys/net/ipv4/conf/lan0/promote_secondaries; " + ownAdd, "true", "true"},
		{"without promote_secondaries, own address later", "echo 0 > /proc/sys/net/ipv4/conf/lan0/promote_secondaries", ownAdd, ownAdd},
	} {
		t.Run(c.name, func(t *testing.T) {
			var first, then, thenFew []string // without virtual addresses
			t.Run("without", func(t *testing.T) {
				k := setup(t, c.before)
				first = routes(t, true)
				netlab.Sh(t, c.undo)
				k.LinkChanged("lan0")
				eventually(t, "one own address", func() bool { return settled(t) })
				then, thenFew = routes(t, true), routes(t, false)
			})
			k := setup(t, c.before)
			if diff := cmp.Diff(first, routes(t, true)); diff != "" {
				t.Fatalf("the test itself: %s", diff)
			}
			few := routes(t, false)
			add(t, k)
			if diff := cmp.Diff(few, routes(t, false)); diff != "" {
				t.Errorf("after Add: %s", diff)
			}
			netlab.Sh(t, c.while)
			k.LinkChanged("lan0")
			eventually(t, "the admin's routes, with the addresses on", func() bool {
				return cmp.Equal(thenFew, routes(t, false)) && cmp.Equal([]bool{true, true, true}, isPresent(t, k))
			})
			removeAll(t, k)
			if diff := cmp.Diff(then, routes(t, true)); diff != "" {
				t.Errorf("after Remove: %s", diff)
			}
		})
	}
}
