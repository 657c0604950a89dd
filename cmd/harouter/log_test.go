package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"harouter/ha/config"
)

// TestLogWithoutReader fills a log that nobody reads: writing never waits, and
// once somebody reads, what was lost is told.
func TestLogWithoutReader(t *testing.T) {
	r, w := io.Pipe()
	q := newLogQueue(w)
	log := newLoggers(q, config.Log{Level: config.LevelInfo}).part("ha")
	start := time.Now()
	for range 2 * logLines {
		log.Info("line")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Fatalf("logging took %v", took)
	}
	read := make(chan string)
	go func() { b, _ := io.ReadAll(r); read <- string(b) }()
	q.Close(5 * time.Second)
	w.Close()
	text := <-read
	if !strings.Contains(text, "log lines lost") || strings.Count(text, "msg=line") < logLines {
		t.Errorf("the reader got %d lines, told of a loss: %v", strings.Count(text, "msg=line"), strings.Contains(text, "log lines lost"))
	}
}

func TestLogLevelsChange(t *testing.T) {
	var b bytes.Buffer
	l := newLoggers(&b, config.Log{Level: config.LevelInfo})
	vrrp, ha := l.part("vrrp"), l.part("ha")
	vrrp.Debug("one")
	l.set(config.Log{Level: config.LevelWarn, Parts: map[string]config.Level{"vrrp": config.LevelDebug}})
	vrrp.Debug("two")
	ha.Info("three")
	l.part("ha").Warn("four")
	got := b.String()
	for text, want := range map[string]bool{"one": false, "two": true, "three": false, "four": true} {
		if strings.Contains(got, "msg="+text) != want {
			t.Errorf("line %q is there: %v, want %v\n%s", text, !want, want, got)
		}
	}
}
