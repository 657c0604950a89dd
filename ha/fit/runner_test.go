package fit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"harouter/test/standin"
)

// result is one report.
type result struct {
	command string
	failed  string
	at      time.Time
}

// started is a runner that runs until the test ends.
func started(t *testing.T, cfg Config) (*Runner, chan result) {
	t.Helper()
	results := make(chan result, 100)
	r := New(cfg, standin.Command, func(command []string, failed string) {
		results <- result{strings.Join(command, " "), failed, time.Now()}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r, results
}

func next(t *testing.T, results chan result) result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("no report within 20 s")
		return result{}
	}
}

func shell(script string) []string { return []string{"sh", "-c", script} }

func TestWhatARunSays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script, want string
	}{
		{"good", "echo fine", ""},
		{"bad", "exit 3", "exit code 3"},
		{"bad, and why", "echo one; echo 'no  database' >&2; echo; exit 1", "exit code 1: no database"},
		{"killed", "kill -9 $$", "signal killed"},
		{"no end", "sleep 60", "no end within 2s"},
		{"what it started hangs", "sleep 60 & exit 0", ""},
		{"much output", "head -c 3000000 /dev/zero | tr '\\0' x; exit 1", "exit code 1: " + strings.Repeat("x", maxLine-3) + "…"},
		{"it wants input", "read line; exit 4", "exit code 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, results := started(t, Config{Command: shell(c.script), Interval: time.Minute, Timeout: 2 * time.Second})
			if diff := cmp.Diff(c.want, next(t, results).failed); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("no such program", func(t *testing.T) {
		t.Parallel()
		_, results := started(t, Config{Command: []string{"/no/such/file"}, Interval: time.Minute, Timeout: 2 * time.Second})
		if got := next(t, results).failed; !strings.Contains(got, "/no/such/file") {
			t.Errorf("says %q", got)
		}
	})
}

// TestAHangingRunIsKilled: with all that it has started, and the next one comes in
// its time.
func TestAHangingRunIsKilled(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	_, results := started(t, Config{Command: shell("sleep 600 & echo $! >>" + pids + "; wait"), Interval: 100 * time.Millisecond, Timeout: 300 * time.Millisecond})
	for range 3 {
		if got := next(t, results).failed; got != "no end within 300ms" {
			t.Errorf("says %q", got)
		}
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	first, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err != nil {
		t.Fatal(err)
	}
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", first)); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("what the first run started is alive: %s", stat)
	}
}

// TestAnotherCommand: a new file's is run at once, the one under way is ended and
// says nothing any more; and none is run where there is none.
func TestAnotherCommand(t *testing.T) {
	t.Parallel()
	r, results := started(t, Config{Command: shell("sleep 600"), Interval: time.Hour, Timeout: time.Minute})
	r.Configure(Config{Command: []string{"true"}, Interval: 50 * time.Millisecond, Timeout: time.Minute})
	for range 2 {
		if got := next(t, results); got.command != "true" || got.failed != "" {
			t.Errorf("%+v", got)
		}
	}
	r.Configure(Config{Interval: time.Second})
	r.Configure(Config{Command: []string{"false"}, Interval: time.Hour, Timeout: time.Minute})
	for got := next(t, results); got.command != "false"; got = next(t, results) {
		if got.command != "true" {
			t.Errorf("%+v", got)
		}
	}
	r.Configure(Config{})
	time.AfterFunc(100*time.Millisecond, func() {
		r.Configure(Config{Command: shell("exit 9"), Interval: time.Hour, Timeout: time.Minute})
	})
	if got := next(t, results); got.failed != "exit code 9" {
		t.Errorf("%+v", got)
	}
}

// TestARunThatCannotBeKilled counts as failed again and again, and no other is
// started beside it; the end of the task does not wait for it for ever.
func TestARunThatCannotBeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		starts := 0
		var got []string
		r := New(Config{Command: []string{"check"}, Interval: 2 * time.Second, Timeout: time.Second}, func(context.Context, string, ...string) *exec.Cmd {
			starts++
			<-hang
			return &exec.Cmd{Path: "/no/such/file"}
		}, func(_ []string, failed string) { got = append(got, failed) })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan time.Time, 1)
		go func() { _ = r.Run(ctx); ended <- time.Now() }()
		time.Sleep(7 * time.Second)
		synctest.Wait()
		want := []string{"no end within 1s", "a run of 4s ago that cannot be killed", "a run of 6s ago that cannot be killed"}
		if diff := cmp.Diff(want, got); diff != "" || starts != 1 {
			t.Errorf("%d starts\n%s", starts, diff)
		}
		at := time.Now()
		cancel()
		if d := (<-ended).Sub(at); d != stuckAfter {
			t.Errorf("the end took %v", d)
		}
		close(hang)
	})
}

// TestTime: from the beginning of one run to that of the next it is the interval.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var starts []time.Duration
		began := time.Now()
		r := New(Config{Command: []string{"check"}, Interval: 600 * time.Millisecond, Timeout: 10 * time.Second}, func(context.Context, string, ...string) *exec.Cmd {
			starts = append(starts, time.Since(began))
			time.Sleep(time.Duration(len(starts)) * 400 * time.Millisecond)
			return &exec.Cmd{Path: "/no/such/file"}
		}, func([]string, string) {})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = r.Run(ctx) }()
		time.Sleep(1500 * time.Millisecond)
		cancel()
		synctest.Wait()
		if diff := cmp.Diff([]time.Duration{0, 600 * time.Millisecond, 1400 * time.Millisecond}, starts); diff != "" {
			t.Error(diff)
		}
		time.Sleep(3 * time.Second)
	})
}

func FuzzTail(f *testing.F) {
	f.Add([]byte("one\ntwo\n"), 3)
	f.Add([]byte("\x1b[31mred\x00\xff\r\n\n \n"), 100)
	f.Add([]byte(strings.Repeat("ä", 700)), 999)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		var whole, parts tail
		if _, err := whole.Write(b); err != nil {
			t.Fatal(err)
		}
		for part := range slices.Chunk(b, 1+min(2000, max(0, size))) {
			if n, err := parts.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if diff := cmp.Diff(string(whole.kept), string(parts.kept)); diff != "" || !strings.HasSuffix(string(b), string(whole.kept)) {
			t.Error(diff)
		}
		line := whole.line()
		if len(line) > maxLine || !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", line)
		}
	})
}
