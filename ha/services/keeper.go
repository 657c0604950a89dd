package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// Ports are what a Keeper needs.
type Ports struct {
	// Command prepares a program as child.Command does.
	Command func(ctx context.Context, program string, args ...string) *exec.Cmd
	// Failed tells that a service could not be started or stopped, and why, or
	// that it could now.
	Failed func(service string, failed bool, text string)
	Log    *slog.Logger
}

const (
	callLimit = 30 * time.Second
	endLimit  = 1500 * time.Millisecond // for what is under way at the end of the daemon
	// retryFirst doubles up to retryMost: an alarm goes within ten seconds of its
	// cause.
	retryFirst, retryMost = time.Second, 8 * time.Second
)

// wish is whether services are to run.
type wish struct {
	known   bool
	run     bool
	from    time.Time     // not before this
	changed chan struct{} // closed when there is another wish
}

// Keeper keeps services. Serve and Configure only note what is wanted and may be
// called from any goroutine.
type Keeper struct {
	ports  Ports
	settle time.Duration
	limit  time.Duration // of one call
	again  chan struct{}

	mu    sync.Mutex
	names []string
	wish  wish
}

// New returns a Keeper that Run starts. Settle is how long after the start a
// node may not know yet that it is the master.
func New(names []string, settle time.Duration, ports Ports) *Keeper {
	return &Keeper{
		ports: ports, settle: settle, limit: callLimit, again: make(chan struct{}, 1), names: slices.Clone(names),
		wish: wish{changed: make(chan struct{})},
	}
}

// Configure puts other names in place.
func (k *Keeper) Configure(names []string) {
	k.mu.Lock()
	k.names = slices.Clone(names)
	k.mu.Unlock()
	select {
	case k.again <- struct{}{}:
	default:
	}
}

// Serve tells whether this node is the master, with its addresses in place.
func (k *Keeper) Serve(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wish.known && k.wish.run == on {
		return
	}
	next := wish{known: true, run: on, changed: make(chan struct{})}
	if !k.wish.known && !on {
		next.from = time.Now().Add(k.settle)
	}
	close(k.wish.changed)
	k.wish = next
}

// wanted is the wish for a service; nothing is wanted of one that is in the file
// no more, also before Run has ended its goroutine.
func (k *Keeper) wanted(name string) wish {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.wish
	w.known = w.known && slices.Contains(k.names, name)
	return w
}

// String names the task.
func (k *Keeper) String() string { return "services" }

// Run keeps services until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ends := map[string]context.CancelFunc{}
	for {
		k.mu.Lock()
		names := k.names
		k.mu.Unlock()
		for name, end := range ends {
			if !slices.Contains(names, name) {
				end()
				delete(ends, name)
			}
		}
		for _, name := range names {
			if ends[name] != nil {
				continue
			}
			named, end := context.WithCancel(ctx)
			ends[name] = end
			wg.Go(func() { k.keep(ctx, named, name) })
		}
		select {
		case <-ctx.Done():
			for _, end := range ends {
				end()
			}
			return nil
		case <-k.again:
		}
	}
}

// keep looks after one service until named ends: with the daemon, by ctx, or
// because it is in the file no more.
func (k *Keeper) keep(ctx, named context.Context, name string) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(named, func() {
		if ctx.Err() != nil {
			select {
			case <-work.Done():
			case <-time.After(endLimit):
			}
		}
		cancel()
	})()
	var done wish // what was done last
	failed, pause := false, retryFirst
	defer func() {
		if failed && ctx.Err() == nil {
			k.ports.Failed(name, false, "")
		}
	}()
	for {
		w := k.wanted(name)
		due := w.known && (!done.known || done.run != w.run)
		wait := time.Hour
		switch early := time.Until(w.from); {
		case named.Err() != nil && (ctx.Err() == nil || !due || w.run || early > 0 || failed):
			return
		case !due:
		case early > 0:
			wait = early
		default:
			err := k.call(work, name, w)
			done = wish{} // it may have been done in part
			switch {
			case work.Err() != nil:
				return
			case errors.Is(err, errChanged):
				continue
			case err == nil:
				done, pause = w, retryFirst
				if failed {
					failed = false
					k.ports.Failed(name, false, "")
				}
				continue
			}
			failed, wait = true, pause
			k.ports.Failed(name, true, fmt.Sprintf("%v; it is tried again", err))
			pause = min(2*pause, retryMost)
		}
		timer := time.NewTimer(wait)
		select {
		case <-w.changed:
			pause = retryFirst
		case <-timer.C:
		case <-named.Done():
		}
		timer.Stop()
	}
}

// errChanged: the wish changed while a call was under way.
var errChanged = errors.New("another role")

// call starts or stops a service.
func (k *Keeper) call(ctx context.Context, name string, w wish) error {
	verb := "stop"
	if w.run {
		verb = "start"
	}
	m, err := find()
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	limited, cancel := context.WithTimeout(ctx, k.limit)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // ends with this call
		select {
		case <-w.changed:
			cancel()
		case <-ended:
		}
	}()
	var out bytes.Buffer
	cmd := k.ports.Command(limited, m.program, m.args(verb, name)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and left something running
		err = nil
	}
	took := time.Since(began)
	select {
	case <-w.changed:
		return errChanged
	default:
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("%s %s by %s: killed after %v", verb, name, m.program, k.limit)
	case err != nil:
		err = fmt.Errorf("%s %s by %s: %w%s", verb, name, m.program, err, said(out.Bytes()))
	}
	if err != nil {
		k.ports.Log.Warn("service", "service", name, "error", err)
		return err
	}
	k.ports.Log.Info("service", "service", name, "verb", verb, "took", took)
	return nil
}

// said is the first line that a program printed.
func said(out []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	if len(line) == 0 {
		return ""
	}
	return ": " + strings.ToValidUTF8(string(line[:min(len(line), 300)]), "?")
}
