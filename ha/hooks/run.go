package hooks

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"harouter/balancer"
)

// Config says what is run and what scripts are told.
type Config struct {
	Directory     string        // absolute
	Timeout       time.Duration // of one script
	Cluster, Node string
	MailTo        []string
	Uplinks       map[string]Line
}

// Line is what scripts are told of an uplink and does not change by itself.
type Line struct {
	Device string
	Target netip.Addr // of the first probe; zero: the gateway is probed
}

// Ports are what the worker needs.
type Ports struct {
	// Command prepares a program as child.Command does.
	Command func(ctx context.Context, program string, args ...string) *exec.Cmd
	// Failed tells that a script, DIRECTORY/NAME, failed and why, or that it does
	// no more.
	Failed func(script string, failed bool, text string)
	Log    *slog.Logger
}

const (
	// endLimit is how long hooks may take when the daemon ends.
	endLimit = 1500 * time.Millisecond
	// lookEvery is how often is looked whether a script that failed is gone.
	lookEvery = 5 * time.Second
)

// Runner is the worker. Its methods only note what they are told, and may be
// called from any goroutine.
type Runner struct {
	ports Ports
	wake  chan struct{}

	mu      sync.Mutex
	cfg     Config
	queue   *queue
	role    string
	states  map[string]string // of uplinks
	tallies map[string]*tally
	ways    map[string]way

	failed map[string]bool // DIRECTORY/NAME; the worker's own
}

// New returns a worker that Run starts.
func New(cfg Config, ports Ports) *Runner {
	return &Runner{
		ports: ports, wake: make(chan struct{}, 1), cfg: cfg, queue: newQueue(),
		states: map[string]string{}, tallies: map[string]*tally{}, ways: map[string]way{}, failed: map[string]bool{},
	}
}

// Configure puts other settings in place; what waits stays.
func (r *Runner) Configure(cfg Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg = cfg
	r.queue.forget(func(uplink string) bool { _, ok := cfg.Uplinks[uplink]; return ok })
	gone := func(uplink string) bool { _, ok := cfg.Uplinks[uplink]; return !ok }
	maps.DeleteFunc(r.states, func(u, _ string) bool { return gone(u) })
	maps.DeleteFunc(r.tallies, func(u string, _ *tally) bool { return gone(u) })
	maps.DeleteFunc(r.ways, func(u string, _ way) bool { return gone(u) })
}

// Role tells the role of this node: master, backup or fault. Any other says
// nothing.
func (r *Runner) Role(role, reason string) {
	if directories[role] == nil {
		return
	}
	r.mu.Lock()
	r.role = role
	r.mu.Unlock()
	r.put(change{subject: theRole, state: role, reason: reason})
}

// Uplink tells the verdict on an uplink. Unknown says nothing.
func (r *Runner) Uplink(name string, v balancer.Verdict, reason string) {
	state := stateDown
	switch v {
	case balancer.Up, balancer.Degraded:
		state = stateUp
	case balancer.Down, balancer.Disabled:
	case balancer.Unknown:
		return
	}
	r.mu.Lock()
	_, ours := r.cfg.Uplinks[name]
	if ours {
		r.states[name] = state
	}
	r.mu.Unlock()
	if ours {
		r.put(change{subject: subject{name}, state: state, reason: reason})
	}
}

// Applied tells that the kernel has got another plan.
func (r *Runner) Applied() { r.put(change{subject: thePlan, state: stateApplied}) }

// Round counts a round of probes.
func (r *Runner) Round(round balancer.Round) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ours := r.cfg.Uplinks[round.Uplink]; !ours {
		return
	}
	if r.tallies[round.Uplink] == nil {
		r.tallies[round.Uplink] = &tally{}
	}
	r.tallies[round.Uplink].add(round)
}

// Source tells from which address, and to which gateway, an uplink is used;
// zero: there is none.
func (r *Runner) Source(uplink string, source, gateway netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ways[uplink] = way{source, gateway}
}

func (r *Runner) put(c change) {
	c.at = time.Now()
	r.mu.Lock()
	r.queue.put(c)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// String names the task.
func (r *Runner) String() string { return "hooks" }

// Run runs scripts until ctx ends, and then those that wait still.
func (r *Runner) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	end := context.AfterFunc(ctx, func() {
		select {
		case <-work.Done():
		case <-time.After(endLimit):
			cancel()
		}
	})
	defer end()
	for {
		if t, ok := r.next(); ok && work.Err() == nil {
			r.tell(work, t)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		timer := time.NewTimer(r.pause())
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
			r.tidy()
		}
		timer.Stop()
	}
}

// next is what is to be told now.
func (r *Runner) next() (told, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.queue.next(time.Now())
	if !ok {
		return told{}, false
	}
	t := told{change: c, cfg: r.cfg, role: r.role, line: r.cfg.Uplinks[c.subject.uplink], way: r.ways[c.subject.uplink]}
	if n := r.tallies[c.subject.uplink]; n != nil {
		t.count = n.count()
	}
	for name, state := range r.states {
		if state == stateUp {
			t.up = append(t.up, name)
		} else {
			t.down = append(t.down, name)
		}
	}
	return t, true
}

// pause is how long there is nothing to do if nothing happens.
func (r *Runner) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := time.Hour
	if due := r.queue.due(); !due.IsZero() {
		wait = max(0, time.Until(due))
	}
	if len(r.failed) > 0 {
		wait = min(wait, lookEvery)
	}
	return wait
}

// tell runs the scripts for one change.
func (r *Runner) tell(ctx context.Context, t told) {
	for _, name := range directories[t.state] {
		dir := filepath.Join(t.cfg.Directory, name)
		all, err := scripts(dir)
		r.outcome(ctx, name, err)
		for _, path := range all {
			r.outcome(ctx, filepath.Join(name, filepath.Base(path)), r.run(ctx, path, t))
		}
	}
}

// outcome notes whether a script failed. That the daemon's end killed it is no
// fault of its own.
func (r *Runner) outcome(ctx context.Context, script string, err error) {
	switch {
	case err != nil && ctx.Err() == nil:
		r.ports.Log.Warn("a hook failed", "script", script, "error", err)
		r.failed[script] = true
		r.ports.Failed(script, true, err.Error())
	case err == nil && r.failed[script]:
		r.clear(script)
	}
}

func (r *Runner) clear(script string) {
	delete(r.failed, script)
	r.ports.Failed(script, false, "")
}

// tidy forgets the failures of scripts that are not to be run any more.
func (r *Runner) tidy() {
	r.mu.Lock()
	dir := r.cfg.Directory
	r.mu.Unlock()
	for _, script := range slices.Sorted(maps.Keys(r.failed)) {
		path := filepath.Join(dir, script)
		if filepath.Dir(script) == "." { // a directory that could not be read
			if _, err := os.ReadDir(path); err == nil || os.IsNotExist(err) {
				r.clear(script)
			}
			continue
		}
		if !executable(path) {
			r.clear(script)
		}
	}
}
