package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"harouter/balancer"
)

// Target is a host beyond the uplink that is pinged.
type Target struct {
	Address netip.Addr
}

// Uplink says how one uplink is probed.
type Uplink struct {
	Name, Device string
	// Mark is set on every ping (SO_MARK); the ip rules lead it to the
	// uplink's own table.
	Mark uint32
	// Gateway is the ISP's router, asked by ARP; zero when not known (yet).
	Gateway netip.Addr
	// Targets are pinged all at once; Quorum of them must answer within
	// Timeout. Without targets the gateway is asked by ARP.
	Targets []Target
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
	report  func(balancer.Round)
	uplinks map[string]*uplink
}

// New returns a Prober that has not begun.
func New(cfg Config) *Prober {
	log := cfg.Log
	if log == nil {
		log = slog.Default()
	}
	p := &Prober{report: cfg.Report, uplinks: make(map[string]*uplink)}
	for _, c := range cfg.Uplinks {
		p.uplinks[c.Name] = newUplink(c, log.With("uplink", c.Name))
	}
	return p
}

func (p *Prober) String() string { return "probe" }

// Source tells the node's own address on the uplink, from its next round on.
// Zero, as at the start, means that there is none: an uplink with targets is
// then asked by ARP, and its rounds have OnlyARP set. A name that is not known
// is ignored, here and below.
func (p *Prober) Source(uplink string, addr netip.Addr) {
	if u := p.uplinks[uplink]; u != nil {
		u.source.Store(&addr)
	}
}

// Gateway tells the uplink's gateway, from its next round on, where it is
// found out rather than configured. Zero means that it is not known.
func (p *Prober) Gateway(uplink string, addr netip.Addr) {
	if u := p.uplinks[uplink]; u != nil {
		u.gateway.Store(&addr)
	}
}

// Kick begins a round at once, as after the carrier came back; the next one
// follows an interval later. A round that began less than a tenth of an
// interval ago is waited for, so a flapping link makes no flood of rounds.
func (p *Prober) Kick(uplink string) {
	if u := p.uplinks[uplink]; u != nil {
		select {
		case u.kick <- struct{}{}:
		default:
		}
	}
}

// reportGrace is how long Run waits for a Report that does not return.
const reportGrace = time.Second

// Run probes until ctx ends, and returns when the last ping is over (a tenth
// of a second). After that nothing is reported. It returns nil then; an error
// only names the uplinks whose Report has not returned a second later.
func (p *Prober) Run(ctx context.Context) error {
	var loops, reporters sync.WaitGroup
	stuck := make(map[string]*atomic.Bool)
	for name, u := range p.uplinks {
		rounds := make(chan balancer.Round)
		busy := new(atomic.Bool)
		stuck[name] = busy
		loops.Go(func() {
			defer close(rounds)
			u.run(ctx, rounds)
		})
		reporters.Go(func() {
			for r := range rounds {
				r.At = time.Now()
				busy.Store(true)
				p.report(r)
				busy.Store(false)
			}
		})
	}
	loops.Wait()

	done := make(chan struct{})
	go func() {
		reporters.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(reportGrace):
	}
	var errs []error
	for name, busy := range stuck {
		if busy.Load() {
			errs = append(errs, fmt.Errorf("stop probing %s: the receiver of its last round has not returned", name))
		}
	}
	return errors.Join(errs...)
}
