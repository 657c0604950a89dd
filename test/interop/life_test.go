package interop

import (
	"fmt"
	"testing"
	"time"

	"harouter/test/netlab"
)

const ms = time.Millisecond

// trial is one election of two routers on a fresh site; ours stands first.
type trial func(t *testing.T, l *lan, ours, theirs daemon, s settings)

// Version 3 has adverts each 100 ms, version 2 each second.
var (
	three     = settings{version: 3, advertise: 100 * ms}
	threeSix  = settings{version: 3, advertise: 100 * ms, six: true}
	unicast   = settings{version: 3, advertise: 100 * ms, unicast: true}
	two       = settings{version: 2, advertise: time.Second}
	password  = settings{version: 2, advertise: time.Second, password: "secret12"}
	unicast2  = settings{version: 2, advertise: time.Second, unicast: true}
	plainSums = settings{version: 3, advertise: 100 * ms, checksum: "plain"}
)

// TestElections: the trials of each pair of programs. They wait most of the time.
func TestElections(t *testing.T) {
	for _, c := range []struct {
		name         string
		ours, theirs daemon
		settings
		trials map[string]trial
	}{
		{"keepalived, version 3", harouter{}, keepalived{}, three, all},
		{"keepalived, version 3, unicast", harouter{}, keepalived{}, unicast, all},
		{"keepalived, version 3, IPv6", speaker{}, keepalived{}, threeSix, all},
		{"keepalived, version 2", harouter{}, keepalived{}, two, all},
		{"keepalived, version 2, password", harouter{}, keepalived{}, password, some("ours is better", "theirs is better")},
		{"keepalived, version 2, unicast", harouter{}, keepalived{}, unicast2, some("ours is better")},
		{"FRR, version 3", harouter{}, frr{}, three, all},
		{"FRR, version 3, IPv6", speaker{}, frr{}, threeSix, all},
		{"harouter with the other checksum", harouter{}, harouter{}, plainSums, some("equal, ours has the lower address")},
	} {
		for name, run := range c.trials {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				run(t, newLAN(t), c.ours, c.theirs, c.settings)
			})
		}
	}
}

var all = map[string]trial{
	"ours is better": func(t *testing.T, l *lan, ours, theirs daemon, s settings) {
		life(t, l, ours, theirs, s)
	},
	"theirs is better": func(t *testing.T, l *lan, ours, theirs daemon, s settings) {
		life(t, l, theirs, ours, s)
	},
	"equal, ours has the lower address": func(t *testing.T, l *lan, ours, theirs daemon, s settings) {
		equal(t, l, ours, theirs, s)
	},
	"equal, ours has the greater address": func(t *testing.T, l *lan, ours, theirs daemon, s settings) {
		equal(t, l, theirs, ours, s)
	},
	"ours does not preempt": func(t *testing.T, l *lan, ours, theirs daemon, s settings) {
		patient(t, l, ours, theirs, s)
	},
	"theirs does not preempt": func(t *testing.T, l *lan, ours, theirs daemon, s settings) {
		patient(t, l, theirs, ours, s)
	},
}

// some picks trials by name.
func some(names ...string) map[string]trial {
	picked := map[string]trial{}
	for _, n := range names {
		if all[n] == nil {
			panic(fmt.Sprintf("no trial %q", n))
		}
		picked[n] = all[n]
	}
	return picked
}

const (
	high = 200
	low  = 100
)

// life: the better one, on r1, comes second and preempts; it crashes and comes
// back; it is stopped, and the other goes on.
func life(t *testing.T, l *lan, better, lesser daemon, s settings) {
	must(t, lesser.start(l, "r2", s, member{priority: low}))
	l.reigns(t, "r2", s)

	preempts := func() {
		t.Helper()
		at := netlab.Now()
		must(t, better.start(l, "r1", s, member{priority: high}))
		first := l.first(t, "r1", at, s)
		l.reigns(t, "r1", s)
		if both := l.claims("r2", first.At); len(both) > 0 {
			within(t, fmt.Sprintf("%v gives way to %v", lesser, better), both[len(both)-1].At.Sub(first.At), 0, 0)
		}
	}
	preempts()
	at := l.crash(t, "r1")
	gap, last := l.succeeds(t, "r2", at, s)
	within(t, fmt.Sprintf("%v follows a crash of %v", lesser, better), gap, s.down(low), s.down(low))
	if last.Priority != high {
		t.Errorf("the last word of %v has priority %d", better, last.Priority)
	}
	l.reigns(t, "r2", s)

	l.boot(t, "r1")
	preempts()
	at = netlab.Now()
	must(t, better.stop(l, "r1"))
	gap, last = l.succeeds(t, "r2", at, s)
	within(t, fmt.Sprintf("%v follows a planned stop of %v", lesser, better), gap, s.skew(low), s.skew(low))
	if last.Priority != 0 {
		t.Errorf("the last word of %v has priority %d, want 0", better, last.Priority)
	}
	l.reigns(t, "r2", s)
}

// equal: of two with one priority the first stays master. When each has been
// master alone, because the LAN was cut, the greater address wins; that is r2's.
func equal(t *testing.T, l *lan, lower, greater daemon, s settings) {
	must(t, lower.start(l, "r1", s, member{priority: low}))
	l.reigns(t, "r1", s)
	at := netlab.Now()
	must(t, greater.start(l, "r2", s, member{priority: low}))
	for end := at.Add(2*s.down(low) + time.Second); netlab.Now() < end; time.Sleep(10 * ms) { // it hears, and stays backup
		if claims := l.claims("r2", at); len(claims) > 0 {
			t.Fatalf("%v preempts %v, which has the same priority, after %v", greater, lower, claims[0].At.Sub(at))
		}
	}
	ports := []*netlab.Port{l.Port("r1", "lan0"), l.Port("r2", "lan0")}
	at = netlab.Now()
	must(t, l.Cut(ports...))
	// FRR, whose device comes up with the role, takes a moment until it knows its own address.
	if err := netlab.WaitFor("two masters", 2*s.down(low)+5*time.Second, func() bool { return len(l.claims("r2", at)) >= 3 }); err != nil {
		t.Fatal(err)
	}
	at = netlab.Now()
	must(t, l.Pass(ports...))
	l.reigns(t, "r2", s)
	if both := l.claims("r1", at); len(both) > 0 {
		got := both[len(both)-1].At.Sub(at)
		t.Logf("one master %v after the LAN is whole again", got.Round(100*time.Microsecond))
		if most := 2*s.advertise + noise; got > most { // DESIGN.md §5, row 12
			t.Errorf("%v is master for %v after the LAN is whole again, want %v at most", lower, got, most)
		}
	}
}

// patient: a better one that does not preempt stays backup until the master dies.
func patient(t *testing.T, l *lan, better, lesser daemon, s settings) {
	must(t, lesser.start(l, "r2", s, member{priority: low}))
	l.reigns(t, "r2", s)
	at := netlab.Now()
	must(t, better.start(l, "r1", s, member{priority: high, patient: true}))
	time.Sleep(2*s.down(low) + time.Second)
	if claims := l.claims("r1", at); len(claims) > 0 {
		t.Fatalf("%v preempts after %v", better, claims[0].At.Sub(at))
	}
	at = l.crash(t, "r2")
	gap, _ := l.succeeds(t, "r1", at, s)
	within(t, fmt.Sprintf("%v follows a crash of %v", better, lesser), gap, s.down(high), s.down(high))
}
