package balancer

import "time"

// Round is the outcome of one probe round of one uplink, as the prober hands
// it on, in the order in which the rounds began.
type Round struct {
	// Uplink is the uplink's name.
	Uplink string
	// At is when the round was handed on; it never runs backwards.
	At time.Time
	// Good says that the quorum of the targets answered in time; with ARP,
	// that the gateway did.
	Good bool
	// RTT is the time that the fastest answer took, zero when not known.
	RTT time.Duration
	// OnlyARP says that targets are configured but this node had no address
	// to probe them from, so that the gateway was asked by ARP instead.
	OnlyARP bool
	// Reason says why the round was bad, in words for a person; empty if good.
	Reason string
}

// Limit is a threshold with hysteresis: a value of at least Degraded is too
// much, and it stays so until the value is at most Clear. The zero value is no
// limit.
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

// ProbeConfig says how many rounds make a verdict.
type ProbeConfig struct {
	// Fall bad rounds in a row mean Down, Rise good ones Up; below 1 counts
	// as 1.
	Fall, Rise int
	// Loss is a share (0 to 1) of the last rounds; Latency is the smoothed
	// round trip, Jitter the smoothed change from one round to the next.
	// An uplink over one of them is Degraded instead of Up.
	Loss            Limit[float64]
	Latency, Jitter Limit[time.Duration]
}

const (
	// rttWeight and jitterWeight are the weights of a new sample: 1/8 as in
	// RFC 6298, 1/16 as in RFC 3550.
	rttWeight    = 8
	jitterWeight = 16
	// enoughRounds is how many rounds there must be before loss, latency and
	// jitter are judged: one lost round of the first three is no 33 %.
	enoughRounds = 20
)

const noCarrier = "no carrier"

// Health makes one node's verdict on one uplink out of its rounds and of the
// carrier:
//
//   - Fall bad rounds in a row: Down; no carrier: Down at once.
//   - Out of Down: Rise good rounds in a row, also after the carrier is back.
//   - Otherwise the first good round means Up: after the start, and when a node
//     that could only ask by ARP for a while can use the targets again.
//   - An answer that only ARP gave means Unknown, at once from Up, after Rise
//     rounds from Down. Silence there means Down after Fall rounds like any.
//
// It is driven by Round and Link alone and keeps no clock. Create it with
// NewHealth; it is not safe for concurrent use.
type Health struct {
	cfg     ProbeConfig
	verdict Verdict
	since   time.Time
	reason  string

	noCarrier bool
	wasDown   bool // Down since it was last Up: the way back takes Rise rounds
	good      int  // rounds in a row that may say Up
	answered  int  // rounds in a row with any answer, also one that only ARP gave
	bad       int  // rounds in a row without

	lost                           window
	kind                           bool // OnlyARP of the last answered round: its RTT is another measure
	rtt, jitter, last              time.Duration
	samples                        int
	overLoss, overLatency, overJit bool
}

// NewHealth returns a machine that knows nothing yet: Unknown, with carrier.
func NewHealth(cfg ProbeConfig) *Health {
	h := &Health{}
	h.Configure(cfg)
	return h
}

// Configure puts new numbers in place, at a reload; the verdict stays, and the
// next round is judged by them.
func (h *Health) Configure(cfg ProbeConfig) {
	cfg.Fall, cfg.Rise = max(cfg.Fall, 1), max(cfg.Rise, 1)
	h.cfg = cfg
}

// Verdict returns the verdict as of the last event; it is never Disabled.
func (h *Health) Verdict() Verdict { return h.verdict }

// Since returns when the verdict became what it is: the At of the round or the
// now of the link event; zero if it has always been Unknown.
func (h *Health) Since() time.Time { return h.since }

// Reason says in words why the verdict is what it is; empty when Up, and
// before the first verdict.
func (h *Health) Reason() string { return h.reason }

// Failing tells whether the last round was bad, or there is no carrier: the
// verdict may be about to change.
func (h *Health) Failing() bool { return h.bad > 0 || h.noCarrier }

// RTT returns the smoothed round trip, zero when there is none to tell: no
// answer yet, or Down.
func (h *Health) RTT() time.Duration {
	if h.verdict == Down {
		return 0
	}
	return h.rtt
}

// Jitter returns the smoothed difference between successive round trips, zero
// like RTT.
func (h *Health) Jitter() time.Duration {
	if h.verdict == Down {
		return 0
	}
	return h.jitter
}

// Loss returns the share (0 to 1) of bad rounds among the last hundred, and
// whether there were any. It starts anew with the streak that made the uplink
// Down or brought it back, so an uplink that is down shows 1 and one that came
// back is not blamed for the outage.
func (h *Health) Loss() (share float64, known bool) { return h.lost.share() }

