package netlab

import (
	"net/netip"
	"slices"
	"time"
)

// Flow is what became of one flow of questions and answers.
type Flow struct {
	Name       string
	Target     netip.AddrPort
	Interval   time.Duration
	Sent       []Instant  // when question number i was sent
	Echo       []Instant  // when it was answered; 0: never
	Unsent     int        // questions that the own kernel refused
	Duplicated int        // answers that came again
	Reordered  int        // answers that came after a later one
	ServerGot  uint64     // questions that the server had when it last answered (UDP)
	Seen       []Sighting // sources as the server saw them: one, or more if NAT changed
}

// Sighting is a source address and port that a server saw.
type Sighting struct {
	At   Instant
	From netip.AddrPort
}

// Gap is the longest silence that began or lasted after from and began before
// to (0: the end): the time between two answers that follow each other. The
// last answer before from begins it; a flow that stays silent is silent until
// its last question.
func (f Flow) Gap(from, to Instant) time.Duration {
	if len(f.Sent) == 0 {
		return 0
	}
	if to == 0 {
		to = f.Sent[len(f.Sent)-1] + 1
	}
	previous := f.Sent[0]
	var gap time.Duration
	for _, at := range append(f.arrivals(), f.Sent[len(f.Sent)-1]) {
		if at > from && previous < to {
			gap = max(gap, at.Sub(previous))
		}
		previous = max(previous, at)
	}
	return gap
}

// Lost counts questions sent in [from, to) that were never answered; to = 0 is
// the end.
func (f Flow) Lost(from, to Instant) int {
	lost := 0
	for i, at := range f.Sent {
		if at >= from && (to == 0 || at < to) && f.Echo[i] == 0 {
			lost++
		}
	}
	return lost
}

// Delay is the median and the longest time from question to answer.
func (f Flow) Delay() (median, longest time.Duration) {
	var all []time.Duration
	for i, at := range f.Echo {
		if at != 0 {
			all = append(all, at.Sub(f.Sent[i]))
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)-1]
}

// Source is the source that the server saw last.
func (f Flow) Source() netip.AddrPort {
	if len(f.Seen) == 0 {
		return netip.AddrPort{}
	}
	return f.Seen[len(f.Seen)-1].From
}

func (f Flow) arrivals() []Instant {
	arrivals := make([]Instant, 0, len(f.Echo)+1)
	for _, at := range f.Echo {
		if at != 0 {
			arrivals = append(arrivals, at)
		}
	}
	slices.Sort(arrivals)
	return arrivals
}

func (f Flow) answers() int {
	n := 0
	for _, at := range f.Echo {
		if at != 0 {
			n++
		}
	}
	return n
}

// Stream is what became of one TCP flow; its questions are messages.
type Stream struct {
	Flow
	Mode      Mode
	Local     netip.AddrPort
	BytesSent int64
	BytesBack int64 // echoed and compared; of an upload: had by the server
	Progress  []Sample
	Err       string // why it died; "" if it did not
	ErrAt     Instant
	// Clean: it lived to the end, every byte came as it was sent, and it was
	// closed in good order.
	Clean bool
}

// Sample is a counter at a moment.
type Sample struct {
	At    Instant
	Bytes int64
}

// Rate is the mean rate of a bulk flow between two moments, in bit/s.
func (s Stream) Rate(from, to Instant) float64 {
	var first, last *Sample
	for i := range s.Progress {
		p := &s.Progress[i]
		if p.At < from || to != 0 && p.At > to {
			continue
		}
		if first == nil {
			first = p
		}
		last = p
	}
	if first == nil || first == last {
		return 0
	}
	return float64(last.Bytes-first.Bytes) * 8 / last.At.Sub(first.At).Seconds()
}

// Attempt is one fresh connection.
type Attempt struct {
	Start   Instant
	Server  netip.AddrPort
	OK      bool
	Connect time.Duration  // until it was established
	Took    time.Duration  // until it was done with, or given up
	Seen    netip.AddrPort // source as the server saw it
	Err     string
}
