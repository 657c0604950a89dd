package traffic

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"sync"
	"time"

	"harouter/balancer"
)

// Config says what to measure.
type Config struct {
	Devices map[string]string // by uplink
	// Quick: some method goes by the load, so Report gets it twice a second;
	// else it is measured every two seconds, for Rates alone.
	Quick bool
	// Report gets the load of each uplink whose device is there, since the
	// report before, from one goroutine. It should hand over and return.
	Report func(map[string]balancer.Load)
	Log    *slog.Logger
}

// Watcher is a Task.
type Watcher struct {
	report  func(map[string]balancer.Load)
	log     *slog.Logger
	changed chan struct{}
	read    func() ([]byte, error)

	mu    sync.Mutex // the rest: whoever shows the status reads it
	cfg   Config
	rates map[string]balancer.Load
	last  map[string]sample
}

type sample struct {
	at     time.Time
	device string
	counters
}

const (
	quickly = 500 * time.Millisecond
	slowly  = 2 * time.Second
)

// New returns a watcher that Run starts.
func New(cfg Config) *Watcher {
	return &Watcher{
		report: cfg.Report, log: cfg.Log, cfg: cfg, changed: make(chan struct{}, 1),
		read:  func() ([]byte, error) { return os.ReadFile("/proc/net/dev") },
		rates: map[string]balancer.Load{}, last: map[string]sample{},
	}
}

func (w *Watcher) String() string { return "traffic" }

// Configure replaces the devices and the pace. It never blocks.
func (w *Watcher) Configure(devices map[string]string, quick bool) {
	w.mu.Lock()
	w.cfg.Devices, w.cfg.Quick = maps.Clone(devices), quick
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Rates returns the load of each uplink over the last two seconds or so.
func (w *Watcher) Rates() map[string]balancer.Load {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.rates)
}

// Run measures until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	t := time.NewTicker(w.every())
	defer t.Stop()
	failed := false
	for {
		text, err := w.read()
		if err == nil {
			err = w.sample(text, time.Now())
		}
		if err != nil && !failed {
			w.log.Warn("measure the load of the uplinks", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
			t.Reset(w.every())
		case <-t.C:
		}
	}
}

func (w *Watcher) every() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cfg.Quick {
		return quickly
	}
	return slowly
}

// soonest is how much time must have passed for a rate to mean something.
const soonest = 100 * time.Millisecond

// sample takes the counters as they are at the time now.
func (w *Watcher) sample(text []byte, now time.Time) error {
	of, err := parse(text)
	if err != nil {
		return err
	}
	w.mu.Lock()
	loads, quick := map[string]balancer.Load{}, w.cfg.Quick
	for uplink := range w.last {
		if of, known := w.cfg.Devices[uplink]; !known || of != w.last[uplink].device {
			delete(w.last, uplink)
			delete(w.rates, uplink)
		}
	}
	for uplink, device := range w.cfg.Devices {
		c, there := of[device]
		old, known := w.last[uplink]
		switch passed := now.Sub(old.at); {
		case !there:
			delete(w.last, uplink)
			delete(w.rates, uplink)
			continue
		case known && passed < soonest:
			continue
		case known && c.received >= old.received && c.sent >= old.sent: // else it was made anew
			l := balancer.Load{
				Down: float64(c.received-old.received) * 8 / passed.Seconds(),
				Up:   float64(c.sent-old.sent) * 8 / passed.Seconds(),
			}
			loads[uplink] = l
			w.rates[uplink] = smooth(w.rates, uplink, l, passed)
		}
		w.last[uplink] = sample{now, device, c}
	}
	w.mu.Unlock()
	if quick && len(loads) > 0 {
		w.report(loads)
	}
	return nil
}

// smooth has the rates that people see cover two seconds.
func smooth(rates map[string]balancer.Load, uplink string, l balancer.Load, passed time.Duration) balancer.Load {
	was, known := rates[uplink]
	part := min(1, float64(passed)/float64(slowly))
	if !known {
		part = 1
	}
	return balancer.Load{Down: was.Down + part*(l.Down-was.Down), Up: was.Up + part*(l.Up-was.Up)}
}
