package interop

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
)

const ms = time.Millisecond

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
	t.Parallel()
	for _, c := range []struct {
		name         string
		ours, theirs daemon
		settings
		trials []trial
	}{
		{"keepalived, version 2", harouter{}, keepalived{}, two, all},
		{"keepalived, version 2, password", harouter{}, keepalived{}, password, []trial{oursStops, theirsStops}},
		{"keepalived, version 2, unicast", harouter{}, keepalived{}, unicast2, []trial{oursStops, theirsStops}},
		{"keepalived, version 3", harouter{}, keepalived{}, three, append(slices.Clone(all), oursIsKilled)},
		{"keepalived, version 3, unicast", harouter{}, keepalived{}, unicast, []trial{oursCrashes, theirsCrashes, oursStops, theirsStops, oursIsLower}},
		{"keepalived, version 3, IPv6", harouter{}, keepalived{}, threeSix, append(slices.Clone(all), oursIsKilled)},
		{"FRR, version 3", harouter{}, frr{}, three, append(slices.Clone(all), oursIsKilled)},
		{"FRR, version 3, IPv6", harouter{}, frr{}, threeSix, append(slices.Clone(all), oursIsKilled)},
		{"harouter with plain checksums", harouter{}, harouter{}, plainSums, []trial{oursIsGreater}},
	} {
		for _, try := range c.trials {
			t.Run(c.name+"/"+try.name, func(t *testing.T) {
				t.Parallel()
				twice(t, c.settings, func(t testing.TB) { try.run(t, newLAN(t), c.ours, c.theirs, c.settings) })
			})
		}
	}
}

// trial is one election of two routers on a fresh site.
type trial struct {
	name string
	run  func(t testing.TB, l *lan, ours, theirs daemon, s settings)
}

// swapped has the two change places.
func swapped(run func(t testing.TB, l *lan, one, other daemon, s settings)) func(testing.TB, *lan, daemon, daemon, settings) {
	return func(t testing.TB, l *lan, ours, theirs daemon, s settings) { run(t, l, theirs, ours, s) }
}

var (
	oursCrashes     = trial{"ours crashes", crashes}
	theirsCrashes   = trial{"theirs crashes", swapped(crashes)}
	oursStops       = trial{"ours is stopped", stops}
	theirsStops     = trial{"theirs is stopped", swapped(stops)}
	oursIsKilled    = trial{"ours is killed", killed}
	oursIsLower     = trial{"equal, ours has the lower address", equal}
	oursIsGreater   = trial{"equal, ours has the greater address", swapped(equal)}
	oursIsPatient   = trial{"ours does not preempt", patient}
	theirsIsPatient = trial{"theirs does not preempt", swapped(patient)}

	all = []trial{oursCrashes, theirsCrashes, oursStops, theirsStops, oursIsLower, oursIsGreater, oursIsPatient, theirsIsPatient}
)

const (
	high = 200
	low  = 100
)

// preempts: the better one, on r1, starts while the lesser is master.
func preempts(t testing.TB, l *lan, better, lesser daemon, s settings) {
	t.Helper()
	at := netlab.Now()
	must(t, better.start(l, "r1", s, member{priority: high}))
	first := l.first(t, "r1", at, s)
	l.reigns(t, "r1", s)
	if both := l.claims("r2", first.At); len(both) > 0 {
		within(t, fmt.Sprintf("%v gives way to %v", lesser, better), both[len(both)-1].At.Sub(first.At), 0, 0)
	}
	if better == (harouter{}) {
		l.says(t, "r1", ha.RoleMaster, "r1")
	}
	if lesser == (harouter{}) {
		l.says(t, "r2", ha.RoleBackup, s.own("r1"))
	}
}

// late is what FRR adds over IPv6: its first advert as master goes to the
// device that comes up with the role, and gets lost.
func late(d daemon, s settings) time.Duration {
	if d == (frr{}) && s.six {
		return s.advertise
	}
	return 0
}

// crashes: the better one, on r1, comes second and preempts; the other follows
// it when it crashes, and gives way when it is back.
func crashes(t testing.TB, l *lan, better, lesser daemon, s settings) {
	must(t, lesser.start(l, "r2", s, member{priority: low}))
	l.reigns(t, "r2", s)
	preempts(t, l, better, lesser, s)
	at := l.crash(t, "r1")
	gap, last := l.succeeds(t, "r2", at, s)
	within(t, fmt.Sprintf("%v follows a crash of %v", lesser, better), gap, s.down(low), s.down(low)+late(lesser, s))
	if last.Priority != high {
		t.Errorf("the last word of %v has priority %d", better, last.Priority)
	}
	l.reigns(t, "r2", s)
	l.boot(t, "r1")
	preempts(t, l, better, lesser, s)
}

