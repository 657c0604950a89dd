package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what Open needs.
type Config struct {
	Dir  string // for the file; made when it is needed
	Node string // this node
	// Trouble is told when the file cannot be written (a full disk, most
	// likely), and nil when that is over. It is called from Run, must not
	// block, and may be nil.
	Trouble func(error)
	Log     *slog.Logger
}

// Log is the event log of this node. Its methods may be called from any
// goroutine, before Run, during it and after it.
type Log struct {
	cfg  Config
	disk *disk         // owned by Run's writer
	in   chan Event    // own events on their way in
	lost atomic.Uint64 // own events for which in had no room
	wake chan struct{} // there is something to write
	news chan struct{} // there is an own event to tell

	mu        sync.Mutex // held for moments, never around I/O
	store     store
	seq       uint64
	unwritten []Event
	rewrite   bool // unwritten is not all that is missing in the file
	followers map[*follower]struct{}
}

const (
	queued       = 1024            // own events that wait for Run
	maxUnwritten = 5000            // more are brought to disk by writing all anew
	batchFor     = time.Second / 2 // events are gathered before they are written
	retryEvery   = 5 * time.Second // after a write that failed
)

// Open reads what an earlier run left. It does not fail: what cannot be read is
// told in the log, and the event log goes on without it. Nothing is written and
// nothing runs before Run.
func Open(cfg Config) *Log {
	l := &Log{
		cfg: cfg, disk: newDisk(cfg.Dir), in: make(chan Event, queued),
		wake: make(chan struct{}, 1), news: make(chan struct{}, 1),
		store: store{}, followers: map[*follower]struct{}{},
	}
	found, damage, err := load(cfg.Dir)
	switch {
	case err != nil:
		cfg.Log.Warn("the event log of earlier runs cannot be read, a new one is begun", "error", err)
		l.disk.aside, l.rewrite = true, true
	case damage.lines > 0:
		cfg.Log.Warn("the event log of earlier runs is damaged, what can be read of it goes on", "directory", cfg.Dir, "unreadable_lines", damage.lines)
		l.disk.aside, l.rewrite = true, true
	case damage.torn:
		l.rewrite = true
	}
	for _, e := range found {
		l.store.add(e)
	}
	l.disk.size = damage.size
	l.seq = max(firstSeq(time.Now()), l.store.highest(cfg.Node))
	if l.rewrite {
		signal(l.wake)
	}
	return l
}

// Append records an event of this node. Its Node and Seq are set here, its Time
// if it has none. It never blocks: what comes faster than Run takes it is lost,
// and that is an event too.
func (l *Log) Append(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case l.in <- e:
	default:
		l.lost.Add(1)
	}
}

// own takes an event of this node into the log.
func (l *Log) own(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.take(e)
	if n := l.lost.Swap(0); n > 0 {
		l.take(Event{Time: time.Now(), Kind: "alarm", Subject: "events", Reason: fmt.Sprintf("%d events lost: more happened at once than could be recorded", n)})
	}
	signal(l.news)
}

// take numbers an own event. mu is held.
func (l *Log) take(e Event) {
	l.seq++
	e.Node, e.Seq = l.cfg.Node, l.seq
	l.keep(tidy(e))
}

// keep holds, tells and writes an event if it is new. mu is held.
func (l *Log) keep(e Event) {
	if !l.store.add(e) {
		return
	}
	for f := range l.followers {
		if !f.offer(e) {
			delete(l.followers, f)
		}
	}
	if len(l.unwritten) < maxUnwritten {
		l.unwritten = append(l.unwritten, e)
	} else {
		l.unwritten, l.rewrite = nil, true
	}
	signal(l.wake)
}

// Merge takes events that other nodes sent; what is known already is left out.
// Among them may be our own that we lost with our disk: they are taken back.
func (l *Log) Merge(events []Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		if check(e) != nil {
			continue
		}
		own := e.Node == l.cfg.Node
		if own && e.Seq >= maxSeq/2 {
			continue
		}
		l.keep(tidy(e))
		if own { // from a clock that was ahead
			l.seq = max(l.seq, e.Seq)
		}
	}
}

// Have tells what is held, for other nodes.
func (l *Log) Have() Digest {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store.digest()
}

// Since returns up to limit events that have does not hold, each node's in
// their order. only, if not empty, is the one node whose events count.
func (l *Log) Since(have Digest, only string, limit int) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.store.since(have, only, limit)
}

// Last returns the newest n events, all of them if n is 0, by time.
func (l *Log) Last(n int) []Event {
	l.mu.Lock()
	all := l.store.all()
	l.mu.Unlock()
	return newest(all, n)
}

func newest(all []Event, n int) []Event {
	slices.SortFunc(all, byTime)
	if n > 0 && len(all) > n {
		all = all[len(all)-n:]
	}
	return all
}

// String names the task.
func (l *Log) String() string { return "events" }

// Run takes in what Append gets and writes it down, until ctx ends and all has
// been written.
func (l *Log) Run(ctx context.Context) error {
	taken := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { l.write(ctx, taken) })
	for {
		select {
		case e := <-l.in:
			l.own(e)
			continue
		case <-ctx.Done():
		}
		break
	}
	for len(l.in) > 0 {
		l.own(<-l.in)
	}
	close(taken)
	wg.Wait()
	return nil
}

// write brings events to disk in batches. taken is closed when no more come.
func (l *Log) write(ctx context.Context, taken chan struct{}) {
	wake := l.wake
	var retry <-chan time.Time
	for troubled := false; ; {
		select {
		case <-ctx.Done():
		case <-retry:
		case <-wake:
			select {
			case <-ctx.Done():
			case <-time.After(batchFor):
			}
		}
		ending := ctx.Err() != nil
		if ending {
			<-taken
		}
		err := l.flush()
		switch {
		case err != nil && !troubled:
			l.cfg.Log.Error("events are kept in memory only until the disk takes them", "error", err)
			l.trouble(err)
		case err == nil && troubled:
			l.cfg.Log.Info("events are on disk again")
			l.trouble(nil)
		}
		troubled = err != nil
		wake, retry = l.wake, nil
		if troubled {
			wake, retry = nil, time.After(retryEvery)
		}
		if ending {
			return
		}
	}
}

func (l *Log) trouble(err error) {
	if l.cfg.Trouble != nil {
		l.cfg.Trouble(err)
	}
}

// flush writes what is missing in the file.
func (l *Log) flush() error {
	l.mu.Lock()
	batch, rewrite := l.unwritten, l.rewrite
	l.unwritten, l.rewrite = nil, false
	l.mu.Unlock()

	var err error
	if !rewrite {
		if len(batch) == 0 {
			return nil
		}
		if err = l.disk.append(batch); err == nil {
			return nil
		}
		rewrite = errors.Is(err, errRewrite)
	}
	if rewrite {
		l.mu.Lock()
		all := l.store.all() // has batch, and what came since: see below
		l.unwritten = nil
		l.mu.Unlock()
		if err = l.disk.rewrite(newest(all, 0)); err == nil {
			return nil
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwritten = append(batch, l.unwritten...)
	l.rewrite = l.rewrite || rewrite
	return err
}

// signal sets a flag that a goroutine waits for.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
