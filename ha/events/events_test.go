package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// start opens a log and runs it; the function that is returned ends it as a
// daemon that leaves in order does.
func start(t *testing.T, cfg Config) (*Log, func()) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = quiet
	}
	l := Open(cfg)
	return l, run(t, l)
}

func run(t *testing.T, task interface{ Run(context.Context) error }) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// happened is an event of the machine.
func happened(subject string) Event {
	return Event{Kind: "uplink", Subject: subject, From: "up", To: "down", Reason: "no answer"}
}

// told collects what Config.Trouble is told.
type told struct {
	mu   sync.Mutex
	errs []error
}

func (t *told) take(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, err)
}

func (t *told) all() []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.errs)
}

func subjects(events []Event) string {
	var s []string
	for _, e := range events {
		s = append(s, e.Subject)
	}
	return strings.Join(s, " ")
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, stop := start(t, Config{Dir: dir, Node: "r1"})
		l.Append(happened("a"))
		l.Append(happened("b"))
		l.Merge([]Event{{Time: time.Now().Add(-time.Hour), Node: "r2", Seq: 7, Kind: "role", Subject: "c"}})
		synctest.Wait()
		before := l.Last(0)
		want(t, "order", subjects(before), "c a b")
		time.Sleep(time.Second)
		synctest.Wait()
		found, err := Read(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, found); d != "" {
			t.Errorf("on disk within a second (-want +got):\n%s", d)
		}
		l.Append(happened("d"))
		stop()

		l, _ = start(t, Config{Dir: dir, Node: "r1"})
		want(t, "after a restart", subjects(l.Last(0)), "c a b d")
		want(t, "the last two", subjects(l.Last(2)), "b d")
		time.Sleep(time.Second)
		l.Append(happened("e"))
		synctest.Wait()
		last := l.Last(2)
		if last[1].Seq <= last[0].Seq || last[1].Node != "r1" || last[1].Time.IsZero() {
			t.Errorf("numbers go back: %+v", last)
		}
	})
}

// TestLostLog: whoever lost his file uses no number again, also if his clock
// goes backwards as soon as he has heard what he used before.
func TestLostLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := start(t, Config{Dir: t.TempDir(), Node: "r1"})
		l.Append(happened("a"))
		synctest.Wait()
		old := l.Last(0)
		stop()
		time.Sleep(time.Second)
		l, _ = start(t, Config{Dir: t.TempDir(), Node: "r1"})
		l.Append(happened("b"))
		synctest.Wait()
		if b := l.Last(1)[0]; b.Seq <= old[0].Seq {
			t.Errorf("%d after %d", b.Seq, old[0].Seq)
		}
		ahead := old[0]
		ahead.Seq, ahead.Subject = l.Last(1)[0].Seq+1000, "of a clock that was ahead"
		l.Merge(append(old, ahead))
		want(t, "taken back", subjects(l.Last(0)), "a of a clock that was ahead b")
		l.Append(happened("c"))
		synctest.Wait()
		if c := l.Last(1)[0]; c.Subject != "c" || c.Seq <= ahead.Seq {
			t.Errorf("%s %d after %d", c.Subject, c.Seq, ahead.Seq)
		}
	})
}

// TestClockBehind: numbers go on where the file ends, whatever the clock says.
func TestClockBehind(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ahead := Event{Time: time.Now(), Node: "r1", Seq: firstSeq(time.Now().Add(time.Hour)), Kind: "role", Subject: "ahead"}
		if err := newDisk(dir).append([]Event{ahead}); err != nil {
			t.Fatal(err)
		}
		l, _ := start(t, Config{Dir: dir, Node: "r1"})
		l.Append(happened("a"))
		synctest.Wait()
		if a := l.Last(1)[0]; a.Seq != ahead.Seq+1 {
			t.Errorf("%d after %d", a.Seq, ahead.Seq)
		}
	})
}

