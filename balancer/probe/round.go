package probe

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"harouter/balancer"
)

// round is one round of one uplink. It is decided as early as can be: when the
// quorum has answered, when too few are left for it, or at its deadline.
type round struct {
	result   balancer.Round
	decided  bool
	weighed  bool // result is complete
	began    time.Time
	timeout  time.Duration
	deadline time.Time // began + timeout, or later once: see uplink.expire
	extended bool
	cancel   func() // ends the asking of the round

	source   netip.Addr // from which targets were asked; zero: none was, but by ARP
	homeless bool       // one could not be asked, since this machine has not got the source

	asked      []string     // names of those who were asked
	neighbours []netip.Addr // whom of them by ARP; zero: otherwise
	waiting    []bool       // which of them have neither answered nor failed
	left       int          // how many those are
	quorum     int
	answers    int
	bad        []string // reasons of those who failed
}

// ask adds one who is asked and returns its number.
func (r *round) ask(name string) int {
	r.asked = append(r.asked, name)
	r.neighbours = append(r.neighbours, netip.Addr{})
	r.waiting = append(r.waiting, true)
	r.left++
	return len(r.asked) - 1
}

// answered takes in that number who answered.
func (r *round) answered(who int, rtt time.Duration) {
	if !r.strike(who) || r.decided {
		return
	}
	r.answers++
	// A time beyond the timeout tells how long this process slept, not how
	// long the packet was under way.
	if rtt <= r.timeout && (r.result.RTT == 0 || rtt < r.result.RTT) {
		r.result.RTT = rtt
	}
	if r.answers >= r.quorum {
		r.decided, r.result.Good = true, true
	}
}

// failed takes in that number who cannot answer any more.
func (r *round) failed(who int, reason string) {
	if !r.strike(who) || r.decided {
		return
	}
	r.bad = append(r.bad, reason)
	if r.answers+r.left < r.quorum {
		r.decideBad()
	}
}

// expire ends the wait.
func (r *round) expire() {
	for who, waiting := range r.waiting {
		if waiting {
			r.failed(who, fmt.Sprintf("%s: no answer within %v", r.asked[who], r.timeout))
		}
	}
}

// refuse makes a round bad in which nobody could be asked.
func (r *round) refuse(reason string) {
	r.bad = append(r.bad, reason)
	r.decideBad()
}

// over says that nobody is waited for.
func (r *round) over() bool { return r.left == 0 }

func (r *round) strike(who int) bool {
	if !r.waiting[who] {
		return false
	}
	r.waiting[who] = false
	r.left--
	return true
}

func (r *round) decideBad() {
	r.decided = true
	r.result.RTT = 0
	r.result.Reason = strings.Join(r.bad, "; ")
}
