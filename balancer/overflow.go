package balancer

import "time"

// overflow gives new flows to the first uplink that is not full, in the order of
// tiers and of the policy.
//
// A line that becomes full gets no new flows at all; what runs on it goes on. When
// its load was below Leave for Hold it gets half of what it had when it became
// full, and after each further Hold as much more as brings it up to Leave: so
// short flows, which are gone at once when new ones go elsewhere, do not swing
// from one line to the other and back. One that has become full while it shares with the
// next gives half away each second, as long as it is.
type overflow struct {
	limits OverflowLimits
	lines  map[string]*overflowLine
	seed   map[string]float64 // shares of another node, to go on from
}

// overflowLine is one uplink: of the new flows that come to it, those before it
// being full, it takes part.
type overflowLine struct {
	part  float64   // 0…1
	knee  float64   // what part was when it became full last
	calm  time.Time // since when the load is below Leave; zero: it is not
	moved time.Time // when part changed last
	slow  float64   // the load, smoothed for as long as a change of part takes to show
}

const (
	// moveEvery is how long the load has at least to show what a change does.
	moveEvery = time.Second
	// slowly is the weight of a new sample in the load by which more is given.
	slowly = 0.15
	// leastMore and leastPart: less is not worth a change, or a share.
	leastMore = 1.1
	leastPart = 1. / 16
)

func (o *overflow) line(name string) *overflowLine {
	l := o.lines[name]
	if l == nil {
		l = &overflowLine{part: 1, knee: 1}
		o.lines[name] = l
	}
	return l
}

func (o *overflow) decide(now time.Time, fresh bool, of []candidate) map[string]float64 {
	if len(of) == 0 {
		return nil
	}
	o.sow(of)
	if fresh {
		for _, c := range of {
			o.step(o.line(c.Name), c.Load.of(c.Speed), now)
		}
	}
	out := map[string]float64{}
	rest, open, speeds := 1.0, 0.0, 0.0
	for _, c := range of {
		l := o.line(c.Name)
		out[c.Name] = rest * l.part
		rest *= 1 - l.part
		open += l.part
		speeds += c.Speed.Down + c.Speed.Up
	}
	if rest < 1./SlotCount/2 {
		return out
	}
	for _, c := range of { // what nobody takes: to those that still take some, else to all
		switch {
		case open > 0:
			out[c.Name] += rest * o.line(c.Name).part / open
		case speeds > 0:
			out[c.Name] += rest * (c.Speed.Down + c.Speed.Up) / speeds
		default:
			out[c.Name] += rest / float64(len(of))
		}
	}
	return out
}

func (o *overflow) step(l *overflowLine, load float64, now time.Time) {
	l.slow += slowly * (load - l.slow)
	rest := now.Sub(l.moved)
	switch {
	case load >= o.limits.Enter:
		l.calm = time.Time{}
		switch {
		case l.part == 1:
			l.knee, l.part, l.moved = l.part, 0, now
		case l.part > 0 && rest >= moveEvery:
			l.knee, l.moved = l.part, now
			if l.part /= 2; l.part < leastPart {
				l.part = 0
			}
		}
		return
	case load >= o.limits.Leave:
		l.calm = time.Time{}
		return
	case l.calm.IsZero():
		l.calm = now
	}
	if l.part == 1 || now.Sub(l.calm) < o.limits.Hold || rest < max(o.limits.Hold, moveEvery) {
		return
	}
	if l.part == 0 {
		l.part, l.moved = max(l.knee/2, leastPart), now
		return
	}
	more := 2.0
	if most := max(load, l.slow); most > o.limits.Leave/2 {
		more = o.limits.Leave / most
	}
	if more >= leastMore {
		l.part, l.moved = min(1, l.part*more), now
	}
}

func (o *overflow) follow(shares map[string]float64) { o.seed = shares }

// sow begins with the shares of another node, if there are any, and forgets the
// lines that are not used: one that comes back is not full, nor is one that could not
// be used there.
func (o *overflow) sow(of []candidate) {
	lines, rest := map[string]*overflowLine{}, 1.0
	for _, c := range of {
		l := o.line(c.Name)
		if o.seed != nil {
			l = &overflowLine{part: 1, knee: 1}
			if had, ok := o.seed[c.Name]; ok && rest > 0 {
				l.part = min(1, had/rest)
				rest -= had
			}
		}
		lines[c.Name] = l
	}
	o.lines, o.seed = lines, nil
}