// TestTooOld: what was dropped for its age does not come back.
func TestTooOld(t *testing.T) {
	l := Open(Config{Dir: t.TempDir(), Node: "r1", Log: quiet})
	var all []Event
	for i := range uint64(maxEvents + 10) {
		all = append(all, Event{Time: time.Unix(int64(i), 0), Node: "r2", Seq: i + 1, Kind: "role"})
	}
	l.Merge(all)
	for range 2 {
		got := l.Last(0)
		if len(got) != maxEvents || got[0].Seq != 11 {
			t.Errorf("%d events, the first is %d", len(got), got[0].Seq)
		}
		want(t, "digest", fmt.Sprint(l.Have()), fmt.Sprintf("map[r2:[[0 %d]]]", len(all)))
		l.unwritten = nil
		l.Merge(all[:10])
		if len(l.unwritten) > 0 {
			t.Errorf("%d old ones were taken for new", len(l.unwritten))
		}
	}
}

// TestTooOldThoughSmall: nor where it would fit beside larger ones.
func TestTooOldThoughSmall(t *testing.T) {
	s := store{}
	small := Event{Node: "r2", Seq: 1}
	s.add(small)
	for i := range uint64(1000) {
		s.add(Event{Node: "r2", Seq: i + 2, Reason: strings.Repeat("x", maxReason)})
	}
	if s.add(small) || s["r2"].events[0].Seq == small.Seq {
		t.Error("it was taken for new")
	}
}

func TestDamagedFile(t *testing.T) {
	good := `{"time":"1999-11-21T12:00:00Z","node":"r1","seq":%d,"kind":"role","subject":"%s"}` + "\n"
	a, b := fmt.Sprintf(good, 1, "a"), fmt.Sprintf(good, 2, "b")
	for _, c := range []struct {
		name, file, want string
		aside            bool
	}{
		{"good", a + b, "a b", false},
		{"empty", "", "", false},
		{"torn last line", a + b[:40], "a", false},
		{"last line without its end", a + b[:len(b)-1], "a", false},
		{"garbage between", a + "\x00\x00\x00\n" + b, "a b", true},
		{"a line without end", a + strings.Repeat("x", 200_000) + "\n" + b, "a b", true},
		{"no node", a + `{"time":"2026-11-21T12:00:00Z","seq":3}` + "\n" + b, "a b", true},
		{"no time that exists", a + `{"time":"yesterday","node":"r1","seq":3}` + "\n" + b, "a b", true},
		{"twice", a + a + b, "a b", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, fileName), []byte(c.file), 0o644); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				l, stop := start(t, Config{Dir: dir, Node: "r1"})
				want(t, "read", subjects(l.Last(0)), c.want)
				l.Append(happened("z"))
				stop()
			})
			found, damage, err := load(dir)
			if err != nil || damage.lines > 0 || damage.torn {
				t.Errorf("the file is not good afterwards: %+v %v", damage, err)
			}
			s := store{}
			for _, e := range found {
				s.add(e)
			}
			want(t, "on disk", subjects(newest(s.all(), 0)), strings.TrimSpace(c.want+" z"))
			kept, err := os.ReadFile(filepath.Join(dir, asideName))
			if c.aside && string(kept) != c.file || !c.aside && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("put aside: %.80q %v", kept, err)
			}
		})
	}
}

// TestUnusableDirectory: it goes on in memory, and says so once.
func TestUnusableDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var trouble told
		l, _ := start(t, Config{Dir: filepath.Join(dir, "events"), Node: "r1", Trouble: trouble.take})
		l.Append(happened("a"))
		time.Sleep(time.Minute)
		synctest.Wait()
		want(t, "in memory", subjects(l.Last(0)), "a")
		if told := trouble.all(); len(told) != 1 || told[0] == nil {
			t.Fatalf("told %v", told)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if told := trouble.all(); len(told) != 2 || told[1] != nil {
			t.Errorf("told %v", told)
		}
		found, err := Read(filepath.Join(dir, "events"), 0)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "on disk in the end", subjects(found), "a")
	})
}

