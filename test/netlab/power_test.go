package netlab

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestPowerOffAndOn(t *testing.T) {
	s := plain(t)
	r1, r2 := s.Router("r1"), s.Router("r2")
	capture := ok(s.Port("r1", "lan0").Capture(nil))(t)
	ok(s.Port("r1", "lan0").Emulate(Line{Delay: time.Millisecond}, Line{}))(t)
	sleeper := ok(r1.Start("sleeper", "sleep", "1000"))(t)
	must(t, os.WriteFile(filepath.Join(r1.StateDir(), "state"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(r1.RunDir(), "socket"), nil, 0o644))
	if holders := s.Holders(gateway); !slices.Equal(holders, []string{"r1"}) {
		t.Fatalf("holders %v, want r1", holders)
	}
	before := Now()
	must(t, s.PowerOff("r1"))
	select {
	case <-sleeper.Done():
	case <-time.After(time.Second):
		t.Error("its process lives on")
	}
	if carrier(t, r2.Port("sync0")) || !carrier(t, r2.Port("lan0")) {
		t.Error("want no carrier on the cable to a dead router, and carrier on the LAN")
	}
	if holders := s.Holders(gateway); len(holders) != 0 {
		t.Errorf("a dead router holds nothing, not %v", holders)
	}
	changes := s.Watch().Changes(gateway)
	if last := changes[len(changes)-1]; last.Held || last.At < before {
		t.Errorf("the watch has not seen its end: %+v", changes)
	}
	if err := s.PowerOff("r1"); err == nil {
		t.Error("switched off twice: want an error")
	}
	if _, err := r1.Start("nothing", "true"); err == nil {
		t.Error("started something on a dead router")
	}

	must(t, s.PowerOn("r1"))
	if !carrier(t, r2.Port("sync0")) || !pings(s.Host("h1"), "192.168.77.2") || !pings(r2, "192.0.2.1") {
		t.Error("switched on: want carrier, and answers from its permanent addresses")
	}
	if pings(s.Host("h1"), gateway.String()) {
		t.Error("an address outlived the reboot")
	}
	if rules := ok(r1.Exec("nft", "list", "ruleset"))(t); rules != "" {
		t.Errorf("a firewall outlived the reboot: %s", rules)
	}
	if _, err := os.Stat(filepath.Join(r1.StateDir(), "state")); err != nil {
		t.Errorf("state did not outlive the reboot: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r1.RunDir(), "socket")); !os.IsNotExist(err) {
		t.Error("the run folder outlived the reboot")
	}
	booted := Now()
	must(t, r1.IP("address add 192.168.77.1/24 dev lan0"))
	must(t, WaitFor("the watch to see the address on the new kernel", time.Second, func() bool {
		c := s.Watch().Changes(gateway)
		return c[len(c)-1].Held && c[len(c)-1].At > booted
	}))
	if !pings(s.Host("h1"), gateway.String()) {
		t.Error("no answer from the address put back")
	}
	if !slices.ContainsFunc(capture.ARPs(), func(a ARP) bool { return a.At > booted && !a.Out }) {
		t.Error("the capture does not go on after a reboot")
	}
}

func TestWatchAndHolders(t *testing.T) {
	s := ForTest(t, Pair(PairOptions{NoLANOwn: true}))
	r1, r2 := s.Router("r1"), s.Router("r2")
	vip := netip.MustParseAddr("192.168.77.1")
	add, del := "address add 192.168.77.1/24 dev lan0 noprefixroute", "address del 192.168.77.1/24 dev lan0"
	routes := ok(r1.RouteDump())(t)
	s.Mark("begin")
	must(t, r1.IP(add))
	must(t, s.WaitHolder(vip, "r1", time.Second))
	if now := ok(r1.RouteDump())(t); now == routes {
		t.Error("the dump does not show the local route of an address")
	}
	must(t, r2.IP(add))
	twice := Now()
	must(t, WaitFor("both", time.Second, func() bool { return len(s.Holders(vip)) == 2 }))
	if err := s.WaitHolder(vip, "r2", 20*time.Millisecond); err == nil {
		t.Error("two holders: WaitHolder should not be content")
	}
	pass(50 * time.Millisecond)
	must(t, r1.IP(del))
	once := Now()
	must(t, s.WaitHolder(vip, "r2", time.Second))
	if now := ok(r1.RouteDump())(t); now != routes {
		t.Errorf("routes after: %s\nwere %s", now, routes)
	}
	must(t, r2.IP(del))
	free := Now()
	pass(30 * time.Millisecond)
	must(t, r1.IP(add))
	var w []Change
	must(t, WaitFor("five changes", time.Second, func() bool { w = s.Watch().Changes(vip); return len(w) == 5 }))

	var got []string
	for _, c := range w {
		got = append(got, map[bool]string{true: "+", false: "-"}[c.Held]+c.Router)
	}
	if want := []string{"+r1", "+r2", "-r1", "-r2", "+r1"}; !slices.Equal(got, want) {
		t.Errorf("changes %v, want %v", got, want)
	}
	const slack = 15 * time.Millisecond // of ip, which the marks are taken after
	within(t, "overlap", s.Watch().Overlap(vip, 0), once.Sub(twice)-slack, once.Sub(twice)+slack)
	within(t, "overlap later on", s.Watch().Overlap(vip, once), 0, 0)
	within(t, "vacancy", s.Watch().Vacant(vip, 0), w[4].At.Sub(free)-slack, w[4].At.Sub(free)+slack)
	if moves := s.Watch().Moves(vip, free); moves != 1 {
		t.Errorf("%d moves at the end, want 1", moves)
	}
}

func TestHistory(t *testing.T) {
	const msec = Instant(time.Millisecond)
	h := history{{10 * msec, "r1", true}, {20 * msec, "r2", true}, {25 * msec, "r1", false}, {25*msec + 1, "r2", false},
		{45 * msec, "r1", true}, {50 * msec, "r2", true}}
	two, none := func(n int) bool { return n > 1 }, func(n int) bool { return n == 0 }
	for _, c := range []struct {
		name   string
		since  Instant
		counts func(int) bool
		want   time.Duration
	}{
		{"overlap until the end", 0, two, 10 * time.Millisecond},
		{"overlap since late", 58 * msec, two, 2 * time.Millisecond},
		{"vacant", 0, none, 20*time.Millisecond - 1},
		{"vacant since its middle", 40 * msec, none, 5 * time.Millisecond},
		{"not vacant any more", 46 * msec, none, 0},
	} {
		if got := h.longest(c.since, 60*msec, c.counts); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
