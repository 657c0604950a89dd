package balancer

import (
	"strings"
	"time"
)

// ProbeConfig says how many rounds make a verdict.
type ProbeConfig struct {
	// Fall bad rounds in a row mean Down, Rise good ones Up; below 1 counts
	// as 1.
	Fall, Rise int
	// Loss is a share (0 to 1), Latency the mean round trip and Jitter the mean
	// change from one round trip to the next, all of the last 60 rounds. An
	// uplink over one of them is Degraded instead of Up.
	Loss            Limit[float64]
	Latency, Jitter Limit[time.Duration]
	// FlapHold is how long an uplink that flaps is held Down after it would
	// have come back, doubled with each further flap up to FlapMax. All is
	// forgotten when it was in use for FlapMax. FlapHold 0: never held; a
	// FlapMax below FlapHold counts as FlapHold.
	FlapHold, FlapMax time.Duration
}

// rttWeight is the weight of a new round trip in the smoothed one: 1/8 as in
// RFC 6298.
const rttWeight = 8

const noCarrier = "no carrier"

// Health makes one node's verdict on one uplink out of its rounds and of the
// carrier:
//
//   - Fall bad rounds in a row: Down; no carrier: Down at once.
//   - Out of Down: Rise good rounds in a row, also after the carrier is back.
//   - But an uplink does not go Down while it carries traffic there and back:
//     what is slow is then the queue before it. Each bad round must be excused
//     anew.
//   - Otherwise the first good round means Up: after the start, and when a node
//     that could only ask by ARP for a while can use the targets again.
//   - An answer that only ARP gave means Unknown, at once from Up, after Rise
//     rounds from Down. Silence there means Down after Fall rounds like any.
//   - Up is Degraded while loss, latency or jitter is too much.
//   - An uplink that goes down again soon after it came back is held Down for
//     a while when it could come back once more: see flaps.
//
// It is driven by Round, Link and Tick and keeps no clock: a hold that is over
// ends with the next of these calls, so whoever wants it sooner than the next
// round calls Tick at HeldUntil. Create it with NewHealth; it is not safe for
// concurrent use.
type Health struct {
	cfg     ProbeConfig
	verdict Verdict
	since   time.Time
	reason  string

	// What the rounds and the carrier say: verdict and reason differ from it
	// while the uplink is held.
	seen       Verdict
	seenReason string
	flaps      flaps

	noCarrier bool
	wasDown   bool // Down since it was last Up: the way back takes Rise rounds
	good      int  // rounds in a row that may say Up
	answered  int  // rounds in a row with any answer, also one that only ARP gave
	bad       int  // rounds in a row without
	carries   bool // in the last of these the line carried traffic all the same

	window                            window
	kind                              bool // OnlyARP of the last answered round: its RTT is another measure
	rtt                               time.Duration
	overLoss, overLatency, overJitter bool
}

// NewHealth returns a machine that knows nothing yet: Unknown, with carrier.
func NewHealth(cfg ProbeConfig) *Health {
	h := &Health{}
	h.Reconfigure(cfg)
	return h
}

// Reconfigure puts new numbers in place, at a reload. All that was seen stays;
// the next Round, Link or Tick is judged by the new numbers.
func (h *Health) Reconfigure(cfg ProbeConfig) {
	cfg.Fall, cfg.Rise = max(cfg.Fall, 1), max(cfg.Rise, 1)
	cfg.FlapMax = max(cfg.FlapMax, cfg.FlapHold)
	h.cfg = cfg
}

// Verdict returns the verdict as of the last event; it is never Disabled.
func (h *Health) Verdict() Verdict { return h.verdict }

// Since returns when the verdict became what it is: the At of the round or the
// now of the call; zero if it has always been Unknown.
func (h *Health) Since() time.Time { return h.since }

// Reason says in words, as of the last event, why the verdict is what it is;
// empty when Up, and before the first verdict.
func (h *Health) Reason() string { return h.reason }

// Failing tells whether the last round was bad, or there is no carrier: the
// verdict may be about to change.
func (h *Health) Failing() bool { return h.bad > 0 && !h.carries || h.noCarrier }

// RTT returns the smoothed round trip, zero when there is none to tell: no
// answer yet, or Down.
func (h *Health) RTT() time.Duration {
	if h.verdict == Down {
		return 0
	}
	return h.rtt
}

// Jitter returns the mean difference between successive round trips among the
// last 60 rounds, zero like RTT.
func (h *Health) Jitter() time.Duration {
	if h.verdict == Down {
		return 0
	}
	d, _ := h.window.jitter()
	return d
}

// Loss returns the share (0 to 1) of bad rounds among the last 60, and whether
// there were any. It starts anew with the streak that made the uplink Down or
// brought it back, so an uplink that is down shows 1 and one that came back is
// not blamed for the outage.
func (h *Health) Loss() (share float64, known bool) {
	share, n := h.window.loss()
	return share, n > 0
}

// HeldUntil returns when an uplink that is Down only because it flapped comes
// back, if nothing happens until then; zero for any other. The line works
// meanwhile: no other node sees more of it by taking over.
func (h *Health) HeldUntil() time.Time {
	if h.verdict != Down || h.seen == Down {
		return time.Time{}
	}
	return h.flaps.until(h.cfg.FlapHold, h.cfg.FlapMax)
}

// SureLoss is the loss as far as it is no chance: as if there had been 60 rounds,
// and one bad one less.
func (h *Health) SureLoss() float64 {
	share, n := h.window.loss()
	return max(share*float64(n)-1, 0) / windowSize
}

