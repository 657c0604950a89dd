package dataplane

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"harouter/balancer"
	"harouter/test/netlab"
)

// holding is a policy whose first packets wait, one uplink's share tiny.
func holding(c *balancer.Config) {
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.FastestResponse, Learned: time.Minute, Hold: true}}
	c.Uplinks[0].Weight, c.Uplinks[1].Weight = 255, 1
}

// TestHold: the kernel takes the rules and tells them as they were written. Where
// nobody reads the queue, and where the kernel has none, nobody waits.
func TestHold(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	server.serve(80)
	holding(&c)
	plan := build(t, c, in)
	sets, active := k.Races()
	if len(sets) > 0 || !active {
		t.Errorf("nobody races, and there is %v, active %v", sets, active)
	}
	must(t, k.Apply(t.Context(), plan))
	if k.queue != queueNative && k.queue != queueCompat {
		t.Fatalf("this kernel cannot let packets wait: %v", k.queue)
	}
	if found := k.passTable(&plan, false); found.change || found.err != nil {
		t.Errorf("once more: %+v", found)
	}
	rules := netlab.Sh(t, "nft -j list table inet harouter") // a person's nft reads on, whatever it makes of the target
	if !strings.Contains(rules, "NFQUEUE") && !strings.Contains(rules, `"queue"`) {
		t.Error("no rule has packets wait")
	}
	if sets, active = k.Races(); len(sets) != 1 || sets[0].Queue != 7000 || !active {
		t.Errorf("races: %+v, active %v", sets, active)
	}
	nobodyWaits := func(what, to string) {
		t.Helper()
		began := time.Now()
		if d := cmp.Diff(map[string]int{cableAddr: 3}, client.seen(to, 3)); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
		if took := time.Since(began); took > 900*time.Millisecond { // a SYN is repeated after a second
			t.Errorf("%s: after %v", what, took)
		}
	}
	nobodyWaits("nobody reads", "198.51.100.1:80")
	if out := netlab.Sh(t, "nft list set inet harouter held_default; nft list set inet harouter wanted_default"); !strings.Contains(out, "198.51.100.1 . 80") {
		t.Errorf("the destination is not noted:\n%s", out)
	}
	if k.Repairs() != (Repairs{}) {
		t.Errorf("repairs %+v", k.Repairs())
	}
	k.queue = queueNone
	must(t, k.Apply(t.Context(), plan))
	if out := netlab.Sh(t, "nft -j list table inet harouter"); strings.Contains(out, "NFQUEUE") || strings.Contains(out, `"queue"`) {
		t.Error("a rule asks for what the kernel has not")
	}
	nobodyWaits("no queue", "198.51.100.2:80")
	k.queue = queueUnknown // (and asked anew)
	must(t, k.Apply(t.Context(), plan))
	nobodyWaits("found out again", "198.51.100.3:80")
	must(t, k.Activate(t.Context(), false, false))
	if _, active = k.Races(); active {
		t.Error("a backup holds packets")
	}
	must(t, k.Cleanup(t.Context()))
	if sets, _ = k.Races(); len(sets) > 0 {
		t.Errorf("after the clean-up: %v", sets)
	}
}

// TestHoldAsAScript: nft takes the plan's text. Where the kernel has no expression
// for a queue that is all that is wrong with it.
func TestHoldAsAScript(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	c, in := twoUplinks()
	holding(&c)
	text := build(t, c, in).Table.String()
	for _, s := range []string{text, strings.ReplaceAll(text, "queue flags bypass to 7000", "accept")} {
		file := filepath.Join(t.TempDir(), "table")
		must(t, os.WriteFile(file, []byte(s), 0o600))
		out := netlab.Sh(t, fmt.Sprintf("nft -f %s 2>&1 || echo refused", file))
		if strings.Contains(out, "refused") && (s != text || strings.Contains(out, "syntax error")) {
			t.Errorf("nft: %s", out)
		}
	}
}

// TestQueueExpressions: nft's own, and the target that stands for it.
func TestQueueExpressions(t *testing.T) {
	got, err := lower(balancer.Queue{Num: 7001})
	must(t, err)
	if d := cmp.Diff([]expr.Any{&expr.Queue{Num: 7001, Total: 1, Flag: expr.QueueFlagBypass}}, got); d != "" {
		t.Errorf("native (-want +got):\n%s", d)
	}
	all := []expr.Any{&expr.Counter{}, got[0]}
	compatible(all)
	info := xt.Unknown{0x59, 0x1b, 1, 0, 1, 0} // on a little-endian machine
	if d := cmp.Diff([]expr.Any{&expr.Counter{}, &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}}, all); d != "" {
		t.Errorf("compatible (-want +got):\n%s", d)
	}
	// To the kernel: attributes of linux/netfilter/nf_tables.h (as a little-endian
	// machine has them; numbers within are big endian, but for those of the target).
	for _, e := range []struct {
		expr expr.Any
		want string
	}{
		{got[0], // NUM, TOTAL, FLAGS with bypass
			"0a00 0100 717565756500 0000" + "1c00 0280" + "0600 0100 1b59 0000" + "0600 0200 0001 0000" + "0600 0300 0001 0000"},
		{all[1], // NAME, REV, INFO
			"0b00 0100 74617267657400 00" + "2400 0280" + "0c00 0100 4e46515545554500" + "0800 0200 00000003" + "0a00 0300 591b 0100 0100 0000"},
	} {
		b, err := expr.Marshal(unix.NFPROTO_INET, e.expr)
		must(t, err)
		if d := cmp.Diff(strings.ReplaceAll(e.want, " ", ""), hex.EncodeToString(b)); d != "" {
			t.Errorf("%T (-want +got):\n%s", e.expr, d)
		}
	}
}
