package balancer

import (
	"fmt"
	"strings"
	"time"
)

// flaps holds an uplink back that comes and goes. It goes by three rules that
// BGP (RFC 2439), OSPF (RFC 8405, and the exponential throttle of the vendors)
// and the hold-down of switch ports have in common:
//
//   - The first failure costs nothing. An uplink that goes down less than the
//     calm time after it had come back flaps: it must then be fine for the hold
//     without a break before it comes back again.
//   - Each further flap doubles the hold, up to a maximum. What happens while it
//     is held begins the hold anew and doubles nothing: a minute of flapping
//     costs the shortest hold after its end, not the longest.
//   - All is forgotten after a calm time as long as the longest hold, which is
//     what the throttles of OSPF do; the decay of RFC 2439 by half-lives would
//     differ between two nodes that do not see the same instants.
type flaps struct {
	n     int       // downs soon after it had come back: the hold follows from them
	downs int       // all downs since first, also those while it was held
	first time.Time // of downs
	last  time.Time // of downs
	back  time.Time // when it came back into use last
	fine  time.Time // since when it would be used if it were not held
}

// down takes in that the uplink failed; held says that it was not in use.
func (f *flaps) down(now time.Time, held bool, calm time.Duration) {
	switch {
	case held:
	case f.downs == 0 || now.Sub(f.back) >= calm:
		*f = flaps{first: now}
	default:
		f.n++
	}
	f.downs++
	f.last = now
}

// until is when the hold ends, provided that the uplink stays fine.
func (f *flaps) until(hold, longest time.Duration) time.Time {
	if f.n == 0 || hold <= 0 {
		return time.Time{}
	}
	for range f.n - 1 {
		if hold >= longest {
			break
		}
		hold *= 2
	}
	return f.fine.Add(min(hold, longest))
}

// reason tells why the uplink is held at the time now.
func (f *flaps) reason(now, until time.Time) string {
	more := until.Sub(now)
	if more > time.Second { // not a moment less than it will be
		more = (more + time.Second - 1).Truncate(time.Second)
	}
	return fmt.Sprintf("held down %s more: went down %d times in %s", words(more), f.downs, words(f.last.Sub(f.first)))
}

// words writes a time as a person would: 20s, 1m, 1m30s, 400ms.
func words(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	return s
}
