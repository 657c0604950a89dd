package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"harouter/ha/config"
)

// loggers makes one logger a part, each with the level that the file sets.
type loggers struct {
	out io.Writer

	mu     sync.Mutex // a reload sets levels while parts ask for loggers
	cfg    config.Log
	levels map[string]*slog.LevelVar
}

func newLoggers(out io.Writer, cfg config.Log) *loggers {
	return &loggers{out: out, cfg: cfg, levels: map[string]*slog.LevelVar{}}
}

var levels = map[config.Level]slog.Level{
	config.LevelDebug: slog.LevelDebug, config.LevelInfo: slog.LevelInfo,
	config.LevelWarn: slog.LevelWarn, config.LevelError: slog.LevelError,
}

func (l *loggers) part(name string) *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.levels[name] == nil {
		l.levels[name] = &slog.LevelVar{}
		l.levels[name].Set(l.level(name))
	}
	return slog.New(slog.NewTextHandler(l.out, &slog.HandlerOptions{Level: l.levels[name]})).With("part", name)
}

func (l *loggers) level(name string) slog.Level {
	if own, ok := l.cfg.Parts[name]; ok {
		return levels[own]
	}
	return levels[l.cfg.Level]
}

// set changes the levels of loggers that are in use.
func (l *loggers) set(cfg config.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg = cfg
	for name, v := range l.levels {
		v.Set(l.level(name))
	}
}

// logLines is how many lines wait for a reader of the log.
const logLines = 4096

// logQueue stands between the loggers and a log that may have no reader for a
// while (a pipe that is full, a terminal that was stopped): nothing here ever
// waits for it. Lines for which there is no room are counted, and told once
// there is.
type logQueue struct {
	lines chan []byte
	lost  atomic.Uint64
	done  chan struct{}
	once  sync.Once
	ended chan struct{}
}

func newLogQueue(w io.Writer) *logQueue {
	q := &logQueue{lines: make(chan []byte, logLines), done: make(chan struct{}), ended: make(chan struct{})}
	go q.run(w)
	return q
}

// Write takes a line; it never fails and never blocks.
func (q *logQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.lost.Add(1)
	}
	return len(line), nil
}

func (q *logQueue) run(w io.Writer) {
	defer close(q.ended)
	write := func(line []byte) {
		_, _ = w.Write(line) // whom would one tell
		if n := q.lost.Swap(0); n > 0 {
			fmt.Fprintf(w, "time=%s level=WARN msg=\"log lines lost: the reader of the log was too slow\" lines=%d\n",
				time.Now().Format(time.RFC3339Nano), n)
		}
	}
	for {
		select {
		case line := <-q.lines:
			write(line)
		case <-q.done:
			for {
				select {
				case line := <-q.lines:
					write(line)
				default:
					return
				}
			}
		}
	}
}

// Close writes what waits, for as long as limit.
func (q *logQueue) Close(limit time.Duration) {
	q.once.Do(func() { close(q.done) })
	select {
	case <-q.ended:
	case <-time.After(limit):
	}
}
