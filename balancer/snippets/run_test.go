package snippets

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a table, a directory and what the worker told.
type world struct {
	t   *testing.T
	dir string
	w   *Worker

	mu     sync.Mutex
	told   map[string]string
	kept   int
	ran    []string
	begun  uint64
	broken bool // nft cannot be started
}

func newWorld(t *testing.T) *world {
	x := &world{t: t, dir: filepath.Join(t.TempDir(), Directory), told: map[string]string{}}
	must(t, os.Mkdir(x.dir, 0o755))
	netlab.Sh(t, "nft add table inet harouter; nft add set inet harouter wan_if '{ type ifname; }'; nft add chain inet harouter pre")
	ready := make(chan struct{})
	close(ready)
	x.w = New(x.dir, Ports{
		Command: func(ctx context.Context, program string, args ...string) *exec.Cmd {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.ran = append(x.ran, strings.Join(args, " "))
			if x.broken {
				program = "/does/not/exist"
			}
			return exec.CommandContext(ctx, program, args...)
		},
		Ready: ready, Log: slog.New(slog.DiscardHandler),
		Begin: func() uint64 { return x.begun },
		Keep: func(begun uint64) (bool, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.kept++
			return begun == x.begun, nil
		},
		Failed: func(subject string, failed bool, text string) {
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.told[subject] = text; !failed {
				delete(x.told, subject)
			}
		},
	})
	return x
}

func (x *world) write(name, text string) {
	x.t.Helper()
	must(x.t, os.WriteFile(filepath.Join(x.dir, name), []byte(text), 0o644))
}

// looked is one turn of the worker.
func (x *world) looked() {
	x.w.files, x.w.failed = Read(x.dir)
	x.turn()
}

func (x *world) turn() {
	x.w.trouble = x.w.put(x.t.Context())
	x.w.tell()
}

func (x *world) holds(want ...string) {
	x.t.Helper()
	list := netlab.Sh(x.t, "nft -s list table inet harouter")
	for _, s := range want {
		if no, ok := strings.CutPrefix(s, "!"); ok == strings.Contains(list, no) && ok || !ok && !strings.Contains(list, s) {
			x.t.Errorf("want %s in\n%s", s, list)
		}
	}
}

func (x *world) tells(want map[string]string) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := cmp.Diff(want, x.told); d != "" {
		x.t.Errorf("told: -want +got\n%s", d)
	}
}

// TestFiles: what is good is in force, what is bad is named, and what was good
// before it stays.
func TestFiles(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	x := newWorld(t)
	netlab.Sh(t, "nft add chain inet harouter user_left") // by a former run
	x.looked()
	x.holds("!user_left", "chain pre")

	x.write("10-sets.nft", "define bad = 192.0.2.66\nset user_bad {\n\ttype ipv4_addr\n\telements = { $bad }\n}\n")
	x.write("20-forward.nft", "chain user_forward {\n\tiifname @wan_if ip saddr @user_bad counter name user_n drop\n\ttcp dport 25 jump user_mail\n}\nchain user_mail {\n\treject;\n}\ncounter user_n { }\n")
	x.write("30-input.nft", "chain user_input {\n\ttcp dport 23 drop\n}\n")
	x.write("40-bad.nft", "chain user_input {\n\ttcp dport 1 drop\n\ttcp dprt 7 drop\n}\n")
	x.write("50-out.nft", "}\nflush ruleset\n")
	x.write(".hidden.nft", "nonsense")
	x.write("60-off.nft.bak", "nonsense")
	x.looked()
	x.holds("elements = { 192.0.2.66 }", "type filter hook forward priority -11; policy accept;", "counter name \"user_n\" drop", "jump user_mail", "dport 23 drop", "!dport 1 drop")
	x.tells(map[string]string{
		"nft.d/40-bad.nft": "line 3: syntax error, unexpected string: tcp dprt 7 drop; it is left out",
		"nft.d/50-out.nft": "line 1: a brace closes what was not opened; it is left out",
	})

	ran := len(x.ran)
	x.turn()
	if n := len(x.ran) - ran; n != 0 {
		t.Errorf("nothing is new, and nft ran %d times: %v", n, x.ran[ran:])
	}

	x.write("30-input.nft", "chain user_input {\n\ttcp dport 24 drp\n}\n")
	x.write("40-bad.nft", "chain user_input {\n\ttcp dport 7 drop\n}\n")
	must(t, os.Remove(filepath.Join(x.dir, "50-out.nft")))
	x.looked()
	x.holds("dport 23 drop", "dport 7 drop")
	x.tells(map[string]string{"nft.d/30-input.nft": "line 2: syntax error, unexpected newline: tcp dport 24 drp; what was in force of it stays"})

	// Lost, with the table: also the former words of what is bad now.
	netlab.Sh(t, "nft delete table inet harouter; nft add table inet harouter; nft add set inet harouter wan_if '{ type ifname; }'")
	x.w.kept = false
	x.turn()
	x.holds("dport 23 drop", "dport 7 drop", "jump user_mail")

	x.write("30-input.nft", "chain user_input {\n\ttcp dport 24 drop\n}\n")
	x.write("10-sets.nft", "nobody has asked for this file to be read")
	x.w.lookAgain()
	x.turn()
	x.holds("dport 24 drop", "!dport 23", "192.0.2.66")
	x.tells(map[string]string{})

	must(t, os.RemoveAll(x.dir))
	x.looked()
	x.holds("!user_", "set wan_if")
	x.tells(map[string]string{})
}

