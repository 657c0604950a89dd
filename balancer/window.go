package balancer

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	// windowSize is how many rounds loss, latency and jitter are judged by: at
	// the default interval a minute, as with dpinger (pfSense, OPNsense). Fewer
	// would see it sooner, and more often without need: of a line that loses
	// 1 %, 60 rounds show 10 % once in weeks, 20 rounds several times a day.
	windowSize = 60
	// enoughRounds is how many there must be in it before they are judged: one
	// lost round of the first three is no 33 %.
	enoughRounds = 20
)

// Limit is a threshold with hysteresis: a value of at least Degraded is too
// much, and it stays so until the value is at most Clear, which is less. The
// zero value is no limit.
type Limit[T float64 | time.Duration] struct {
	Degraded, Clear T
}

// over says whether v is too much, given that it was before.
func (l Limit[T]) over(v T, before bool) bool {
	switch {
	case l.Degraded <= 0:
		return false
	case before:
		return v > l.Clear
	}
	return v >= l.Degraded
}

// reason tells of a value that is too much.
func (l Limit[T]) reason(name string, v T, text func(T) string) string {
	return fmt.Sprintf("%s %s (degraded from %s, up again at %s)", name, text(v), text(l.Degraded), text(l.Clear))
}

// percent writes a share with up to one decimal.
func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1000)/10, 'f', -1, 64) + " %"
}

// tenths writes a time in tenths of milliseconds.
func tenths(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// window remembers the last rounds.
type window struct {
	rounds [windowSize]sample
	n      int // rounds in it
	next   int
	last   time.Duration // round trip that was known last, 0 none
}

// sample is one round; times that are not known are below zero.
type sample struct {
	bad         bool
	rtt, change time.Duration // change is the difference to the round trip before
}

// add takes in a round; an rtt of zero is not known.
func (w *window) add(bad bool, rtt time.Duration) {
	s := sample{bad: bad, rtt: -1, change: -1}
	if rtt > 0 {
		s.rtt = rtt
		if w.last > 0 {
			s.change = (rtt - w.last).Abs()
		}
		w.last = rtt
	}
	w.rounds[w.next] = s
	w.next = (w.next + 1) % windowSize
	w.n = min(w.n+1, windowSize)
}

// keep forgets all but the last n rounds.
func (w *window) keep(n int) { w.n = min(w.n, n) }

// forgetTimes forgets the round trips, not the losses.
func (w *window) forgetTimes() {
	for i := range w.rounds {
		w.rounds[i].rtt, w.rounds[i].change = -1, -1
	}
	w.last = 0
}

// loss is the share (0 to 1) of bad rounds; none is known without any round.
func (w *window) loss() (share float64, n int) {
	bad := 0
	w.each(func(s sample) {
		if s.bad {
			bad++
		}
	})
	if w.n == 0 {
		return 0, 0
	}
	return float64(bad) / float64(w.n), w.n
}

// latency is the mean of the n round trips that are known.
func (w *window) latency() (d time.Duration, n int) {
	return w.mean(func(s sample) time.Duration { return s.rtt })
}

// jitter is the mean of how much each round trip differs from the one before:
// the differences of RFC 3550, of which it takes a floating mean that one slow
// answer moves by an eighth of its delay, here by a thirtieth. Unlike the
// standard deviation it does not grow where the round trip drifts slowly.
func (w *window) jitter() (d time.Duration, n int) {
	return w.mean(func(s sample) time.Duration { return s.change })
}

func (w *window) mean(value func(sample) time.Duration) (d time.Duration, n int) {
	w.each(func(s sample) {
		if v := value(s); v >= 0 {
			d += v
			n++
		}
	})
	if n == 0 {
		return 0, 0
	}
	return d / time.Duration(n), n
}

func (w *window) each(f func(sample)) {
	for i := range w.n {
		f(w.rounds[(w.next-1-i+2*windowSize)%windowSize])
	}
}