// Release ends a hold at the time now, and tells whether there was one: where
// no other uplink is left, one that flaps is better than none. The next hold
// will be longer all the same.
func (h *Health) Release(now time.Time) (changed bool) {
	if h.HeldUntil().IsZero() {
		return false
	}
	h.flaps.fine = time.Time{}
	return h.settle(now)
}

// Tick lets the time pass, and tells whether the verdict changed.
func (h *Health) Tick(now time.Time) (changed bool) { return h.settle(now) }

// Link takes in whether the device has carrier, at the time now, and tells
// whether the verdict changed. Without carrier the uplink is Down at once;
// when it is back, Rise good rounds are wanted as after any other outage.
func (h *Health) Link(carrier bool, now time.Time) (changed bool) {
	if carrier == h.noCarrier {
		h.link(carrier, now)
	}
	return h.settle(now)
}

func (h *Health) link(carrier bool, now time.Time) {
	h.noCarrier = !carrier
	h.good, h.answered, h.bad = 0, 0, 0
	if carrier {
		h.seenReason = "carrier is back, not answered yet"
		return
	}
	h.window = window{}
	h.see(Down, noCarrier, now)
}

// Round takes in one round and tells whether the verdict changed.
func (h *Health) Round(r Round) (changed bool) {
	if !h.noCarrier { // else an answer that was still under way when the cable was pulled
		h.round(r)
	}
	return h.settle(r.At)
}

func (h *Health) round(r Round) {
	if !r.Good {
		h.window.add(true, 0)
		h.good, h.answered = 0, 0
		h.bad++
		h.carries = r.Carries && h.seen != Down
		if h.carries {
			h.judge(r.At)
			return
		}
		if h.seen == Down || h.bad >= h.cfg.Fall {
			h.see(Down, r.Reason, r.At)
			return
		}
		h.judge(r.At)
		return
	}

	h.bad, h.carries = 0, false
	h.answered++
	if r.OnlyARP {
		h.good = 0
	} else {
		h.good++
	}
	h.measure(r)
	switch {
	case r.OnlyARP && (h.seen != Down || h.answered >= h.cfg.Rise):
		h.see(Unknown, "this node has no address to probe the targets from; the gateway answers", r.At)
	case r.OnlyARP:
	case h.seen.Usable():
		h.judge(r.At)
	case h.good >= h.cfg.Rise, h.seen == Unknown && !h.wasDown:
		h.see(Up, "", r.At)
	}
}

// measure takes in an answer. After an outage, and when the probe is of another
// kind than before, the round trips start anew.
func (h *Health) measure(r Round) {
	if r.OnlyARP != h.kind || h.seen == Down && h.answered == 1 {
		h.kind, h.rtt = r.OnlyARP, 0
		h.window.forgetTimes()
		h.overLatency, h.overJitter = false, false
	}
	h.window.add(false, r.RTT)
	switch {
	case r.RTT <= 0:
	case h.rtt == 0:
		h.rtt = r.RTT
	default:
		h.rtt += (r.RTT - h.rtt) / rttWeight
	}
}

// judge chooses between Up and Degraded for an uplink that is one of them.
func (h *Health) judge(now time.Time) {
	if !h.seen.Usable() {
		return
	}
	loss, n := h.window.loss()
	if n >= enoughRounds {
		h.overLoss = h.cfg.Loss.over(loss, h.overLoss)
	}
	latency, n := h.window.latency()
	if n >= enoughRounds {
		h.overLatency = h.cfg.Latency.over(latency, h.overLatency)
	}
	jitter, n := h.window.jitter()
	if n >= enoughRounds {
		h.overJitter = h.cfg.Jitter.over(jitter, h.overJitter)
	}
	var why []string
	if h.overLoss {
		why = append(why, h.cfg.Loss.reason("loss", loss, percent))
	}
	if h.overLatency {
		why = append(why, h.cfg.Latency.reason("latency", latency, tenths))
	}
	if h.overJitter {
		why = append(why, h.cfg.Jitter.reason("jitter", jitter, tenths))
	}
	if len(why) == 0 {
		h.see(Up, "", now)
		return
	}
	h.see(Degraded, strings.Join(why, "; "), now)
}

// see sets what the rounds and the carrier say.
func (h *Health) see(v Verdict, reason string, now time.Time) {
	h.seenReason = reason
	switch {
	case v == h.seen:
		return
	case v == Down:
		if !h.since.IsZero() { // a device that comes up after the start has not gone down
			h.flaps.down(now, h.verdict == Down, h.cfg.FlapMax)
		}
		h.wasDown = true
		h.window.keep(h.bad)
	case h.seen == Down:
		h.flaps.fine = now
		h.window.keep(h.answered)
		h.overLoss, h.overLatency, h.overJitter = false, false, false
	}
	if v == Up {
		h.wasDown = false
	}
	h.seen = v
}

// settle makes the verdict of what is seen and of what is held.
func (h *Health) settle(now time.Time) (changed bool) {
	v, reason := h.seen, h.seenReason
	if until := h.HeldUntil(); now.Before(until) {
		v, reason = Down, h.flaps.reason(now, until)
	}
	h.reason = reason
	if v == h.verdict {
		return false
	}
	if h.verdict == Down {
		h.flaps.back = now
	}
	h.verdict, h.since = v, now
	return true
}