// Link takes in whether the device has carrier, at the time now, and tells
// whether the verdict changed. Without carrier the uplink is Down at once;
// when it is back, Rise good rounds are wanted as after any other outage.
func (h *Health) Link(carrier bool, now time.Time) (changed bool) {
	if carrier == !h.noCarrier {
		return false
	}
	h.noCarrier = !carrier
	h.good, h.answered, h.bad = 0, 0, 0
	if carrier {
		h.reason = "carrier is back, not answered yet"
		return false
	}
	h.lost = window{}
	changed = h.become(Down, now)
	h.reason = noCarrier
	return changed
}

// Round takes in one round and tells whether the verdict changed.
func (h *Health) Round(r Round) (changed bool) {
	if h.noCarrier {
		// An answer that was still under way when the cable was pulled.
		return false
	}
	h.lost.add(!r.Good)
	if !r.Good {
		h.good, h.answered = 0, 0
		h.bad++
		if h.verdict == Down || h.bad >= h.cfg.Fall {
			changed = h.become(Down, r.At)
			h.reason = r.Reason
			return changed
		}
		return h.judge(r.At)
	}

	h.bad = 0
	h.answered++
	if r.OnlyARP {
		h.good = 0
	} else {
		h.good++
	}
	h.measure(r)
	switch {
	case r.OnlyARP && (h.verdict != Down || h.answered >= h.cfg.Rise):
		changed = h.become(Unknown, r.At)
		h.reason = "this node has no address to probe the targets from; the gateway answers"
		return changed
	case r.OnlyARP:
		return false
	case h.verdict.Usable():
		return h.judge(r.At)
	case h.good >= h.cfg.Rise, h.verdict == Unknown && !h.wasDown:
		return h.become(Up, r.At)
	}
	return false
}

// judge chooses between Up and Degraded for an uplink that is one of them.
func (h *Health) judge(now time.Time) (changed bool) {
	if !h.verdict.Usable() {
		return false
	}
	share, _ := h.lost.share()
	if h.lost.n >= enoughRounds {
		h.overLoss = h.cfg.Loss.over(share, h.overLoss)
	}
	if h.samples >= enoughRounds {
		h.overLatency = h.cfg.Latency.over(h.rtt, h.overLatency)
		h.overJit = h.cfg.Jitter.over(h.jitter, h.overJit)
	}
	var reason string
	switch {
	case h.overLoss:
		reason = "loss is over its threshold"
	case h.overLatency:
		reason = "latency is over its threshold"
	case h.overJit:
		reason = "jitter is over its threshold"
	default:
		return h.become(Up, now)
	}
	changed = h.become(Degraded, now)
	h.reason = reason
	return changed
}

// measure smooths the round trips. After an outage, and when the probe is of
// another kind than before, it starts anew.
func (h *Health) measure(r Round) {
	if r.OnlyARP != h.kind || h.verdict == Down && h.answered == 1 {
		h.kind, h.samples, h.rtt, h.jitter = r.OnlyARP, 0, 0, 0
	}
	if r.RTT <= 0 {
		return
	}
	if h.samples == 0 {
		h.rtt = r.RTT
	} else {
		h.rtt += (r.RTT - h.rtt) / rttWeight
		h.jitter += ((r.RTT - h.last).Abs() - h.jitter) / jitterWeight
	}
	h.last = r.RTT
	h.samples++
}

// become sets the verdict; the reason of another one does not outlive it.
func (h *Health) become(v Verdict, now time.Time) (changed bool) {
	if v == h.verdict {
		return false
	}
	if v == Down {
		h.wasDown = true
		h.lost.keep(h.bad)
	} else if h.verdict == Down {
		h.lost.keep(h.answered)
		h.overLoss, h.overLatency, h.overJit = false, false, false
	}
	if v == Up {
		h.wasDown = false
	}
	h.verdict, h.since, h.reason = v, now, ""
	return true
}

// window remembers which of the last hundred rounds were bad.
type window struct {
	bad  [100]bool
	n    int // rounds in it
	next int
}

func (w *window) add(bad bool) {
	w.bad[w.next] = bad
	w.next = (w.next + 1) % len(w.bad)
	w.n = min(w.n+1, len(w.bad))
}

// keep forgets all but the last n rounds.
func (w *window) keep(n int) { w.n = min(w.n, n) }

func (w *window) share() (float64, bool) {
	if w.n == 0 {
		return 0, false
	}
	bad := 0
	for i := range w.n {
		if w.bad[(w.next-1-i+2*len(w.bad))%len(w.bad)] {
			bad++
		}
	}
	return float64(bad) / float64(w.n), true
}
