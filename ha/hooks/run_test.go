package hooks

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/standin"
)

// rig is a worker with a directory of its own.
type rig struct {
	*Runner
	t      *testing.T
	dir    string
	alarms chan string
	stop   func()
}

func newRig(t *testing.T, timeout time.Duration) *rig {
	g := &rig{t: t, dir: t.TempDir(), alarms: make(chan string, 100)}
	cfg := Config{
		Directory: g.dir, Timeout: timeout, Cluster: "home", Node: "r1", MailTo: []string{"a@example.org", "b@example.org"},
		Uplinks: map[string]Line{"cable": {Device: "wan1", Target: netip.MustParseAddr("198.51.100.1")}, "dsl": {Device: "wan2"}},
	}
	g.Runner = New(cfg, Ports{
		Command: standin.Command, Log: slog.New(slog.DiscardHandler),
		Failed: func(script string, failed bool, text string) { g.alarms <- fmt.Sprint(script, " ", failed, " ", text) },
	})
	return g
}

func (g *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	}
}

func (g *rig) script(name, text string, mode os.FileMode) {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) out() string {
	b, _ := os.ReadFile(filepath.Join(g.dir, "out"))
	return string(b)
}

// await returns when the scripts have said that.
func (g *rig) await(want string) {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); g.out() != want; runtime.Gosched() {
		if time.Now().After(end) {
			g.t.Fatalf("the scripts said %q, want %q", g.out(), want)
		}
	}
}

// TestWords: what scripts of each kind are told.
func TestWords(t *testing.T) {
	t.Parallel()
	g := newRig(t, time.Minute)
	show := "#!/bin/sh\n{ echo \"${0##*/}:\" \"$@\"; env | grep ^HAROUTER_ | grep -v TIME= | sort; } >>" + g.dir + "/out\n"
	g.script("uplink-down.d/10-show", show, 0o755)
	g.script("down.d/lsm", "shift 4; echo lsm $1 $2 $3 $4 $5 $6 $7 $8 $9 ${10} ${11} >>"+g.dir+"/out\n", 0o755)
	g.script("backup.d/show", show, 0o755)
	g.script("post-apply.d/show", show, 0o755)
	for i := range 150 {
		g.Round(balancer.Round{Uplink: "cable", Good: i < 147, RTT: time.Duration(i) * time.Microsecond})
	}
	g.Round(balancer.Round{Uplink: "nobody's"})
	g.Source("cable", netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("203.0.113.1"))
	g.Uplink("dsl", balancer.Up, "")
	g.Uplink("nobody's", balancer.Down, "")
	g.Uplink("cable", balancer.Unknown, "")
	g.Role("unknown", "")
	g.Uplink("cable", balancer.Down, "no answer")
	g.Role("backup", "started")
	g.Applied()
	g.start()
	g.stop()
	want := `10-show: down cable 198.51.100.1 wan1 a@example.org,b@example.org 97 0 3 0 0 0 3 98 203.0.113.10 unknown NOW
HAROUTER_CLUSTER=home
HAROUTER_DEVICE=wan1
HAROUTER_DOWN=cable
HAROUTER_EVENT=uplink-down
HAROUTER_GATEWAY=203.0.113.1
HAROUTER_LOSS=3
HAROUTER_NODE=r1
HAROUTER_PREVIOUS=unknown
HAROUTER_REASON=no answer
HAROUTER_ROLE=backup
HAROUTER_RTT_US=98
HAROUTER_SOURCE=203.0.113.10
HAROUTER_STATE=down
HAROUTER_UP=dsl
HAROUTER_UPLINK=cable
lsm a@example.org,b@example.org 97 0 3 0 0 0 3 98 203.0.113.10 unknown
show: backup r1 unknown
HAROUTER_CLUSTER=home
HAROUTER_DOWN=cable
HAROUTER_EVENT=backup
HAROUTER_NODE=r1
HAROUTER_PREVIOUS=unknown
HAROUTER_REASON=started
HAROUTER_ROLE=backup
HAROUTER_STATE=backup
HAROUTER_UP=dsl
show: post-apply backup
HAROUTER_CLUSTER=home
HAROUTER_DOWN=cable
HAROUTER_EVENT=post-apply
HAROUTER_NODE=r1
HAROUTER_REASON=
HAROUTER_ROLE=backup
HAROUTER_UP=dsl
`
	first, rest, _ := strings.Cut(g.out(), "\n")
	words := strings.Fields(first)
	if len(words) != 17 {
		t.Fatalf("%d arguments, want 16: %s", len(words)-1, first)
	}
	if _, err := fmt.Sscan(words[16], new(int64)); err != nil {
		t.Errorf("the time is %q", words[16])
	}
	words[16] = "NOW"
	if diff := cmp.Diff(want, strings.Join(words, " ")+"\n"+rest); diff != "" {
		t.Error(diff)
	}
}

