package snippets

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os/exec"
	"slices"
	"time"

	"harouter/balancer"
)

// Ports are what the worker needs.
type Ports struct {
	// Command prepares a program as child.Command does.
	Command func(ctx context.Context, program string, args ...string) *exec.Cmd
	// Begin says that the admin's part of the table is about to be written, and
	// Keep that it is right as it is, as the data plane's BeginUser and KeepUser.
	Begin func() uint64
	Keep  func(begun uint64) (bool, error)
	// Ready is closed when the table is there.
	Ready <-chan struct{}
	// Failed tells that a file, nft.d/NAME, or all of them, nft.d, are not in
	// force as they are and why, or that this is over.
	Failed func(subject string, failed bool, text string)
	Log    *slog.Logger
}

const (
	lookEvery = 5 * time.Second // at what was refused
	tries     = 3               // where somebody else changes the table at the same time
	between   = 200 * time.Millisecond
)

// Worker puts the files into the table. Look and Lost may be called from any
// goroutine, and only note it.
type Worker struct {
	dir   string
	ports Ports
	look  chan struct{}
	lost  chan struct{}

	// These are Run's.
	files   []balancer.Snippet // as they were read
	failed  map[string]error   // those that are not in force as they were read; "": the directory
	trouble error              // all of them
	inForce []balancer.Snippet
	kept    bool // they are in the table
	told    map[string]string
}

// New returns a worker that Run starts, for a directory (absolute).
func New(dir string, ports Ports) *Worker {
	return &Worker{
		dir: dir, ports: ports, look: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		told: map[string]string{},
	}
}

// Look has the directory looked at.
func (w *Worker) Look() { note(w.look) }

// Lost has the rules written anew: they are not in the table any more.
func (w *Worker) Lost() { note(w.lost) }

func note(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// String names the task.
func (w *Worker) String() string { return "snippets" }

// Run keeps the table up to date until ctx ends; then everything stays as it is.
func (w *Worker) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-w.ports.Ready:
	}
	w.files, w.failed = Read(w.dir)
	for {
		w.trouble = w.put(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.tell()
		var tick <-chan time.Time
		if len(w.failed) > 0 || w.trouble != nil {
			tick = time.After(lookEvery)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.look:
			w.files, w.failed = Read(w.dir)
		case <-w.lost:
			w.kept = false
		case <-tick:
			w.lookAgain()
		}
	}
}

// lookAgain reads what was not in force as it was read.
func (w *Worker) lookAgain() {
	all, failed := Read(w.dir)
	if w.failed[""] != nil || failed[""] != nil {
		w.files, w.failed = all, failed
		return
	}
	files, still := []balancer.Snippet{}, map[string]error{}
	for _, f := range w.files {
		if w.failed[f.Name] == nil {
			files = append(files, f)
			continue
		}
		if now, ok := find(all, f.Name); ok {
			files = append(files, now)
			if err := failed[f.Name]; err != nil {
				still[f.Name] = err
			}
		}
	}
	w.files, w.failed = files, still
}

func find(all []balancer.Snippet, name string) (balancer.Snippet, bool) {
	i := slices.IndexFunc(all, func(s balancer.Snippet) bool { return s.Name == name })
	if i < 0 {
		return balancer.Snippet{}, false
	}
	return all[i], true
}

// put makes the table hold the files, if it does not.
func (w *Worker) put(ctx context.Context) error {
	wanted := w.inForce // as long as the directory cannot be read
	if w.failed[""] == nil {
		wanted = nil
		for _, f := range w.files {
			if w.failed[f.Name] != nil {
				var ok bool
				if f, ok = find(w.inForce, f.Name); !ok {
					continue
				}
			}
			wanted = append(wanted, f)
		}
	}
	if w.kept && slices.Equal(wanted, w.inForce) {
		return nil
	}
	var err error
	for try := 1; try <= tries; try++ {
		if try > 1 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(between):
			}
		}
		if err = w.write(ctx, wanted); err == nil || ctx.Err() != nil {
			return nil
		}
	}
	if len(wanted) == 0 && errors.Is(err, errNoProgram) {
		return nil // who has no rules needs no program for them
	}
	return err
}

// write tries what is wanted, and writes what is not refused.
func (w *Worker) write(ctx context.Context, wanted []balancer.Snippet) error {
	listing, err := w.nft(ctx, "", "-t", "list", "table", "inet", balancer.TableName)
	if err != nil {
		return err
	}
	remove := removal(listing)
	if wanted, err = w.choose(ctx, remove, wanted); err != nil {
		return err
	}
	begun := w.ports.Begin()
	if script := remove + balancer.SnippetText(wanted); script != "" {
		_, err = w.nft(ctx, script, "-f", "-")
	}
	kept, keepErr := w.ports.Keep(begun) // also where nothing was written: it is as it was
	if err = errors.Join(err, keepErr); err != nil {
		return err
	}
	// Where it is not kept, the table is a new one, and Lost was called.
	w.inForce, w.kept = wanted, kept
	if remove != "" || len(wanted) > 0 {
		w.ports.Log.Info("rules of nft.d are in the table", "files", len(wanted))
	}
	return nil
}

// choose returns those that nft takes, together with what was in force of the
// others if it takes that.
func (w *Worker) choose(ctx context.Context, remove string, wanted []balancer.Snippet) ([]balancer.Snippet, error) {
	try := func(all []balancer.Snippet) error {
		_, err := w.nft(ctx, remove+balancer.SnippetText(all), "-c", "-f", "-")
		return err
	}
	var refusal *refusal
	err := try(wanted)
	if err == nil || !errors.As(err, &refusal) {
		return wanted, err
	}
	var out []balancer.Snippet
	refused := map[string]error{}
	for _, f := range wanted {
		versions := []balancer.Snippet{f}
		if old, ok := find(w.inForce, f.Name); ok && old != f {
			versions = append(versions, old)
		}
		for _, v := range versions {
			err := try(append(slices.Clone(out), v))
			if err == nil {
				out = append(out, v)
				break
			}
			if !errors.As(err, &refusal) {
				return nil, err
			}
			if v == f {
				refused[f.Name] = err
			}
		}
	}
	maps.Copy(w.failed, refused)
	return out, nil
}

// tell tells what is not in force, and what is so no more.
func (w *Worker) tell() {
	now := map[string]string{}
	if w.trouble != nil {
		now[Directory] = "the rules are not in force: " + w.trouble.Error()
	}
	for name, err := range w.failed {
		if name == "" {
			now[Directory] = err.Error() + "; what was in force stays"
			continue
		}
		text := err.Error() + "; it is left out"
		if _, ok := find(w.inForce, name); ok {
			text = err.Error() + "; what was in force of it stays"
		}
		now[Directory+"/"+name] = text
	}
	for _, subject := range slices.Sorted(maps.Keys(now)) {
		if w.told[subject] != now[subject] {
			w.ports.Log.Warn("rules of the admin", "file", subject, "error", now[subject])
			w.ports.Failed(subject, true, now[subject])
		}
	}
	for _, subject := range slices.Sorted(maps.Keys(w.told)) {
		if _, still := now[subject]; !still {
			w.ports.Failed(subject, false, "")
		}
	}
	w.told = now
}
