package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"harouter/ha"
	"harouter/ha/hooks"
	"harouter/ha/services"
	"harouter/test/standin"
)

// TestAfterTheAddresses: who follows the master is told when the addresses are
// there, whichever of both is known first.
func TestAfterTheAddresses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, role := range []string{"master", "backup"} {
		path := filepath.Join(dir, role+".d", "show")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho $1 >>"+dir+"/out\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	failed := func(what string, failed bool, text string) { t.Errorf("%s %t %s", what, failed, text) }
	f := &followers{
		hooks: hooks.New(hooks.Config{Directory: dir, Timeout: 30 * time.Second}, hooks.Ports{
			Command: standin.Command, Failed: failed, Log: slog.New(slog.DiscardHandler),
		}),
		services: services.New(nil, 0, services.Ports{}),
	}
	role := func(to string) func() {
		return func() { f.note(ha.Record{Kind: "role", Subject: "r1", To: to}, "r1") }
	}
	holds := func(on bool) func() { return func() { f.holding(on) } }
	for _, step := range []struct {
		name string
		do   func()
		want string // all that was said until then
	}{
		{"a master without addresses", role("master"), ""},
		{"they are there", holds(true), "master\n"},
		{"a backup that holds them still", role("backup"), "master\nbackup\n"},
		{"it has let go", holds(false), "master\nbackup\n"},
		{"addresses of no master", holds(true), "master\nbackup\n"},
		{"a master with them", role("master"), "master\nbackup\nmaster\n"},
	} {
		step.do()
		ended, end := context.WithCancel(t.Context())
		end() // what waits is still told
		if err := f.hooks.Run(ended); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(dir, "out")); string(got) != step.want {
			t.Errorf("%s: told %q, want %q", step.name, got, step.want)
		}
	}
}