// TestArgumentsNotSet: what the file does not say is what the original has then.
func TestArgumentsNotSet(t *testing.T) {
	t.Parallel()
	got := told{
		change: change{subject: subject{"dsl"}, state: stateDown, previous: stateUp, at: time.Unix(1_700_000_000, 0)},
		line:   Line{Device: "ppp0"}, way: way{netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("203.0.113.1")},
	}.args()
	if diff := cmp.Diff(strings.Fields("down dsl 203.0.113.1 ppp0 root 0 0 0 0 0 0 0 0 203.0.113.10 up 1700000000"), got); diff != "" {
		t.Error(diff)
	}
}

func TestWhichRun(t *testing.T) {
	t.Parallel()
	g := newRig(t, time.Minute)
	for _, name := range []string{"b", "a.sh", "c~", "#d#", "e.bak", ".f", "g"} {
		g.script("x.d/"+name, "", 0o755)
	}
	g.script("x.d/h", "", 0o644)
	g.script("x.d/sub/i", "", 0o755)
	if err := os.Symlink("b", filepath.Join(g.dir, "x.d/z")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("gone", filepath.Join(g.dir, "x.d/y")); err != nil {
		t.Fatal(err)
	}
	all, err := scripts(filepath.Join(g.dir, "x.d"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	if diff := cmp.Diff([]string{"a.sh", "b", "g", "z"}, all); diff != "" {
		t.Error(diff)
	}
	if all, err = scripts(filepath.Join(g.dir, "none.d")); err != nil || len(all) > 0 {
		t.Errorf("no directory: %v, %v", all, err)
	}
	g.script("file.d", "", 0o755)
	if _, err := scripts(filepath.Join(g.dir, "file.d")); err == nil {
		t.Error("a file passes for a directory")
	}
}

// TestFailures: those of one script do not keep the next one from running, and
// end when it succeeds or is taken away.
func TestFailures(t *testing.T) {
	t.Parallel()
	g := newRig(t, 3*time.Second)
	g.script("fault.d/1-bad", "#!/bin/sh\necho first >&2; echo no such thing >&2; exit 3\n", 0o755)
	g.script("fault.d/2-hangs", "#!/bin/sh\nsleep 600 & wait\n", 0o755)
	g.script("fault.d/3-leaves", "#!/bin/sh\nsleep 3 &\n", 0o755) // its output stays open
	g.script("fault.d/4-none", "#!/no/such/shell\n", 0o755)
	g.script("fault.d/5-good", "#!/bin/sh\necho good >>"+g.dir+"/out\n", 0o755)
	g.script("backup.d/1-good", "#!/bin/sh\necho backup >>"+g.dir+"/out\n", 0o755)
	g.start()
	g.Role("fault", "")
	var got []string
	for range 3 {
		got = append(got, <-g.alarms)
	}
	if !strings.HasPrefix(got[2], "fault.d/4-none true ") {
		t.Error(got[2])
	}
	if diff := cmp.Diff([]string{
		"fault.d/1-bad true exit status 3: no such thing", "fault.d/2-hangs true killed after 3s (hooks.timeout)",
	}, got[:2]); diff != "" {
		t.Error(diff)
	}
	g.await("good\n")
	g.script("fault.d/1-bad", "#!/bin/sh\n", 0o755)
	if err := os.Remove(filepath.Join(g.dir, "fault.d/2-hangs")); err != nil {
		t.Fatal(err)
	}
	g.script("fault.d/4-none", "#!/bin/sh\n", 0o755)
	g.Role("backup", "")
	g.await("good\nbackup\n")
	g.Role("fault", "")
	g.await("good\nbackup\ngood\n")
	g.stop()
	g.tidy()
	close(g.alarms)
	got = nil
	for a := range g.alarms {
		got = append(got, a)
	}
	if diff := cmp.Diff([]string{"fault.d/1-bad false ", "fault.d/4-none false ", "fault.d/2-hangs false "}, got); diff != "" {
		t.Error(diff)
	}
}

// TestNothingWaits: while a script hangs, whoever tells what happened goes on;
// then only the newest state is told. At the end of the daemon the one that
// hangs is killed.
func TestNothingWaits(t *testing.T) {
	t.Parallel()
	g := newRig(t, time.Minute)
	g.script("uplink-down.d/hangs", "#!/bin/sh\necho began >>"+g.dir+"/out; sleep 600\n", 0o755)
	g.script("uplink-up.d/says", "#!/bin/sh\necho up >>"+g.dir+"/out\n", 0o755)
	g.start()
	g.Uplink("cable", balancer.Down, "")
	g.await("began\n")
	began := time.Now()
	for range 10_000 {
		g.Uplink("cable", balancer.Up, "")
		g.Uplink("cable", balancer.Down, "")
		g.Applied()
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("30,000 changes took %v", took)
	}
	if n := len(g.queue.wait); n > 2 {
		t.Errorf("%d changes wait", n)
	}
	began = time.Now()
	g.stop()
	if took := time.Since(began); took > endLimit+10*time.Second {
		t.Errorf("the end took %v", took)
	}
	if len(g.alarms) > 0 {
		t.Errorf("what the end killed is an alarm: %s", <-g.alarms)
	}
}