// TestNoProgram: without nft it is told, if there are rules.
func TestNoProgram(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	x := newWorld(t)
	t.Setenv("PATH", t.TempDir())
	x.broken = true
	x.looked()
	x.tells(map[string]string{})
	x.write("10.nft", "chain user_input {\n}\n")
	x.looked()
	x.tells(map[string]string{"nft.d": "the rules are not in force: the program nft cannot be started: install nftables"})
}

// TestRun: the task looks when it is told to, and writes anew what is lost.
func TestRun(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	x := newWorld(t)
	x.write("10.nft", "chain user_input {\n\ttcp dport 23 drop\n}\n")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.w.Run(ctx) }()
	await := func(n int) {
		t.Helper()
		for end := time.Now().Add(5 * time.Second); ; {
			x.mu.Lock()
			kept := x.kept
			x.mu.Unlock()
			if kept >= n {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("written %d times, want %d", kept, n)
			}
		}
	}
	await(1)
	x.holds("dport 23 drop")
	netlab.Sh(t, "nft flush chain inet harouter user_input")
	x.w.Lost()
	await(2)
	x.holds("dport 23 drop")
	x.write("10.nft", "chain user_input {\n\ttcp dport 24 drop\n}\n")
	x.w.Look()
	await(3)
	x.holds("dport 24 drop")
	cancel()
	must(t, <-ended)
	x.holds("dport 24 drop")
}

func TestRefused(t *testing.T) {
	const script = "flush chain inet harouter user_x\n# nft.d/10-a.nft\ntable inet harouter {\nchain user_x {\n\tdrp\n}\n\n}\n"
	for _, test := range []struct {
		name, said string
		want       refusal
	}{
		{"in a file", "/dev/stdin:5:2-4: Error: syntax error, unexpected string\n\tdrp\n\t^^^\n/dev/stdin:9:1-1: Error: more\n", refusal{"10-a.nft", "line 2: syntax error, unexpected string: drp"}},
		{"in none", "/dev/stdin:1:2-4: Error: Could not process rule: No such file or directory\n", refusal{"", "Could not process rule: No such file or directory"}},
		{"without a place", "netlink: Error: cache initialization failed: Operation not permitted\n", refusal{"", "cache initialization failed: Operation not permitted"}},
		{"otherwise", "Killed\n", refusal{"", "Killed"}},
		{"a line that is not", "/dev/stdin:999:1: Error: x\n/dev/stdin:-1:1: Error: x", refusal{"10-a.nft", "line 996: x: "}},
		{"silence", "", refusal{"", "nft says nothing of what is wrong"}},
	} {
		if d := cmp.Diff(&test.want, refused(script, test.said), cmp.AllowUnexported(refusal{})); d != "" {
			t.Errorf("%s: -want +got\n%s", test.name, d)
		}
	}
}

// FuzzRefused: whatever nft says is a sentence.
func FuzzRefused(f *testing.F) {
	f.Add("# nft.d/a\nx\ny\n", "/dev/stdin:3:2-4: Error: syntax error\n")
	f.Add("", "/dev/stdin:-3:2-4: Error: a\n")
	f.Fuzz(func(t *testing.T, script, said string) {
		_ = refused(script, said)
		_ = removal(said)
	})
}
