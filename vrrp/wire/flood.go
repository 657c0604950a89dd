package wire

import (
	"net/netip"
	"time"

	"harouter/vrrp"
)

const (
	// perReason is how many refused packets a second are handed over for each
	// reason: plenty for an alarm, nothing to a queue.
	perReason = 50
	// perSource is how many good adverts a second are taken from one source at
	// one place: twice what the shortest interval sends (10 ms).
	perSource = 200
	// maxSources are counted each by itself; all others share one allowance, so
	// that forged sources fill no memory and crowd out nobody who was there before.
	maxSources = 256
	// idleSource is when a source is forgotten: after three of the longest
	// intervals of version 3 (40.95 s).
	idleSource = 2 * time.Minute
)

// gate keeps a flood from the receiver. Its times are those of the packets.
type gate struct {
	reasons map[vrrp.DropReason]*tally
	sources map[sender]*tally
	others  tally
}

// sender is who sends, at one place: a peer may use one address on a lan and
// for unicast.
type sender struct {
	link string
	addr netip.Addr
}

// tally counts within one second.
type tally struct {
	begin time.Time
	n     int
}

func (t *tally) allow(now time.Time, limit int) bool {
	if now.Sub(t.begin) >= time.Second {
		t.begin, t.n = now, 0
	}
	t.n++
	return t.n <= limit
}

// pass marks a good advert that is one too many as a flood, and tells whether
// to hand the packet over.
func (g *gate) pass(r *Received) bool {
	if r.Drop == "" {
		if g.from(*r).allow(r.At, perSource) {
			return true
		}
		r.Drop = vrrp.DropFlood
	}
	t := g.reasons[r.Drop]
	if t == nil { // there are a dozen reasons
		if g.reasons == nil {
			g.reasons = map[vrrp.DropReason]*tally{}
		}
		t = &tally{}
		g.reasons[r.Drop] = t
	}
	return t.allow(r.At, perReason)
}

// from is the tally of a packet's source.
func (g *gate) from(r Received) *tally {
	who := sender{r.Link, r.Src}
	if t := g.sources[who]; t != nil {
		return t
	}
	if len(g.sources) >= maxSources {
		for s, t := range g.sources {
			if r.At.Sub(t.begin) > idleSource {
				delete(g.sources, s)
			}
		}
	}
	if len(g.sources) >= maxSources {
		return &g.others
	}
	if g.sources == nil {
		g.sources = map[sender]*tally{}
	}
	t := &tally{}
	g.sources[who] = t
	return t
}