// TestFullDisk: the disk takes half of what is written, then nothing, then all
// again; nothing is lost and nothing is written twice.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var trouble told
		cfg := Config{Dir: dir, Node: "r1", Log: quiet, Trouble: trouble.take}
		l := Open(cfg)
		var full atomic.Bool
		l.disk.write = func(f *os.File, b []byte) (int, error) {
			if full.Load() {
				n, err := f.Write(b[:len(b)/2])
				return n, errors.Join(err, syscall.ENOSPC)
			}
			return f.Write(b)
		}
		stop := run(t, l)
		l.Append(happened("a"))
		time.Sleep(time.Second)
		synctest.Wait()
		full.Store(true)
		for _, s := range []string{"b", "c"} {
			l.Append(happened(s))
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		if told := trouble.all(); len(told) != 1 || !errors.Is(told[0], syscall.ENOSPC) {
			t.Fatalf("told %v", told)
		}
		found, damage, err := load(dir)
		if err != nil || damage.torn || damage.lines > 0 {
			t.Errorf("half a line stays in the file: %+v %v", damage, err)
		}
		want(t, "on the full disk", subjects(found), "a")
		want(t, "in memory", subjects(l.Last(0)), "a b c")
		full.Store(false)
		time.Sleep(retryEvery)
		synctest.Wait()
		if told := trouble.all(); len(told) != 2 || told[1] != nil {
			t.Errorf("told %v", told)
		}
		if found, _, err = load(dir); err != nil {
			t.Fatal(err)
		}
		want(t, "once there is room", subjects(found), "a b c")
		stop()
	})
}

// TestFileStaysBounded, and so does what is held of each node.
func TestFileStaysBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, stop := start(t, Config{Dir: dir, Node: "r1"})
		l.Append(happened("the first"))
		long := strings.Repeat("x", 400)
		for i := range 20 {
			var batch []Event
			for j := range 500 {
				batch = append(batch, Event{Time: time.Now(), Node: "r2", Seq: uint64(i*500 + j + 1), Kind: "alarm", Subject: "flood", Reason: long})
			}
			l.Merge(batch)
			time.Sleep(time.Second)
		}
		stop()
		info, err := os.Stat(filepath.Join(dir, fileName))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 3*growBy {
			t.Errorf("the file has %d bytes", info.Size())
		}
		found, err := Read(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(l.Last(0), found); d != "" {
			t.Errorf("on disk is not what is held (-want +got):\n%s", d)
		}
		if n := len(found); n < 500 || n > maxEvents || found[0].Subject != "the first" {
			t.Errorf("%d events, the first is %s", n, found[0].Subject)
		}
		if last := found[len(found)-1]; last.Seq != 10000 {
			t.Errorf("the newest of the flood is %d", last.Seq)
		}
	})
}

// TestFileTakenAway while the log runs: what is held is written anew.
func TestFileTakenAway(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, stop := start(t, Config{Dir: dir, Node: "r1"})
		l.Append(happened("a"))
		time.Sleep(time.Second)
		synctest.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		l.Append(happened("b"))
		stop()
		found, err := Read(dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "on disk", subjects(found), "a b")
	})
}

