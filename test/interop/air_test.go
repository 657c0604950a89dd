package interop

import (
	"slices"
	"testing"
	"time"

	"harouter/test/netlab"
)

// noise is what a busy machine of two cores may add to a time that the protocol
// sets.
const noise = 150 * time.Millisecond

// skew is Skew_Time (RFC 9568 §6.1, RFC 3768 §6.1).
func (s settings) skew(priority int) time.Duration {
	a := s.advertise
	if s.version == 2 {
		a = time.Second
	}
	return time.Duration(256-priority) * a / 256
}

// down is Master_Down_Interval.
func (s settings) down(priority int) time.Duration { return 3*s.advertise + s.skew(priority) }

// said are the adverts that a node has sent since a moment.
func (l *lan) said(node string, since netlab.Instant) []netlab.Advert {
	return slices.DeleteFunc(l.captures[node].Adverts(), func(a netlab.Advert) bool {
		return !a.Out || a.VRID != vrid || a.At < since
	})
}

// claims are those of a master: not its farewell.
func (l *lan) claims(node string, since netlab.Instant) []netlab.Advert {
	return slices.DeleteFunc(l.said(node, since), func(a netlab.Advert) bool { return a.Priority == 0 })
}

// look is for how long the air is watched to say who is master.
func (s settings) look() time.Duration { return max(9*s.advertise/4, 400*ms) }

// only tells whether a node alone has advertised of late.
func (l *lan) only(node string, s settings) bool {
	since := netlab.Now().Add(-s.look())
	return len(l.claims(node, since)) >= 2 && len(l.claims(other(node), since)) == 0
}

// settles waits until one node alone advertises, looks on for as long again,
// and tells which it is: never two masters after convergence.
func (l *lan) settles(t testing.TB, s settings) string {
	t.Helper()
	var master string
	if err := netlab.WaitFor("one master", 5*s.down(1)+10*time.Second, func() bool {
		for node := range own4 {
			if l.only(node, s) {
				master = node
				return true
			}
		}
		return false
	}); err != nil {
		t.Fatal(err)
	}
	since := netlab.Now()
	time.Sleep(s.look())
	if two := l.claims(other(master), since); len(two) > 0 {
		t.Errorf("%s is master, and %s advertises %d times within %v", master, other(master), len(two), s.look())
	}
	return master
}

// reigns is settles, with the one that it is to be.
func (l *lan) reigns(t testing.TB, node string, s settings) {
	t.Helper()
	if err := netlab.WaitFor(node+" is the only master", 3*s.down(1)+10*time.Second, func() bool { return l.only(node, s) }); err != nil {
		t.Fatal(err)
	}
	if is := l.settles(t, s); is != node {
		t.Errorf("%s is master, want %s", is, node)
	}
}

// first waits for the first advert of a master since a moment.
func (l *lan) first(t testing.TB, node string, since netlab.Instant, s settings) netlab.Advert {
	t.Helper()
	if err := netlab.WaitFor("an advert of "+node, 3*s.down(1)+10*time.Second, func() bool { return len(l.claims(node, since)) > 0 }); err != nil {
		t.Fatal(err)
	}
	return l.claims(node, since)[0]
}

// succeeds waits for the first advert of the new master after the old one was
// ended, and tells its time after the last word of the old one that it heard, and
// that word.
func (l *lan) succeeds(t testing.TB, node string, since netlab.Instant, s settings) (time.Duration, netlab.Advert) {
	t.Helper()
	first := l.first(t, node, since, s)
	// What the old one still says while its power is being taken reaches nobody.
	old := slices.DeleteFunc(l.captures[node].Adverts(), func(a netlab.Advert) bool {
		return a.Out || a.VRID != vrid || a.At > first.At
	})
	if len(old) == 0 {
		t.Fatalf("%s was never heard by %s", other(node), node)
	}
	last := old[len(old)-1]
	return first.At.Sub(last.At), last
}

// within fails if a time is not between its bounds.
func within(t testing.TB, what string, got, least, most time.Duration) {
	t.Helper()
	t.Logf("%s: %v (ideal %v)", what, got.Round(100*time.Microsecond), most)
	if got < least-20*time.Millisecond || got > most+noise { // FRR counts its skew in hundredths of a second
		t.Errorf("%s: %v, want %v to %v and %v of noise", what, got, least, most, noise)
	}
}
