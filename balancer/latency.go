package balancer

import (
	"slices"
	"time"
)

// lowestLatency gives all new flows to the uplink that answers its probes first.
// Another one takes over when it was quicker by the margin, in percent and in
// time, for some of its rounds in a row; the more of them, the more often that
// happened lately: what moves the flows may itself be what makes a line slow.
type lowestLatency struct {
	margin LatencyMargin
	who    string
	better map[string]int // rounds in a row in which it was quicker by the margin
	seen   map[string]int // rounds that were looked at
	moves  []time.Time    // lately
}

const (
	// lossCost is what a lost packet costs: the time after which TCP sends the
	// first one of a connection again (RFC 6298).
	lossCost = time.Second
	// movesWithin is how long a move makes the next one harder: each doubles
	// the rounds that it takes, to movesMost doublings.
	movesWithin = time.Minute
	movesMost   = 3
	// roundsFirst are waited for before the first choice, for uplinks that have
	// not answered yet.
	roundsFirst = 3
)

// latency is what a packet takes there and back, with what it costs when it is
// lost; 0 is not known.
func (c candidate) latency() time.Duration {
	if c.RTT <= 0 {
		return 0
	}
	return time.Duration(float64(c.RTT)*(1-c.Loss) + c.Loss*float64(lossCost))
}

func (l *lowestLatency) decide(now time.Time, _ bool, of []candidate) map[string]float64 {
	if slices.ContainsFunc(of, func(c candidate) bool { return !c.Degraded }) {
		of = slices.DeleteFunc(slices.Clone(of), func(c candidate) bool { return c.Degraded })
	}
	best, present, ready := candidate{}, candidate{}, true
	for _, c := range of {
		if c.Name == l.who {
			present = c
		}
		switch t := c.latency(); {
		case t == 0:
			ready = ready && c.Rounds >= roundsFirst
		case best.Name == "" || t < best.latency():
			best = c
		}
	}
	switch {
	case present.Name == "" && best.Name != "" && (ready || l.who != ""): // the first choice, or that one is gone
		l.choose(best.Name)
	case present.Name == "":
		return nil
	default:
		l.compare(now, present, of)
	}
	return map[string]float64{l.who: 1}
}

// compare lets another one take over that was quicker for long enough.
func (l *lowestLatency) compare(now time.Time, present candidate, of []candidate) {
	l.moves = slices.DeleteFunc(l.moves, func(t time.Time) bool { return now.Sub(t) > movesWithin })
	need := max(l.margin.Rounds, 1) << min(len(l.moves), movesMost)
	slow, next := present.latency(), candidate{}
	for _, c := range of {
		t := c.latency()
		if c.Name == l.who || c.Rounds == l.seen[c.Name] {
			continue
		}
		l.seen[c.Name] = c.Rounds
		less := slow - t
		if t == 0 || slow > 0 && (less < l.margin.Time || less*100 < slow*time.Duration(l.margin.Percent)) {
			l.better[c.Name] = 0
			continue
		}
		if l.better[c.Name]++; l.better[c.Name] >= need && (next.Name == "" || t < next.latency()) {
			next = c
		}
	}
	if next.Name != "" {
		l.moves = append(l.moves, now)
		l.choose(next.Name)
	}
}

func (l *lowestLatency) choose(name string) {
	l.who = name
	clear(l.better)
}

func (l *lowestLatency) follow(shares map[string]float64) {
	for name, s := range shares {
		if s > 0.5 && name != l.who {
			l.choose(name)
		}
	}
}
