package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"harouter/balancer"
)

// Uplink says how one uplink is probed.
type Uplink struct {
	Name, Device string
	// Mark is set on every probe but ARP (SO_MARK); the ip rules lead it to
	// the uplink's own table.
	Mark uint32
	// Gateway is the ISP's router, asked by ARP; zero when not known (yet).
	Gateway netip.Addr
	// Targets are asked all at once, each by its own method; Quorum of them
	// must answer within Timeout. Without targets the gateway is asked by ARP.
	Targets []Target
	// OwnOnly says that the line has no virtual address: without one of the
	// node's own nothing can be sent over it, so that each round is bad.
	OwnOnly bool
	Quorum  int // below 1 counts as 1, above their number as all
	// Interval is the time from the beginning of one round to that of the
	// next; Timeout, how long a round may take, may exceed it. Zero means 1s
	// and 800ms.
	Interval, Timeout time.Duration
}

// Config is all that a Prober needs.
type Config struct {
	Uplinks []Uplink
	// Report takes one round. It is called from one goroutine per uplink, so
	// never twice at a time for the same uplink but at once for several, and
	// in the order in which the rounds began. It should hand over and return.
	// While it does not, the rounds of that uplink queue up, and when a dozen
	// wait no new ones begin; the other uplinks go on.
	Report func(balancer.Round)
	Log    *slog.Logger // nil: slog.Default()
}

// Prober probes the uplinks. Create it with New; its methods may be called
// from any goroutine, also before Run, and never block.
type Prober struct {
	report func(balancer.Round)
	log    *slog.Logger

	mu      sync.Mutex // held for moments, never while anything is asked or reported
	uplinks map[string]*uplink
	stint   *stint // nil: Run does not run
}

// stint is one Run.
type stint struct {
	ctx              context.Context
	loops, reporters sync.WaitGroup
	stuck            map[*uplink]bool // uplinks whose reporter has not ended
}

// New returns a Prober that has not begun.
func New(cfg Config) *Prober {
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	p := &Prober{report: cfg.Report, log: log, uplinks: make(map[string]*uplink)}
	p.Configure(cfg.Uplinks)
	return p
}

func (p *Prober) String() string { return "probe" }

// Configure replaces the uplinks. Those that are as before go on undisturbed;
// one with other settings begins its rounds anew, once the last Report of the
// old ones has returned, and keeps its Source, and its gateway unless a valid
// one is given; one that is not among them is not probed any more, and at most
// one round of it is still reported. A new one waits for its Source, as after
// New.
func (p *Prober) Configure(uplinks []Uplink) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make(map[string]*uplink)
	for _, c := range uplinks {
		c.Targets = slices.Clone(c.Targets)
		old := p.uplinks[c.Name]
		if old != nil && old.given.equal(c) {
			next[c.Name] = old
			delete(p.uplinks, c.Name)
			continue
		}
		u := newUplink(c, p.log.With("uplink", c.Name))
		if old != nil {
			u.source.Store(old.source.Load())
			u.told.Store(old.told.Load())
			if !c.Gateway.IsValid() {
				u.gateway.Store(old.gateway.Load())
			}
			u.after = old.ended
		}
		next[c.Name] = u
		if p.stint != nil {
			p.start(u)
		}
	}
	for _, old := range p.uplinks {
		old.stop()
	}
	p.uplinks = next
}

func (u Uplink) equal(o Uplink) bool {
	return u.Name == o.Name && u.Device == o.Device && u.Mark == o.Mark && u.Gateway == o.Gateway &&
		slices.Equal(u.Targets, o.Targets) && u.OwnOnly == o.OwnOnly && u.Quorum == o.Quorum && u.Interval == o.Interval && u.Timeout == o.Timeout
}

// uplink returns the one with that name, nil if there is none.
func (p *Prober) uplink(name string) *uplink {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uplinks[name]
}

// Source tells the node's own address on the uplink, from its next round on.
// Zero, as at the start, means that there is none: an uplink with targets of
// any method but ARP has its gateway asked by ARP then, and its rounds have
// OnlyARP set; told so, one with OwnOnly has bad rounds. A name that is not known is ignored, here and below.
func (p *Prober) Source(uplink string, addr netip.Addr) {
	if u := p.uplink(uplink); u != nil {
		u.source.Store(&addr)
		u.told.Store(true)
	}
}

// Gateway tells the uplink's gateway, from its next round on, where it is
// found out rather than configured. Zero means that it is not known.
func (p *Prober) Gateway(uplink string, addr netip.Addr) {
	if u := p.uplink(uplink); u != nil {
		u.gateway.Store(&addr)
	}
}

// Kick begins a round at once, as after the carrier came back; the next one
// follows an interval later. A round that began less than 10 ms ago, or a tenth of
// an interval if that is less, is waited for, so a flapping link makes no flood of
// rounds.
func (p *Prober) Kick(uplink string) {
	if u := p.uplink(uplink); u != nil {
		select {
		case u.kick <- struct{}{}:
		default:
		}
	}
}

// reportGrace is how long Run waits for a Report that does not return.
const reportGrace = time.Second

// Run probes until ctx ends, and returns when the last probe is over (a tenth
// of a second). After that nothing is reported. It returns nil then; an error
// only names the uplinks whose Report has not returned a second later.
func (p *Prober) Run(ctx context.Context) error {
	run := &stint{ctx: ctx, stuck: make(map[*uplink]bool)}
	p.mu.Lock()
	p.stint = run
	for _, u := range p.uplinks {
		p.start(u)
	}
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.stint = nil // Configure starts nothing any more
	p.mu.Unlock()
	run.loops.Wait()

	done := make(chan struct{})
	go func() {
		run.reporters.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(reportGrace):
	}
	var errs []error
	p.mu.Lock()
	defer p.mu.Unlock()
	for u := range run.stuck {
		if u.busy.Load() {
			errs = append(errs, fmt.Errorf("stop probing %s: the receiver of its last round has not returned", u.Name))
		}
	}
	return errors.Join(errs...)
}

// start begins the rounds of an uplink, once those of its former self have
// ended. The caller holds mu.
func (p *Prober) start(u *uplink) {
	run := p.stint
	ctx, stop := context.WithCancel(run.ctx)
	u.stop, u.ended = stop, make(chan struct{})
	run.stuck[u] = true
	rounds := make(chan balancer.Round)
	run.loops.Go(func() {
		defer close(rounds)
		select {
		case <-u.after:
			u.run(ctx, rounds)
		case <-ctx.Done():
		}
	})
	run.reporters.Go(func() {
		defer func() {
			stop()
			<-u.after
			close(u.ended)
			p.mu.Lock()
			delete(run.stuck, u)
			p.mu.Unlock()
		}()
		for r := range rounds {
			if ctx.Err() != nil {
				continue
			}
			r.At = time.Now()
			u.busy.Store(true)
			p.report(r)
			u.busy.Store(false)
		}
	})
}
