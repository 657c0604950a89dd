package main

import (
	"log/slog"
	"os"

	"harouter/ha/config"
)

// loggers makes one logger a part, each with the level that the file sets.
type loggers struct{ cfg config.Log }

func newLoggers(cfg config.Log) *loggers { return &loggers{cfg: cfg} }

var levels = map[config.Level]slog.Level{
	config.LevelDebug: slog.LevelDebug, config.LevelInfo: slog.LevelInfo,
	config.LevelWarn: slog.LevelWarn, config.LevelError: slog.LevelError,
}

func (l *loggers) part(name string) *slog.Logger {
	level := levels[l.cfg.Level]
	if own, ok := l.cfg.Parts[name]; ok {
		level = levels[own]
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("part", name)
}