// TestAppendNeverBlocks: what nobody takes is counted, and that is told.
func TestAppendNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Open(Config{Dir: t.TempDir(), Node: "r1", Log: quiet})
		for range queued + 37 {
			l.Append(happened("a"))
		}
		run(t, l)
		synctest.Wait()
		got := l.Last(0)
		if len(got) != queued+1 {
			t.Errorf("%d events", len(got))
		}
		told := 0
		for _, e := range got {
			if strings.HasPrefix(e.Reason, "37 events lost") {
				told++
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

// TestMerge: other nodes' events in any order, twice, and out of all bounds.
func TestMerge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		e := func(node string, seq uint64, after time.Duration) Event {
			return Event{Time: at.Add(after), Node: node, Seq: seq, Kind: "role", Subject: fmt.Sprint(node, "/", seq)}
		}
		l := Open(Config{Dir: t.TempDir(), Node: "r1", Log: quiet})
		l.Merge([]Event{e("r3", 2, time.Second), e("r2", 3, time.Second), e("r2", 2, time.Second), e("r2", 1, 2*time.Second)})
		l.Merge([]Event{e("r2", 2, time.Second), e("", 1, 0), e(strings.Repeat("n", maxNode+1), 1, 0), e("r2", 0, 0), e("r2", maxSeq, 0), e("r1", maxSeq/2, 0)})
		want(t, "time, node, number", subjects(l.Last(0)), "r2/2 r2/3 r3/2 r2/1")
		want(t, "digest", fmt.Sprint(l.Have()), "map[r2:[[1 3]] r3:[[2 2]]]")
		want(t, "since", subjects(l.Since(Digest{"r2": {{0, 1}, {3, 3}}}, "", 10)), "r2/2 r3/2")
		want(t, "since, one node", subjects(l.Since(nil, "r2", 10)), "r2/1 r2/2 r2/3")
		want(t, "since, limited", subjects(l.Since(nil, "", 2)), "r2/1 r2/2")

		l.Merge([]Event{{Time: time.Unix(-1e9, 0), Node: "r4", Seq: 1, Kind: "x" + strings.Repeat("ä", 40), Subject: "a\xff", Reason: strings.Repeat("r", 5000)}})
		got := l.Last(0)[0]
		d := cmp.Diff(Event{Time: earliest, Node: "r4", Seq: 1, Kind: "x" + strings.Repeat("ä", 15), Subject: "a?", Reason: strings.Repeat("r", maxReason)}, got)
		if d != "" {
			t.Errorf("mended (-want +got):\n%s", d)
		}
		for i := range 2 * maxNodes {
			l.Merge([]Event{e(fmt.Sprint("x", i), 1, 0)})
		}
		if n := len(l.Have()); n != maxNodes {
			t.Errorf("%d nodes are held", n)
		}
	})
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := start(t, Config{Dir: t.TempDir(), Node: "r1"})
		for _, s := range []string{"a", "b", "c"} {
			l.Append(happened(s))
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		var got []string
		ended := make(chan error, 3)
		go func() {
			ended <- l.Follow(ctx, 2, func(es []Event) error { got = append(got, subjects(es)); return nil })
		}()
		synctest.Wait()
		l.Append(happened("d"))
		l.Merge([]Event{{Time: time.Now(), Node: "r2", Seq: 1, Kind: "role", Subject: "e"}})
		synctest.Wait()
		l.Append(happened("f"))
		synctest.Wait()
		seen := strings.Join(got, "|")
		if seen != "b c|d|e|f" && seen != "b c|e|d|f" {
			t.Errorf("followed %q", seen)
		}

		gone := errors.New("the reader has gone")
		go func() {
			ended <- l.Follow(ctx, 0, func([]Event) error { return gone })
		}()
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("ended with %v", err)
		}

		stuck := make(chan struct{})
		go func() {
			ended <- l.Follow(ctx, 1, func([]Event) error { <-stuck; return nil })
		}()
		synctest.Wait()
		for i := range followerQueue + 2 {
			l.Append(happened(fmt.Sprint(i)))
			synctest.Wait()
		}
		close(stuck)
		if err := <-ended; !errors.Is(err, ErrSlow) {
			t.Errorf("the slow one ended with %v", err)
		}
		if n := len(got); n != 4+followerQueue+2 {
			t.Errorf("the quick one got %d answers", n)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		if len(l.followers) != 0 {
			t.Error("followers are left")
		}
	})
}
