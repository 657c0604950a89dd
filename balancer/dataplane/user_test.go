package dataplane

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
)

// userRules have types that the library for nftables does not know.
const userRules = `nft -f - <<'EOF'
table inet harouter {
	chain user_forward {
		type filter hook forward priority -11; policy accept;
	}
}
table inet harouter {
	set user_odd { typeof icmpv6 type . icmpv6 code; elements = { 1 . 2 }; }
	map user_ways { type ipv4_addr : verdict; elements = { 192.0.2.66 : drop }; }
	counter user_count { }
	chain user_own { counter name user_count drop; }
	chain user_forward {
		icmpv6 type . icmpv6 code @user_odd drop
		meta day { "Saturday", "Sunday" } jump user_own
		ip saddr vmap @user_ways
	}
}
EOF`

// TestUserChains: what the admin's snippets put into the table is left alone by
// plans and looks, found missing once it is kept, and asked for anew.
func TestUserChains(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	c, in := twoUplinks()
	var tells told
	cfg := tells.config(t)
	lost := make(chan struct{}, 8)
	cfg.UserLost = func() { lost <- struct{}{} }
	cfg.Log = slog.New(slog.DiscardHandler)
	k, err := New(cfg)
	must(t, err)
	must(t, k.Apply(t.Context(), build(t, c, in)))
	awaitLost := func(what string) {
		t.Helper()
		select {
		case <-lost:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: not told", what)
		}
	}
	keep := func(want bool) {
		t.Helper()
		begun := k.BeginUser()
		netlab.Sh(t, userRules)
		ok, err := k.KeepUser(begun)
		must(t, err)
		if ok != want {
			t.Fatalf("kept: %v, want %v", ok, want)
		}
	}
	awaitLost("the first table")
	keep(true)
	users := func() string { return netlab.Sh(t, "nft -s list table inet harouter | grep -c 'user_' || true") }
	want := users()

	in.Usable["dsl"] = false
	must(t, k.Apply(t.Context(), build(t, c, in)))
	if s := netlab.Sh(t, "nft list table inet harouter"); strings.Contains(s, "goto up_dsl") {
		t.Error("the plan is not in force beside the rules of the admin")
	}
	running(t, k)
	netlab.Sh(t, "nft add element inet harouter user_ways '{ 192.0.2.67 : drop }'")
	netlab.Sh(t, "nft delete element inet harouter slots_default '{ 7 }'")
	eventually(t, 2*time.Second, "the slot is back", func() bool { return k.Repairs().Table == 1 })
	if users() != want || k.Repairs().Table != 1 || len(lost) > 0 {
		t.Errorf("%s and %+v, lost %d", users(), k.Repairs(), len(lost))
	}
	for n, damage := range []string{
		"nft flush chain inet harouter user_own",
		"nft flush chain inet harouter user_forward; nft delete chain inet harouter user_forward",
		"nft add chain inet harouter user_more",
		"nft delete table inet harouter",
	} {
		before := k.Repairs().Table
		netlab.Sh(t, damage)
		awaitLost(damage)
		eventually(t, 2*time.Second, damage+" is counted", func() bool { return k.Repairs().Table > before })
		netlab.Sh(t, "for c in forward own more; do nft flush chain inet harouter user_$c 2>/dev/null || true; done; nft delete chain inet harouter user_more 2>/dev/null || true")
		keep(true)
		if n == 3 && users() != want {
			t.Errorf("%s: %s lines, want %s", damage, users(), want)
		}
	}

	begun := k.BeginUser()
	netlab.Sh(t, "nft delete table inet harouter")
	awaitLost("the table while the rules are written")
	if ok, err := k.KeepUser(begun); ok || err != nil {
		t.Errorf("kept in another table: %v %v", ok, err)
	}
	must(t, k.Cleanup(t.Context()))
	if s := netlab.Sh(t, "nft list ruleset"); s != "" {
		t.Errorf("left: %s", s)
	}
}
