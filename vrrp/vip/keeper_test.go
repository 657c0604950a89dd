package vip

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

const ms = time.Millisecond

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

var (
	lan  = Address{Device: "lan0", Prefix: pfx("192.168.77.1/24"), Link: "office"}
	lan2 = Address{Device: "lan0", Prefix: pfx("192.168.77.9/24"), Link: "office"}
	wan  = Address{Device: "wan0", Prefix: pfx("203.0.113.10/25"), Link: "cable", Gateway: netip.MustParseAddr("203.0.113.1")}
)

// never is a timing in which nothing happens by itself.
var never = Timing{Refresh: time.Hour}

func newKeeper(t *testing.T, cfg Config) *Keeper {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	k, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// start runs the keeper until the test ends or stop is called.
func start(t *testing.T, k *Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func add(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Add(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func removeAll(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// on lists the IPv4 addresses of a device, as the kernel shows them.
func on(t *testing.T, device string) []string {
	t.Helper()
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(netlab.Sh(t, "ip -o -4 addr show dev "+device)), "\n") {
		if f := strings.Fields(line); len(f) > 3 {
			out = append(out, strings.Join(f[3:slices.Index(f, device+`\`)], " "))
		}
	}
	slices.Sort(out)
	return out
}

// present asks the keeper.
func isPresent(t *testing.T, k *Keeper) []bool {
	t.Helper()
	st, err := k.Present()
	if err != nil {
		t.Fatal(err)
	}
	var out []bool
	for _, s := range st {
		out = append(out, s.Present)
	}
	return out
}

func TestAddAndRemove(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	cable(t, "wan0")
	k := newKeeper(t, Config{Addresses: []Address{lan, wan}, Timing: never})
	for range 2 { // twice is the same as once
		add(t, k)
		if diff := cmp.Diff([]string{"192.168.77.1/24 scope global noprefixroute"}, on(t, "lan0")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]bool{true, true}, isPresent(t, k)); diff != "" {
			t.Error(diff)
		}
	}
	for range 2 {
		removeAll(t, k)
		if diff := cmp.Diff([]bool{false, false}, isPresent(t, k)); diff != "" {
			t.Error(diff)
		}
	}
	if got := append(on(t, "lan0"), on(t, "wan0")...); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

func TestFoundAtStart(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: never})
	for _, c := range []struct {
		name, found string
		want        []bool
		added       []string
	}{
		{"as we set it", "192.168.77.1/24 dev lan0 noprefixroute", []bool{true}, []string{"192.168.77.1/24 scope global noprefixroute"}},
		{"as the admin set it", "192.168.77.1/24 dev lan0", []bool{true}, []string{"192.168.77.1/24 scope global"}},
		{"of another length", "192.168.77.1/25 dev lan0 noprefixroute", []bool{false}, []string{"192.168.77.1/24 scope global noprefixroute", "192.168.77.1/25 scope global noprefixroute"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, adopt := range []bool{false, true} {
				netlab.Sh(t, "ip addr add "+c.found)
				if diff := cmp.Diff(c.want, isPresent(t, k)); diff != "" {
					t.Error(diff)
				}
				if adopt {
					add(t, k)
					if diff := cmp.Diff(c.added, on(t, "lan0")); diff != "" {
						t.Error(diff)
					}
				}
				removeAll(t, k)
				if got := on(t, "lan0"); len(got) > 0 {
					t.Errorf("left: %v", got)
				}
			}
		})
	}
}

func TestMissingDevice(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	k := newKeeper(t, Config{Addresses: []Address{wan, lan}, Timing: never})
	start(t, k)
	err := k.Add(t.Context())
	if err == nil || !missing(err) || !strings.Contains(err.Error(), "add 203.0.113.10/25 on wan0: ") || strings.Contains(err.Error(), "lan0") {
		t.Errorf("err = %v, want the missing device and no other", err)
	}
	if diff := cmp.Diff([]bool{false, true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
	cable(t, "wan0")
	w := tap(t, "far-wan0")
	k.LinkChanged("wan0")
	eventually(t, "the address is on the device that came", func() bool { return isPresent(t, k)[0] })
	eventually(t, "it is announced", func() bool { return w.count() >= 3 })
	netlab.Sh(t, "ip link del wan0")
	k.LinkChanged("wan0")
	cable(t, "wan0")
	w = tap(t, "far-wan0")
	k.LinkChanged("wan0")
	eventually(t, "the same once more", func() bool { return isPresent(t, k)[0] && w.count() >= 3 })
	if k.Repairs() != 0 {
		t.Errorf("%d repairs, but nobody removed anything", k.Repairs())
	}
	netlab.Sh(t, "ip link del wan0")
	removeAll(t, k)
}

func TestSpeed(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	var as []Address
	for i, d := range []string{"lan0", "lan1", "wan0", "wan1"} {
		cable(t, d)
		for j := range 2 {
			as = append(as, Address{Device: d, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, byte(j + 1)}), 24)})
		}
	}
	k := newKeeper(t, Config{Addresses: as, Timing: never})
	best := func(do func(context.Context) error, undo func(context.Context) error) time.Duration {
		b := time.Hour
		for range 10 { // the machine is shared
			begin := time.Now()
			if err := do(t.Context()); err != nil {
				t.Fatal(err)
			}
			b = min(b, time.Since(begin))
			if err := undo(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	added := best(k.Add, k.Remove)
	add(t, k)
	removed := best(k.Remove, k.Add)
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fenced := best(func(context.Context) error { return r.Remove(as) }, k.Add)
	t.Logf("8 addresses: added and announced in %v, removed in %v, by the guard in %v", added, removed, fenced)
	if max(added, removed, fenced) > 5*ms {
		t.Errorf("8 addresses: added in %v, removed in %v, by the guard in %v; want 5 ms at most", added, removed, fenced)
	}
}

// TestDeviceThatTakesNothing: its queue stands still and fills up.
func TestDeviceThatTakesNothing(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	cable(t, "wan0")
	netlab.Sh(t, "tc qdisc add dev lan0 root tbf rate 8bit burst 1600 limit 100000000")
	w := tap(t, "far-wan0")
	k := newKeeper(t, Config{Addresses: []Address{lan, wan}, Timing: never, Log: slog.New(slog.DiscardHandler)})
	begin := time.Now()
	const rounds = 300
	for range rounds {
		add(t, k)
	}
	removeAll(t, k)
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("%d times Add took %v", rounds, took)
	}
	eventually(t, "the other device works", func() bool { return w.count() >= rounds }) // the tap may lose some
	if !k.arp.failed["lan0"] || k.arp.failed["wan0"] {
		t.Errorf("failed: %v, want lan0 (has its queue not filled?)", k.arp.failed)
	}
}

func TestOwnAddress(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	own := func(d string) OwnAddress {
		return OwnAddress{Device: d, Prefix: pfx("169.254.51.1/32"), Virtual: []netip.Prefix{lan.Prefix}}
	}
	const set = "169.254.51.1/32 scope link noprefixroute"
	setup := map[string]string{
		"bare": "", "admin": "192.168.77.2/24", "virtual": "192.168.77.1/24 noprefixroute", "leased": "192.168.77.7/24 valid_lft 1000 preferred_lft 1000",
		"linklocal": "169.254.9.9/16", "ours": "169.254.51.1/32 scope link noprefixroute", "both": "169.254.51.1/32 scope link noprefixroute",
	}
	want := map[string]bool{"bare": true, "admin": false, "virtual": true, "leased": true, "linklocal": false, "ours": true, "both": false}
	var cfg Config
	cfg.Timing = never
	for d, a := range setup {
		cable(t, d)
		if a != "" {
			netlab.Sh(t, "ip addr add "+a+" dev "+d)
		}
		cfg.Own = append(cfg.Own, own(d))
	}
	netlab.Sh(t, "ip addr add 192.168.77.2/24 dev both")
	cfg.Own = append(cfg.Own, own("later"))
	k := newKeeper(t, cfg)
	stop := start(t, k)
	has := func(d string) bool { return slices.Contains(on(t, d), set) }
	for d, w := range want {
		eventually(t, "own address of "+d, func() bool { return has(d) == w })
	}
	cable(t, "later")
	k.LinkChanged("later")
	eventually(t, "own address of a device that came", func() bool { return has("later") })
	netlab.Sh(t, "ip addr add 192.168.78.2/24 dev later")
	k.LinkChanged("later")
	eventually(t, "the admin's is enough", func() bool { return !has("later") })
	netlab.Sh(t, "ip addr del 169.254.51.1/32 dev bare")
	k.LinkChanged("bare")
	eventually(t, "own address is back", func() bool { return has("bare") })
	stop()
	if err := k.Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	for d := range setup {
		if has(d) {
			t.Errorf("%s still has %v", d, on(t, d))
		}
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/later/promote_secondaries"); err != nil || string(b) != "1\n" {
		t.Errorf("promote_secondaries: %q, %v", b, err)
	}
}

func TestRepair(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	w := tap(t, "far-lan0")
	var may atomic.Bool
	var told atomic.Uint64
	may.Store(true)
	timing := Timing{Refresh: time.Hour, Settle: 50 * ms}
	k := newKeeper(t, Config{Addresses: []Address{lan, lan2}, Timing: timing, MayRepair: may.Load, Repaired: func(Address) { told.Add(1) }})
	start(t, k)
	add(t, k)
	both := []bool{true, true}
	lose := func() {
		netlab.Sh(t, "ip addr del 192.168.77.1/24 dev lan0")
		w.reset()
		k.LinkChanged("lan0")
	}

	lose()
	begin := time.Now()
	eventually(t, "it is put back", func() bool { return cmp.Equal(both, isPresent(t, k)) })
	if took := time.Since(begin); took < timing.Settle/2 || took > time.Second {
		t.Errorf("put back after %v", took)
	}
	eventually(t, "and announced", func() bool {
		return slices.ContainsFunc(w.lines(), func(s string) bool { return strings.Contains(s, "reply: 192.168.77.1 ") })
	})
	if k.Repairs() != 1 || told.Load() != 1 {
		t.Errorf("%d repairs, %d told", k.Repairs(), told.Load())
	}

	may.Store(false) // this node slept and is not sure of its role
	lose()
	time.Sleep(timing.Settle + 2*lookSoon)
	if diff := cmp.Diff([]bool{false, true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
	may.Store(true) // it is: still master
	eventually(t, "it is put back", func() bool { return cmp.Equal(both, isPresent(t, k)) })

	may.Store(false)
	lose()
	removeAll(t, k) // it is: backup
	may.Store(true)
	time.Sleep(timing.Settle + 2*lookSoon)
	if diff := cmp.Diff([]bool{false, false}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}

	add(t, k)
	for n := uint64(0); n < fewRepairs; n++ {
		before := k.Repairs()
		lose()
		eventually(t, "one more repair", func() bool { return k.Repairs() > before })
	}
	lose() // somebody means it
	time.Sleep(timing.Settle + 2*lookSoon)
	if diff := cmp.Diff([]bool{false, true}, isPresent(t, k)); diff != "" {
		t.Error(diff)
	}
}

func TestRemover(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	cable(t, "wan0")
	k := newKeeper(t, Config{Addresses: []Address{lan, lan2, wan}, Timing: never})
	add(t, k)
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	netlab.Sh(t, "ip addr del 192.168.77.9/24 dev lan0") // somebody else was quicker
	for range 2 {
		if err := r.Remove([]Address{lan, lan2, {Device: "nosuch", Prefix: pfx("10.0.0.1/8")}, wan}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]bool{false, false, false}, isPresent(t, k)); diff != "" {
			t.Error(diff)
		}
	}
}
