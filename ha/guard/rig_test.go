package guard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests run real processes: this binary again, as daemon or as guard. What
// the guard's fake ports do is written, with the clock, to the stderr that all
// of them share, so its end of file says that all of them are gone.

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "as-guard" {
		if err := Run(3, os.Args[2], fakePorts(os.Args[2])); err != nil {
			emit("failed %v", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "as-daemon" {
		asDaemon(os.Args[2])
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "as-avenger" {
		exe, _ := os.Executable()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done, err := Avenge(ctx, exe, []string{"as-guard", os.Args[2]}, os.Args[2], nil)
		emit("avenged %t %v", done, err)
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "as-asker" {
		may, memory, nice, all := MayHurry(), LockMemory(), Nice(-20), Hurry(10)
		attr, err := unix.SchedGetAttr(os.Getpid(), 0)
		if err != nil {
			panic(err)
		}
		fmt.Printf("hurry %v; memory %v; nice %v; all %d %v\n", may, memory, nice, attr.Priority, all)
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "as-hardened" {
		hardened()
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "as-relaxed" {
		relax()
		os.Exit(0)
	}
	if len(os.Args) == 2 && os.Args[1] == "as-spinner" {
		for {
			spins++
		}
	}
	startStallMeters()
	os.Exit(m.Run())
}

var spins int

func emit(format string, args ...any) {
	unix.Write(2, fmt.Appendf(nil, "EVENT %d %s\n", monotonic(), fmt.Sprintf(format, args...)))
}

func fakePorts(runDir string) Ports {
	block := func(name string) { // GUARD_BLOCK=remove:300ms
		if what, d, ok := strings.Cut(os.Getenv("GUARD_BLOCK"), ":"); ok && what == name {
			wait, _ := time.ParseDuration(d)
			time.Sleep(wait)
		}
	}
	return Ports{
		Remove: func(as []Address) error {
			if len(as) > 0 {
				block("remove")
				emit("remove %d", len(as))
			}
			return nil
		},
		Send: func(fs []Frame) error {
			if len(fs) > 0 {
				block("send")
				emit("send %d", len(fs))
			}
			return nil
		},
		Open: func(fs []Frame) error { emit("open %d", len(fs)); return nil },
		Listen: func(ctx context.Context, devices []string, local netip.Addr, recv func(Heard)) error {
			path := filepath.Join(runDir, "air")
			os.Remove(path)
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			if err != nil {
				return err
			}
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			emit("listen %s %s", strings.Join(devices, ","), local)
			b := make([]byte, 4096)
			for {
				n, err := conn.Read(b)
				if err != nil {
					emit("unlisten")
					return err
				}
				var h Heard
				if json.Unmarshal(b[:n], &h) == nil {
					recv(h)
				}
			}
		},
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// asDaemon is a deciding loop with a heartbeat that obeys lines on stdin.
func asDaemon(runDir string) {
	exe, _ := os.Executable()
	if os.Getenv("DAEMON_NICE") == "" {
		if err := Hurry(10); err != nil {
			emit("%v (it takes root)", err)
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if os.Getenv("DAEMON_SLOW") != "" {
		dieSlowly()
	}
	start := func() *Client {
		c, err := Start(exe, []string{"as-guard", runDir}, runDir, log)
		if err != nil {
			emit("start: %v", err)
			os.Exit(1)
		}
		emit("started %d", c.PID())
		return c
	}
	c := start()
	lines := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ticks := time.NewTicker(10 * time.Millisecond)
	died := c.Died()
	for {
		c.Beat()
		select {
		case <-c.Fenced():
			emit("fenced")
			continue
		default:
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
			return
		case <-died:
			died = nil
			emit("died")
		case l := <-lines:
			words := strings.Fields(l)
			switch words[0] {
			case "set": // set HOLDING PEER HANG
				s := site(words[1] == "holding", words[2] == "peer")
				s.Hang, _ = time.ParseDuration(words[3])
				emit("set %v", c.Set(s))
			case "retire":
				emit("retired %v", c.Retire(ctx))
			case "release":
				emit("released %v", c.Release(ctx))
			case "ping":
				emit("answered %t", c.Ping())
			case "kill":
				emit("killed %v", c.Kill())
			case "restart":
				c = start()
				died = c.Died()
			case "garbage":
				for _, g := range []string{"", "garbage", "{}", `{"kind":"state"}`, `{"kind":"state","state":7}`, strings.Repeat("x", 70000), `{"kind":"takeover"}`, ""} {
					c.mu.Lock()
					err := c.push([]byte(g))
					c.mu.Unlock()
					if err != nil {
						emit("garbage: %v", err)
					}
				}
				emit("littered")
			case "flood": // more than the socket holds; the guard stands still
				s := site(false, false)
				for range 20 {
					s.Devices = append(s.Devices, strings.Repeat("x", 10000))
				}
				begun := monotonic()
				var err error
				for range 100 {
					if e := c.Set(s); e != nil {
						err = e
					}
				}
				s = site(true, true)
				s.Hang = 150 * ms
				if e := c.Set(s); e != nil {
					err = e
				}
				emit("flooded %v %t %v", err, c.late.Load(), monotonic()-begun)
			case "exit":
				return
			}
		}
	}
}

// dieSlowly opens packet sockets, in a namespace of their own, with numbers
// above the guard's socket: the kernel closes them first, and takes its time.
func dieSlowly() {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends here
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			for range 10 {
				fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300)
				if err != nil {
					return err
				}
				if _, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 2*highFD); err != nil {
					return err
				}
				unix.Close(fd)
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		emit("packet sockets: %v (it takes root)", err)
	}
}

// rig is a fake daemon with its guard, seen from the test.
type rig struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	in     io.Writer
	guard  int
	events chan seen // closed when daemon and guard are gone
}

type seen struct {
	at   time.Duration
	what string
}

func newRig(t *testing.T, env ...string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "guard") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return startRig(t, dir, env...)
}

func startRig(t *testing.T, dir string, env ...string) *rig {
	t.Helper()
	r := startRole(t, "as-daemon", dir, env...)
	started := r.expect("started", 5*time.Second)
	r.guard, _ = strconv.Atoi(strings.TrimPrefix(started.what, "started "))
	return r
}

func startRole(t *testing.T, role, dir string, env ...string) *rig {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, cmd: exec.Command(exe, role, dir), events: make(chan seen, 1024)}
	r.cmd.Env = append(os.Environ(), env...)
	out, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stderr = stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.Close()
	go func() {
		defer close(r.events)
		for in := bufio.NewScanner(out); in.Scan(); {
			words := strings.SplitN(in.Text(), " ", 3)
			if words[0] == "EVENT" {
				at, _ := strconv.ParseInt(words[1], 10, 64)
				r.events <- seen{time.Duration(at), words[2]}
			} else if testing.Verbose() {
				fmt.Println("   ", in.Text())
			}
		}
	}()
	t.Cleanup(func() {
		r.signal(unix.SIGKILL)
		r.cmd.Wait()
		if r.guard > 0 {
			select {
			case _, open := <-r.events:
				if !open {
					return
				}
			default:
			}
			unix.Kill(r.guard, unix.SIGKILL) // the pipe is open, so it is alive
			for range r.events {
			}
		}
	})
	return r
}

// do sends the daemon a line and waits for its answer.
func (r *rig) do(line, answer string) {
	r.t.Helper()
	fmt.Fprintln(r.in, line)
	r.expect(answer, 5*time.Second)
}

// say sends the daemon a line that has no answer.
func (r *rig) say(line string) { fmt.Fprintln(r.in, line) }

func (r *rig) signal(s unix.Signal) time.Duration {
	at := monotonic()
	r.cmd.Process.Signal(s)
	return at
}

// expect waits for an event that begins with what. Opening is let pass, and the
// end of listening where a removal is due: two goroutines, in either order.
func (r *rig) expect(what string, patience time.Duration) seen {
	r.t.Helper()
	late := time.After(patience)
	for {
		select {
		case e, ok := <-r.events:
			if !ok {
				r.t.Fatalf("all gone, expected %q", what)
			}
			if strings.HasPrefix(e.what, "open ") || e.what == "unlisten" && strings.HasPrefix(what, "remove") {
				continue
			}
			if !strings.HasPrefix(e.what, what) {
				r.t.Fatalf("event %q, expected %q", e.what, what)
			}
			return e
		case <-late:
			r.t.Fatalf("no %q within %v", what, patience)
		}
	}
}

// expectSet waits for each of these, in any order, and returns their times.
func (r *rig) expectSet(patience time.Duration, whats ...string) map[string]time.Duration {
	r.t.Helper()
	at := map[string]time.Duration{}
	late := time.After(patience)
	for len(at) < len(whats) {
		select {
		case e, ok := <-r.events:
			if !ok {
				r.t.Fatalf("all gone, had %v, expected %q", at, whats)
			}
			for _, w := range whats {
				if _, had := at[w]; !had && strings.HasPrefix(e.what, w) {
					at[w] = e.at
				}
			}
		case <-late:
			r.t.Fatalf("had %v, expected %q within %v", at, whats, patience)
		}
	}
	return at
}

// expectNothing looks for d that nothing happens.
func (r *rig) expectNothing(d time.Duration) {
	r.t.Helper()
	late := time.After(d)
	for {
		select {
		case e, ok := <-r.events:
			if !ok {
				r.t.Fatal("all gone, expected nothing to happen")
			}
			if !strings.HasPrefix(e.what, "open ") {
				r.t.Fatalf("event %q, expected none", e.what)
			}
		case <-late:
			return
		}
	}
}

// expectEnd waits until daemon and guard are gone and nothing else happens but
// what is allowed.
func (r *rig) expectEnd(allowed ...string) {
	r.t.Helper()
	late := time.After(5 * time.Second)
next:
	for {
		select {
		case e, ok := <-r.events:
			if !ok {
				if _, err := os.Stat(filepath.Join(r.dir, socketName)); !os.IsNotExist(err) {
					r.t.Fatalf("the guard left its socket: %v", err)
				}
				return
			}
			for _, a := range append(allowed, "open ", "unlisten") {
				if strings.HasPrefix(e.what, a) {
					continue next
				}
			}
			r.t.Fatalf("event %q before the end", e.what)
		case <-late:
			r.t.Fatal("the guard does not end")
		}
	}
}

// air sends what the guard shall hear.
func (r *rig) air(change func(*Heard)) time.Duration {
	r.t.Helper()
	conn, err := net.Dial("unixgram", filepath.Join(r.dir, "air"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	b, _ := json.Marshal(advert(change).Heard)
	at := monotonic()
	if _, err := conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
	return at
}

// expectEndBut is expectEnd where the socket is the next guard's by now.
func (r *rig) expectEndBut() {
	r.t.Helper()
	late := time.After(5 * time.Second)
	for {
		select {
		case e, ok := <-r.events:
			if !ok {
				return
			}
			if e.what != "unlisten" {
				r.t.Fatalf("event %q before the end", e.what)
			}
		case <-late:
			r.t.Fatal("the guard does not end")
		}
	}
}