// stops: the better one is stopped and says so with priority 0.
func stops(t testing.TB, l *lan, better, lesser daemon, s settings) {
	must(t, better.start(l, "r1", s, member{priority: high}))
	l.reigns(t, "r1", s)
	up := netlab.Now()
	must(t, lesser.start(l, "r2", s, member{priority: low}))
	l.stays(t, "r1", up, s)
	at := netlab.Now()
	must(t, better.stop(l, "r1"))
	gap, last := l.succeeds(t, "r2", at, s)
	within(t, fmt.Sprintf("%v follows a planned stop of %v", lesser, better), gap, s.skew(low), s.skew(low)+late(lesser, s))
	if last.Priority != 0 {
		t.Errorf("the last word of %v has priority %d, want 0", better, last.Priority)
	}
	l.reigns(t, "r2", s)
	if better == (harouter{}) && lesser == (keepalived{}) {
		l.oneHolder(t, at, s)
	}
}

// killed: the daemon dies and its guard lives. Nobody of ours is alive, so the
// addresses stay until the other one is heard as master (DESIGN.md §5, row 2); the
// guard's farewell lets that one hurry.
func killed(t testing.TB, l *lan, better, lesser daemon, s settings) {
	must(t, better.start(l, "r1", s, member{priority: high}))
	l.reigns(t, "r1", s)
	up := netlab.Now()
	must(t, lesser.start(l, "r2", s, member{priority: low}))
	l.stays(t, "r1", up, s)
	at := netlab.Now()
	must(t, l.cluster.Daemons["r1"].Kill())
	gap, last := l.succeeds(t, "r2", at, s)
	within(t, fmt.Sprintf("%v follows %v, which was killed", lesser, better), gap, s.skew(low), s.skew(low))
	if last.Priority != 0 {
		t.Errorf("the last word of %v has priority %d, want 0", better, last.Priority)
	}
	first := last.At.Add(gap)
	l.reigns(t, "r2", s)
	held, err := l.Router("r1").Addresses()
	must(t, err)
	for _, p := range held["lan0"] {
		if p == s.virtual() {
			t.Errorf("r1 still has %v", p)
		}
	}
	for _, c := range l.Watch().Changes(s.virtual().Addr()) {
		if c.Router == "r1" && !c.Held {
			within(t, "the guard takes the addresses away", c.At.Sub(first), 0, 50*ms)
		}
	}
	preempts(t, l, better, lesser, s)
}

// equal: of two with one priority the first stays master. When each has been
// master alone, because the LAN was cut, the greater address wins; that is r2's.
func equal(t testing.TB, l *lan, lower, greater daemon, s settings) {
	must(t, lower.start(l, "r1", s, member{priority: low}))
	l.reigns(t, "r1", s)
	at := netlab.Now()
	must(t, greater.start(l, "r2", s, member{priority: low}))
	l.stays(t, "r1", at, s)
	ports := []*netlab.Port{l.Port("r1", "lan0"), l.Port("r2", "lan0")}
	at = netlab.Now()
	must(t, l.Cut(ports...))
	l.first(t, "r2", at, s)
	at = netlab.Now()
	must(t, l.Pass(ports...))
	if greater == (frr{}) && s.six {
		// FRR 8.4.4 does not know its own address over IPv6 ("Failed to find address
		// to bind on"): it gives way in every tie. One master there is all the same.
		t.Logf("%s is master", l.settles(t, s))
		return
	}
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
func patient(t testing.TB, l *lan, better, lesser daemon, s settings) {
	must(t, lesser.start(l, "r2", s, member{priority: low}))
	l.reigns(t, "r2", s)
	at := netlab.Now()
	must(t, better.start(l, "r1", s, member{priority: high, patient: true}))
	l.stays(t, "r2", at, s)
	at = l.crash(t, "r2")
	gap, _ := l.succeeds(t, "r1", at, s)
	within(t, fmt.Sprintf("%v follows a crash of %v", better, lesser), gap, s.down(high), s.down(high)+late(better, s))
}

// stays: for as long as the other, which has just been started, would need to
// become master, it says nothing.
func (l *lan) stays(t testing.TB, node string, since netlab.Instant, s settings) {
	t.Helper()
	time.Sleep(s.down(low) + 1500*ms)
	if claims := l.claims(other(node), since); len(claims) > 0 {
		t.Fatalf("%s claims to be master after %v", other(node), claims[0].At.Sub(since))
	}
}

// says: status of ours names the master, and nothing troubles it.
func (l *lan) says(t testing.TB, node string, role ha.Role, master string) {
	t.Helper()
	st, err := l.cluster.Status(node)
	must(t, err)
	if st.Role != role || st.VRRP.Master != master || len(st.Alarms) > 0 {
		t.Errorf("%s is %v, its master %q, alarms %v; want %v, %q and none", node, st.Role, st.VRRP.Master, st.Alarms, role, master)
	}
	for reason, n := range st.Drops.VRRP {
		if n > 0 {
			t.Errorf("%s dropped %d adverts: %s", node, n, reason)
		}
	}
}

// oneHolder: the address is on two routers for a moment at most.
func (l *lan) oneHolder(t testing.TB, since netlab.Instant, s settings) {
	t.Helper()
	within(t, "two hold the address", l.Watch().Overlap(s.virtual().Addr(), since), 0, 50*ms)
}
