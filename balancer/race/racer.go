package race

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	"harouter/balancer"
)

// Config says between whom races are run.
type Config struct {
	Marks map[string]uint32 // by uplink; none: there is no policy with races
	Mask  uint32            // the bits of a packet's mark that those are in
	// Wanted tells who may run and what for, Won remembers winners. They may take
	// their time, and are not called at once.
	Wanted func() ([]balancer.RaceSet, []balancer.Wanted, error)
	Won    func([]balancer.Place) error
	// Races tells who may run, and whether this node gives flows to uplinks; it is
	// quick.
	Races func() (sets []balancer.RaceSet, active bool)
	Log   *slog.Logger
}

// Racer is a Task.
type Racer struct {
	wanted  func() ([]balancer.RaceSet, []balancer.Wanted, error)
	won     func([]balancer.Place) error
	races   func() ([]balancer.RaceSet, bool)
	log     *slog.Logger
	changed chan struct{}
	run     func(ctx context.Context, l lane, to netip.AddrPort) error
	open    func(num uint16) (room, error)

	mu      sync.Mutex // others tell it
	marks   map[string]uint32
	mask    uint32
	sources map[string]netip.Addr
}

const (
	every = 250 * time.Millisecond // the kernel is asked
	limit = time.Second            // of a race; the first SYN counts, hardly its repetition
)

// New returns a racer that Run starts.
func New(cfg Config) *Racer {
	return &Racer{
		wanted: cfg.Wanted, won: cfg.Won, races: cfg.Races, log: cfg.Log, changed: make(chan struct{}, 1), run: connect,
		open:  func(num uint16) (room, error) { return openQueue(num, balancer.HoldRoom) },
		marks: cfg.Marks, mask: cfg.Mask, sources: map[string]netip.Addr{},
	}
}

func (r *Racer) String() string { return "race" }

// Configure replaces the marks of the uplinks, and the bits that they are in; with
// none, no race is run any more. It never blocks.
func (r *Racer) Configure(marks map[string]uint32, mask uint32) {
	r.mu.Lock()
	r.marks, r.mask = maps.Clone(marks), mask
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Source sets the address of this node on an uplink; without one it does not run.
func (r *Racer) Source(uplink string, a netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources[uplink] = a
}

// result is how a race ended.
type result struct {
	balancer.Race
	winner string // "": nobody came through
	took   time.Duration
}

// course is what Run keeps in mind.
type course struct {
	book    balancer.Races
	places  []balancer.Place // winners that the kernel is to be told of
	asking  bool             // the kernel is being asked
	answers chan answer
	*holding
}

// answer is what the kernel wants to know.
type answer struct {
	sets   []balancer.RaceSet
	wanted []balancer.Wanted
	err    error
}

// Run runs races until ctx ends.
func (r *Racer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	results := make(chan result)
	c := &course{answers: make(chan answer, 1), holding: newHolding(r.open)}
	defer func() {
		cancel()
		err := c.end()
		running.Wait()
		c.readers.Wait()
		if err != nil {
			r.log.Warn("packets that waited for a race", "error", err)
		}
	}()
	start := func(next balancer.Race) {
		lanes := r.lanes(next.Uplinks)
		running.Go(func() { r.race(ctx, next, lanes, results) })
	}
	ask := func() {
		if c.asking {
			return // what there is to tell is told at the next tick
		}
		c.asking = true
		places := c.places
		c.places = nil
		running.Go(func() { c.answers <- r.ask(places) })
	}
	told, unheld := "", error(nil)
	tell := func(err error) {
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != told && text != "" {
			r.log.Warn("races", "error", err)
		}
		told = text
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if !r.on() {
			t.Stop()
			if err := c.end(); err != nil {
				r.log.Warn("packets that waited for a race", "error", err)
			}
		}
		var failed error
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			t.Reset(every)
		case end := <-results:
			place, ok := c.book.Done(end.Race, end.winner, time.Now())
			if ok {
				c.places = append(c.places, place)
			}
			waited := c.waiting.Release(end.Wanted)
			failed = c.decide(r.marked(waited, end.winner), verdictAccept)
			if ok && len(waited) > 0 { // else they wait for a tick, so that the kernel is told of many at once
				ask()
			}
			r.log.Debug("race", "policy", end.Policy, "to", end.To, "winner", end.winner, "after", end.took, "waited", len(waited))
		case p := <-c.packets:
			var next *balancer.Race
			if next, failed = r.arrived(c, p, time.Now()); next != nil {
				start(*next)
			}
		case <-c.timer.C:
			failed = c.over(time.Now())
			c.rewind()
		case b := <-c.broken:
			failed = c.lost(b, time.Now())
		case got := <-c.answers:
			c.asking = false
			if got.err == nil {
				for _, next := range c.book.Next(r.ready(got.sets), got.wanted, time.Now()) {
					start(next)
				}
			}
			tell(errors.Join(got.err, unheld))
		case <-t.C:
			sets, _ := r.races()
			unheld = c.follow(ctx, sets, time.Now())
			ask()
		}
		if failed != nil {
			r.log.Warn("packets that waited for a race", "error", failed)
		}
	}
}

// ask tells the kernel of winners, and asks what it wants to know.
func (r *Racer) ask(places []balancer.Place) (a answer) {
	if len(places) > 0 {
		if a.err = r.won(places); a.err != nil {
			return a
		}
	}
	a.sets, a.wanted, a.err = r.wanted()
	return a
}

func (r *Racer) on() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.marks) > 0
}

// ready leaves in the sets who has a mark and an address.
func (r *Racer) ready(sets []balancer.RaceSet) []balancer.RaceSet {
	var out []balancer.RaceSet
	for _, s := range sets {
		var up []string
		for _, l := range r.lanes(s.Uplinks) {
			up = append(up, l.uplink)
		}
		s.Uplinks = up
		out = append(out, s)
	}
	return out
}

func (r *Racer) lanes(uplinks []string) []lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []lane
	for _, u := range uplinks {
		if mark, source := r.marks[u], r.sources[u]; mark != 0 && source.Is4() {
			out = append(out, lane{u, mark, source})
		}
	}
	return out
}

// race runs one, and ends when all attempts have.
func (r *Racer) race(ctx context.Context, race balancer.Race, lanes []lane, results chan<- result) {
	began := time.Now()
	running, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	through := make(chan string, len(lanes))
	var all sync.WaitGroup
	for _, l := range lanes {
		all.Go(func() {
			if r.run(running, l, race.To) == nil {
				through <- l.uplink
			}
			// Why one did not come through, its probes tell.
		})
	}
	go func() { all.Wait(); close(through) }()
	winner := <-through
	took := time.Since(began)
	cancel()
	for range through { // the rest, until all have ended
	}
	select {
	case results <- result{race, winner, took}:
	case <-ctx.Done():
	}
}
