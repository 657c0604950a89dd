package balancer

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Which uplink answers a destination first is found out beside the traffic (hold.go
// has the other way). The first flow goes by the slots, and the kernel notes where it wanted to go; the
// node connects there by each uplink at once, and the one that is through first
// is remembered in the kernel for the flows that follow.

// Want notes the destination of a TCP packet for so long; what is noted stays as
// it is.
type Want struct {
	Set   string
	Lasts time.Duration
}

func (Want) stmt() {}

func (s Want) String() string {
	return fmt.Sprintf("add @%s { ip daddr . tcp dport timeout %v }", s.Set, s.Lasts)
}

const (
	// WantRoom and RaceRoom are how many destinations a policy with FastestResponse
	// notes, and remembers for each uplink. What finds no room goes by the slots.
	WantRoom = 4096
	RaceRoom = 16384

	wantFor = 10 * time.Second
)

// RaceSet is what a policy with FastestResponse wants to know, and who may run.
type RaceSet struct {
	Policy  string
	Set     string // of the table, with the destinations
	Uplinks []string
	Lasts   time.Duration // how long a winner is remembered
	Queue   uint16        // of the kernel, where first packets wait; 0: none does
}

// Wanted is a destination that a flow of a policy went to without a winner.
type Wanted struct {
	Policy string
	To     netip.AddrPort
}

func wantSet(policy string) string { return "wanted_" + policy }

func (d doing) races() bool {
	return d.outcome == spreads && d.Method == FastestResponse && d.Learned > 0
}

// racers are the uplinks that a policy remembers destinations for: those with a
// share that are well, or if none is, those that are degraded. To a metered one
// nothing is sent but what must be, and nothing is bound.
func (c *Config) racers(d doing, in Input) []Uplink {
	var well, poor []Uplink
	for _, u := range c.Uplinks {
		v := in.Verdicts[u.Name]
		switch {
		case u.Metered || slotsOf(d.slots, u.ID) == 0 || !in.Usable[u.Name] || v == Disabled:
		case v == Degraded:
			poor = append(poor, u)
		default:
			well = append(well, u)
		}
	}
	if len(well) == 0 {
		return poor
	}
	return well
}

// races are the questions that the kernel notes under these doings.
func (c *Config) races(does []doing, in Input) []RaceSet {
	var out []RaceSet
	for _, d := range does {
		if !d.races() {
			continue
		}
		r := RaceSet{Policy: d.Name, Set: wantSet(d.Name), Lasts: d.Learned}
		if c.holds(d, in) {
			r.Queue = c.queue(d.Name)
		}
		for _, u := range c.racers(d, in) {
			r.Uplinks = append(r.Uplinks, u.Name)
		}
		if len(r.Uplinks) > 1 {
			out = append(out, r)
		}
	}
	return out
}

// raceSets are the sets of a policy with FastestResponse beside its slots.
func (c *Config) raceSets(d doing, in Input) []Set {
	var out []Set
	racers := c.racers(d, in)
	for _, u := range racers {
		out = append(out, Set{Name: learnedSet(d.Name, u.Name), Key: KeyAddr4, Timeout: true, Lasts: d.Learned, Room: RaceRoom, Volatile: true})
	}
	if len(racers) > 1 {
		out = append(out, Set{Name: wantSet(d.Name), Key: KeyService, Timeout: true, Lasts: wantFor, Room: WantRoom, Volatile: true})
		if c.holds(d, in) {
			out = append(out, Set{Name: heldSet(d.Name), Key: KeyService, Timeout: true, Lasts: time.Second, Room: WantRoom, Volatile: true})
		}
	}
	return out
}

// raceRules lead a flow to the uplink that answered its destination first, or
// note that it is not known.
func (c *Config) raceRules(d doing, in Input) []Rule {
	var rules []Rule
	racers := c.racers(d, in)
	for _, u := range racers {
		rules = append(rules, Rule{Learned{ByDestination, learnedSet(d.Name, u.Name)}, Jump{Kind: "goto", Chain: "up_" + u.Name}})
	}
	switch {
	case len(racers) < 2:
	case c.holds(d, in):
		rules = append(rules, holdRule(d.Name))
	default:
		rules = append(rules, Rule{firstSYN, Want{wantSet(d.Name), wantFor}})
	}
	return rules
}

// Race is one to be run: connect to To by all Uplinks at once.
type Race struct {
	Wanted
	Uplinks []string
	Lasts   time.Duration
}

// Limits of what is run, so that no host of the lan can make the node flood.
const (
	racesPerSecond = 20
	racesAtOnce    = 32
	racesKnown     = RaceRoom // destinations of all policies whose race is not long ago
	// A winner is the kernel's to know. Where a flow wants it after this time all
	// the same, the kernel has forgotten.
	winnerKept = time.Minute
	// Where nobody came through the race is run again after this time, then after
	// twice as much and so on: a line may have died, or the node stood still.
	againAfter = 5 * time.Second
)

// Races is the book of the races that were run. The zero value knows of none.
type Races struct {
	known   map[Wanted]raced
	running map[Wanted]bool
	sets    []RaceSet // as they were last
	budget  float64
	filled  time.Time
}

type raced struct {
	until  time.Time
	winner string        // "" if nobody came through
	pause  time.Duration // then: what until was set by
}

// Next picks what is to be run now, out of what is wanted, and takes it for
// running until Done. A destination is not tried again soon, unless the winner is
// out of the race by now.
func (r *Races) Next(sets []RaceSet, wanted []Wanted, now time.Time) []Race {
	if r.known == nil {
		r.known, r.running = map[Wanted]raced{}, map[Wanted]bool{}
		r.budget, r.filled = racesPerSecond, now
	}
	r.budget = min(racesPerSecond, r.budget+racesPerSecond*max(0, now.Sub(r.filled).Seconds()))
	r.filled = now
	r.leave(sets)
	var out []Race
	for _, w := range wanted {
		i := slices.IndexFunc(sets, func(s RaceSet) bool { return s.Policy == w.Policy })
		if i < 0 || len(sets[i].Uplinks) < 2 || !raceable(w.To) || r.running[w] || r.settled(w, sets[i].Uplinks, now) {
			continue
		}
		if r.budget < 1 || len(r.running) >= racesAtOnce || !r.room(now) {
			break // the rest is wanted again
		}
		r.budget--
		r.running[w] = true
		out = append(out, Race{w, slices.Clone(sets[i].Uplinks), sets[i].Lasts})
	}
	return out
}

// leave forgets the winners that are out of the race now: the kernel has, and also
// knows nothing of them once they are back.
func (r *Races) leave(sets []RaceSet) {
	same := func(a, b RaceSet) bool { return a.Policy == b.Policy && slices.Equal(a.Uplinks, b.Uplinks) }
	if slices.EqualFunc(r.sets, sets, same) {
		return
	}
	r.sets = slices.Clone(sets)
	maps.DeleteFunc(r.known, func(w Wanted, k raced) bool {
		return k.winner != "" && !slices.ContainsFunc(sets, func(s RaceSet) bool { return s.Policy == w.Policy && slices.Contains(s.Uplinks, k.winner) })
	})
}

// settled tells that a race is not long ago: any port of the destination has a
// winner, or nobody came through to this one.
func (r *Races) settled(w Wanted, uplinks []string, now time.Time) bool {
	for _, key := range []Wanted{w, anyPort(w)} {
		k, ok := r.known[key]
		if ok && now.Before(k.until) && (k.winner == "" || slices.Contains(uplinks, k.winner)) {
			return true
		}
	}
	return false
}

// room makes room for one more entry, if there is none.
func (r *Races) room(now time.Time) bool {
	if len(r.known)+len(r.running) < racesKnown {
		return true
	}
	for w, k := range r.known {
		if !now.Before(k.until) {
			delete(r.known, w)
		}
	}
	return len(r.known)+len(r.running) < racesKnown
}

// Done is the end of a race that Next picked; winner is "" if nobody came
// through. It returns what is to be remembered, if anything is.
func (r *Races) Done(race Race, winner string, now time.Time) (Place, bool) {
	delete(r.running, race.Wanted)
	if winner == "" {
		pause := min(max(againAfter, 2*r.known[race.Wanted].pause), race.Lasts)
		r.known[race.Wanted] = raced{until: now.Add(pause), pause: pause}
		return Place{}, false
	}
	delete(r.known, race.Wanted)
	r.known[anyPort(race.Wanted)] = raced{until: now.Add(min(winnerKept, race.Lasts)), winner: winner}
	return Place{Policy: race.Policy, Uplink: winner, Destination: race.To.Addr(), Left: race.Lasts}, true
}

// anyPort is how a destination with a winner is kept: all its ports are reached
// by the same lines.
func anyPort(w Wanted) Wanted {
	return Wanted{w.Policy, netip.AddrPortFrom(w.To.Addr(), 0)}
}

// notRaced are networks behind no ISP: that of this host and of carriers' NAT,
// and what nobody has. Private ones, link-local ones and groups come besides.
var notRaced = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("240.0.0.0/4"),
}

func raceable(to netip.AddrPort) bool {
	a := to.Addr()
	return to.Port() != 0 && a.Is4() && a.IsGlobalUnicast() && !a.IsPrivate() &&
		!slices.ContainsFunc(notRaced, func(p netip.Prefix) bool { return p.Contains(a) })
}
