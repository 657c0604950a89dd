package race

import (
	"context"
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
	// Wanted tells who may run and what for, Won remembers winners. Both are called
	// by one goroutine.
	Wanted func() ([]balancer.RaceSet, []balancer.Wanted, error)
	Won    func([]balancer.Place) error
	Log    *slog.Logger
}

// Racer is a Task.
type Racer struct {
	wanted  func() ([]balancer.RaceSet, []balancer.Wanted, error)
	won     func([]balancer.Place) error
	log     *slog.Logger
	changed chan struct{}
	run     func(ctx context.Context, l lane, to netip.AddrPort) error

	mu      sync.Mutex // others tell it
	marks   map[string]uint32
	sources map[string]netip.Addr
}

const (
	every = 250 * time.Millisecond // the kernel is asked
	limit = time.Second            // of a race; the first SYN counts, hardly its repetition
)

// New returns a racer that Run starts.
func New(cfg Config) *Racer {
	return &Racer{
		wanted: cfg.Wanted, won: cfg.Won, log: cfg.Log, changed: make(chan struct{}, 1), run: connect,
		marks: cfg.Marks, sources: map[string]netip.Addr{},
	}
}

func (r *Racer) String() string { return "race" }

// Configure replaces the marks of the uplinks; with none, no race is run any
// more. It never blocks.
func (r *Racer) Configure(marks map[string]uint32) {
	r.mu.Lock()
	r.marks = maps.Clone(marks)
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

// Run runs races until ctx ends.
func (r *Racer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var races sync.WaitGroup
	defer races.Wait()
	defer cancel()
	results := make(chan result)
	var book balancer.Races
	var places []balancer.Place
	told := ""
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		if !r.on() {
			t.Stop()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			t.Reset(every)
		case end := <-results:
			place, ok := book.Done(end.Race, end.winner, time.Now())
			if ok {
				places = append(places, place)
			}
			r.log.Debug("race", "policy", end.Policy, "to", end.To, "winner", end.winner, "after", end.took)
		case <-t.C:
			text := ""
			sets, wanted, err := r.wanted()
			if err == nil {
				for _, next := range book.Next(r.ready(sets), wanted, time.Now()) {
					lanes := r.lanes(next.Uplinks)
					races.Go(func() { r.race(ctx, next, lanes, results) })
				}
				if len(places) > 0 { // they wait for a tick, so that the kernel is told of many at once
					err, places = r.won(places), nil
				}
			}
			if err != nil {
				text = err.Error()
			}
			if text != told && text != "" {
				r.log.Warn("races", "error", err)
			}
			told = text
		}
	}
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
