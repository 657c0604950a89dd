package fit

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// Config says what to run.
type Config struct {
	Command  []string      // program and arguments; empty: nothing
	Interval time.Duration // from the beginning of one run to that of the next
	Timeout  time.Duration // a run that takes longer has failed
}

// Start makes a program ready to run, in a process group of its own that the end
// of ctx kills.
type Start func(ctx context.Context, program string, args ...string) *exec.Cmd

// Report gets what one run of a command said: why it was bad, or "". It is called
// by one goroutine.
type Report func(command []string, failed string)

// stuckAfter is how long after it was killed a run counts as one that cannot be.
// At the end it is not waited for any longer than that.
const stuckAfter = 1500 * time.Millisecond

// Runner is a Task.
type Runner struct {
	first   Config
	changed chan Config
	start   Start
	report  Report
}

// New returns a runner that Run starts.
func New(cfg Config, start Start, report Report) *Runner {
	return &Runner{first: cfg, changed: make(chan Config, 1), start: start, report: report}
}

func (r *Runner) String() string { return "check" }

// Configure replaces what is run. It never blocks; only one goroutine may call it.
func (r *Runner) Configure(cfg Config) {
	select {
	case <-r.changed: // it was not taken yet
	default:
	}
	r.changed <- cfg
}

// Run runs the command until ctx ends: the first time at once.
func (r *Runner) Run(ctx context.Context) error {
	cfg := r.first
	next, limit := time.NewTimer(0), time.NewTimer(0)
	defer next.Stop()
	defer limit.Stop()
	limit.Stop()
	var one *run // the one that is under way
	var done chan string
	for {
		select {
		case <-ctx.Done():
			one.end()
			return nil
		case other := <-r.changed:
			same := slices.Equal(other.Command, cfg.Command)
			if one != nil && !same {
				one.judged, one.replaced = true, true
				one.kill()
			}
			if !same || other.Interval != cfg.Interval {
				next.Reset(0)
			}
			cfg = other
		case <-next.C:
			switch {
			case len(cfg.Command) == 0:
			case one == nil:
				one = r.begin(cfg.Command)
				done = one.done
				limit.Reset(cfg.Timeout)
			case one.judged:
				if lasts := time.Since(one.began); lasts > cfg.Timeout+stuckAfter {
					r.report(cfg.Command, fmt.Sprintf("a run of %v ago that cannot be killed", lasts.Round(time.Second)))
				}
				next.Reset(cfg.Interval)
			}
		case <-limit.C:
			if one != nil && !one.judged && len(one.done) == 0 { // it may have ended while this process stood still
				one.judged = true
				one.kill()
				r.report(cfg.Command, fmt.Sprintf("no end within %v", cfg.Timeout))
				next.Reset(max(0, cfg.Interval-time.Since(one.began)))
			}
		case failed := <-done:
			switch {
			case one.replaced:
				next.Reset(0)
			case !one.judged:
				r.report(cfg.Command, failed)
				next.Reset(max(0, cfg.Interval-time.Since(one.began)))
			}
			one, done = nil, nil
		}
	}
}

// end kills a run and waits for its end.
func (o *run) end() {
	if o == nil {
		return
	}
	o.kill()
	select {
	case <-o.done:
	case <-time.After(stuckAfter):
	}
}
