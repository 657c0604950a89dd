package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
)

// libraryLog returns memberlist's logger. All its lines are details here, also
// those that it calls errors (it says so for every packet to a node that is
// off): what a person should see, this package logs itself.
func libraryLog(to *slog.Logger) *log.Logger {
	return log.New(logWriter{to}, "", 0)
}

type logWriter struct{ to *slog.Logger }

// Write takes one line as the log package writes it.
func (w logWriter) Write(line []byte) (int, error) {
	if w.to.Enabled(context.Background(), slog.LevelDebug) {
		level, text, ok := bytes.Cut(bytes.TrimSpace(line), []byte(" memberlist: "))
		if !ok {
			level, text = nil, bytes.TrimSpace(line)
		}
		w.to.Debug(string(text), "memberlist", string(bytes.Trim(level, "[]")))
	}
	return len(line), nil
}
