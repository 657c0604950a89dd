package balancer

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Load is what passes over an uplink, or can, in bit/s.
type Load struct {
	Down float64 `json:"down"` // from the ISP
	Up   float64 `json:"up"`   // to it
}

// of is the part of a speed that a load takes: that of the direction which is
// nearer to its end. What is not known does not count.
func (l Load) of(speed Load) float64 {
	part := 0.0
	if speed.Down > 0 {
		part = l.Down / speed.Down
	}
	if speed.Up > 0 {
		part = max(part, l.Up/speed.Up)
	}
	return part
}

// Equal tells whether two maps say the same.
func (s Shares) Equal(o Shares) bool { return maps.EqualFunc(s, o, maps.Equal) }

// Measurement is what is known of one uplink now.
type Measurement struct {
	Usable   bool // it gets new flows
	Degraded bool
	// Load is the last sample; Samples counts them, so that each is used once.
	Load    Load
	Samples int
	// RTT is the smoothed round trip of the probes, 0 if none is known; Loss the
	// part of them, 0…1, that got no answer, as far as that is no chance; Rounds
	// counts them.
	RTT    time.Duration
	Loss   float64
	Rounds int
}

// Meter decides the shares of the policies whose method measures. It keeps no
// clock and is driven by Decide on the node whose word counts; the others give
// it that word by Follow, so that each goes on from it when its own counts. It
// is not safe for concurrent use.
type Meter struct {
	cfg     Config
	samples map[string]int
	loads   map[string]Load // smoothed
	spreads map[string]spread
	shares  Shares
	follows bool // the word of another node, since the last Decide
}

// spread is the state of one policy. Candidates are its usable uplinks, in the
// order in which it prefers them; fresh tells that the loads are new. A result
// of nil leaves it to the weights.
type spread interface {
	decide(now time.Time, fresh bool, of []candidate) map[string]float64
	follow(shares map[string]float64)
}

type candidate struct {
	Uplink
	Measurement
}

// NewMeter returns a meter that has measured nothing yet.
func NewMeter(c Config) *Meter {
	m := &Meter{samples: map[string]int{}, loads: map[string]Load{}, spreads: map[string]spread{}, shares: Shares{}}
	m.Reconfigure(c)
	return m
}

// Reconfigure puts another file in place, at a reload. A policy that stays as it
// was goes on from where it is; one that is new, or has other settings, from the
// shares that it has, if any.
func (m *Meter) Reconfigure(c Config) {
	old := map[string]Policy{}
	for _, p := range m.cfg.Policies {
		old[p.Name] = p
	}
	spreads, shares := map[string]spread{}, Shares{}
	for _, p := range c.Policies {
		was, known := old[p.Name]
		s := m.spreads[p.Name]
		if !known || s == nil || was.Method != p.Method || was.Overflow != p.Overflow || was.Margin != p.Margin {
			s = newSpread(p)
		}
		if s == nil {
			continue
		}
		spreads[p.Name] = s
		if had, ok := m.shares[p.Name]; ok && was.Method == p.Method {
			shares[p.Name] = had
			s.follow(had)
		}
	}
	m.cfg, m.spreads, m.shares = c, spreads, shares
}

func newSpread(p Policy) spread {
	switch p.Method {
	case Overflow:
		return &overflow{limits: p.Overflow, lines: map[string]*overflowLine{}}
	case LeastUsed:
		return &leastUsed{}
	case LowestLatency:
		return &lowestLatency{margin: p.Margin, better: map[string]int{}, seen: map[string]int{}}
	case Weighted, Priority, Persistence, Enforced, FastestResponse:
	}
	return nil
}

// NeedsLoad tells whether a policy asks how much passes over the uplinks.
func (c *Config) NeedsLoad() bool {
	return slices.ContainsFunc(c.Policies, func(p Policy) bool { return p.Method == Overflow || p.Method == LeastUsed })
}

// Shares are those decided, or followed, last. They must not be changed.
func (m *Meter) Shares() Shares { return m.shares }

// Follow takes the shares of the node whose word counts.
func (m *Meter) Follow(s Shares) {
	m.follows = true
	if s.Equal(m.shares) {
		return
	}
	m.shares = Shares{}
	for name, sp := range m.spreads {
		if of, ok := s[name]; ok {
			m.shares[name] = of
			sp.follow(of)
		}
	}
}

// smoothing is the weight of a new sample of load in the smoothed one: two
// samples a second follow a change within one.
const smoothing = 0.5

// Decide takes what is known of the uplinks and tells whether the shares
// changed. It may be called as often as one likes: it moves with new samples,
// new rounds, and uplinks that come and go.
func (m *Meter) Decide(now time.Time, of map[string]Measurement) (changed bool) {
	if len(m.spreads) == 0 {
		return false
	}
	if m.follows { // what passed here until now was not what the shares led to
		m.follows = false
		clear(m.loads)
		for name, u := range of {
			m.samples[name] = u.Samples
		}
	}
	fresh := false
	for name, u := range of {
		if u.Samples == m.samples[name] {
			continue
		}
		l, known := m.loads[name]
		if !known {
			l = u.Load
		}
		m.loads[name] = Load{Down: l.Down + smoothing*(u.Load.Down-l.Down), Up: l.Up + smoothing*(u.Load.Up-l.Up)}
		m.samples[name], fresh = u.Samples, true
	}
	next := Shares{}
	for _, p := range m.cfg.Policies {
		s := m.spreads[p.Name]
		if s == nil {
			continue
		}
		if shares := s.decide(now, fresh, m.candidates(p, of)); shares != nil {
			next[p.Name] = inSlots(m.cfg.members(p), shares)
		}
	}
	if next.Equal(m.shares) {
		return false
	}
	m.shares = next
	return true
}

// candidates are the usable uplinks of a policy, lower tiers first, and in each
// those that are degraded last. But for overflow only the lowest of these tiers
// counts.
func (m *Meter) candidates(p Policy, of map[string]Measurement) []candidate {
	var out []candidate
	for _, u := range m.cfg.members(p) {
		if now := of[u.Name]; now.Usable {
			now.Load = m.loads[u.Name]
			out = append(out, candidate{u, now})
		}
	}
	worse := func(c candidate) int {
		if c.Degraded {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(out, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.Tier, b.Tier), worse(a)-worse(b)) })
	if p.Method != Overflow && len(out) > 0 {
		lowest := out[0].Tier
		out = slices.DeleteFunc(out, func(c candidate) bool { return c.Tier != lowest })
	}
	return out
}

// inSlots rounds shares to whole slots, so that they mean the same everywhere. One
// that has none stays among them: it was usable, and got nothing.
func inSlots(members []Uplink, shares map[string]float64) map[string]float64 {
	const fine = 1 << 16
	var names []string
	var parts []int
	for _, u := range members {
		if s, ok := shares[u.Name]; ok {
			names, parts = append(names, u.Name), append(parts, int(math.Round(s*fine)))
		}
	}
	out := map[string]float64{}
	for i, n := range Quota(parts, SlotCount) {
		out[names[i]] = float64(n) / SlotCount
	}
	return out
}
