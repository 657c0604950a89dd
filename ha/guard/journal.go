package guard

import (
	"context"
	"log/slog"
	"time"
)

// journal logs from a goroutine of its own: the guard's stderr is the daemon's,
// and whoever reads it may be the one that hangs.
type journal struct {
	log   *slog.Logger
	lines chan line
	done  chan struct{}
}

type line struct {
	level slog.Level
	text  string
	args  []any
}

func startJournal(log *slog.Logger) *journal {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	j := &journal{log: log, lines: make(chan line, 64), done: make(chan struct{})}
	go func() {
		defer close(j.done)
		for l := range j.lines {
			if l.text == "" {
				return
			}
			j.log.Log(context.Background(), l.level, l.text, l.args...)
		}
	}()
	return j
}

func (j *journal) info(text string, args ...any) { j.put(line{slog.LevelInfo, text, args}) }
func (j *journal) warn(text string, args ...any) { j.put(line{slog.LevelWarn, text, args}) }

// put drops the line when nobody reads.
func (j *journal) put(l line) {
	select {
	case j.lines <- l:
	default:
	}
}

// flush ends the journal; it waits for the lines that are left, but not for ever.
func (j *journal) flush() {
	late := time.After(100 * time.Millisecond)
	select {
	case j.lines <- line{}:
	case <-late:
		return
	}
	select {
	case <-j.done:
	case <-late:
	}
}
