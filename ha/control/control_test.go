package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must happen.
const patience = 5 * time.Second

// daemon is a server under test.
type daemon struct {
	*Server
	t       *testing.T
	dir     string
	stop    context.CancelFunc
	err     chan error
	streams atomic.Int64 // commands "stream" under way
}

func startDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{t: t, dir: t.TempDir(), err: make(chan error, 1)}
	d.start()
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	s, err := Listen(d.dir, d.handle, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	s.requestWithin, s.writeWithin = time.Second, 300*time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	d.Server, d.stop = s, cancel
	go func() { d.err <- s.Run(ctx) }()
	d.t.Cleanup(func() { d.end() })
}

// end stops the daemon; the second call does nothing.
func (d *daemon) end() {
	d.t.Helper()
	d.stop()
	select {
	case err := <-d.err:
		d.err <- nil
		if err != nil {
			d.t.Error(err)
		}
	case <-time.After(patience):
		d.t.Error("the server does not end")
	}
}

func (d *daemon) handle(ctx context.Context, r Request, reply func(any) error) error {
	switch r.Command {
	case "echo":
		return reply(r.Args)
	case "count":
		for i := range 1000 {
			if err := reply(i); err != nil {
				return err
			}
		}
		return nil
	case "wrong":
		return fmt.Errorf("check it: %w", &Error{Text: "no such uplink", Code: 2})
	case "fails":
		return errors.New("it did not work")
	case "stream":
		d.streams.Add(1)
		defer d.streams.Add(-1)
		if err := reply("begin"); err != nil {
			return err
		}
		<-ctx.Done()
		return errors.New("the daemon ends")
	case "flood":
		d.streams.Add(1)
		defer d.streams.Add(-1)
		for {
			if err := reply(strings.Repeat("x", 10000)); err != nil {
				return err
			}
		}
	}
	return &Error{Text: "no such command: " + r.Command, Code: 2}
}

func (d *daemon) dial() *Client {
	d.t.Helper()
	c, err := Dial(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// echo asks for the simplest answer, and not for ever.
func (d *daemon) echo() error {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return d.dial().Do(ctx, "echo", 1, nil)
}

func (d *daemon) raw() *net.UnixConn {
	d.t.Helper()
	c, err := net.Dial("unix", socketPath(d.dir))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.UnixConn)
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); !ok(); <-time.After(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("after %s: not %s", patience, what)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	c := d.dial()
	var got []string
	each := func(m json.RawMessage) error { got = append(got, string(m)); return nil }

	if err := c.Do(context.Background(), "echo", map[string]any{"to": "r2"}, each); err != nil {
		t.Fatal(err)
	}
	if err := c.Do(context.Background(), "echo", []int{1, 2}, each); err != nil { // a second command of one client
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"to":"r2"}`, `[1,2]`}, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	if err := c.Do(context.Background(), "count", nil, each); err != nil || len(got) != 1000 || got[999] != "999" {
		t.Errorf("error %v, %d objects", err, len(got))
	}
	if err := c.Do(context.Background(), "count", nil, nil); err != nil {
		t.Error(err)
	}

	for command, want := range map[string]Error{
		"wrong":   {"check it: no such uplink", 2},
		"fails":   {"it did not work", 1},
		"unknown": {"no such command: unknown", 2},
	} {
		err := c.Do(context.Background(), command, nil, nil)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s: error %v", command, err)
			continue
		}
		if diff := cmp.Diff(want, *e); diff != "" {
			t.Errorf("%s: %s", command, diff)
		}
	}

	enough := errors.New("enough")
	calls := 0
	err := c.Do(context.Background(), "count", nil, func(json.RawMessage) error { calls++; return enough })
	if err != enough || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
}

func TestGarbageIsAnswered(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, c := range map[string]struct{ in, want string }{
		"no JSON":      {"status\n", "is expected"},
		"no object":    {"[1]\n", "is expected"},
		"no command":   {"{}\n", "is expected"},
		"wrong type":   {`{"command":7}` + "\n", "is expected"},
		"binary":       {"\x00\xff\xfe\n", "is expected"},
		"empty line":   {"\n", "is expected"},
		"too long":     {`{"command":"` + strings.Repeat("a", maxRequest) + `"}` + "\n", "more than 65536 bytes"},
		"never ending": {`{"command":"echo"`, "in time"},
	} {
		conn := d.raw()
		conn.Write([]byte(c.in))
		all, err := io.ReadAll(conn)
		var a answer
		if json.Unmarshal(all, &a) != nil || !strings.Contains(a.Error, c.want) || a.Code != 2 {
			t.Errorf("%s: answer %q, error %v", name, all, err)
		}
	}
	silent := d.raw()
	silent.CloseWrite()
	if all, err := io.ReadAll(silent); err != nil || len(all) > 0 {
		t.Errorf("no request: answer %q, error %v", all, err)
	}
	if err := d.echo(); err != nil {
		t.Errorf("after garbage: %v", err)
	}
}

func TestStreamEndsWithEitherSide(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)

	ctx, cancel := context.WithCancel(context.Background())
	c := d.dial()
	err := c.Do(ctx, "stream", nil, func(json.RawMessage) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: error %v", err)
	}
	await(t, "noticed", func() bool { return d.streams.Load() == 0 })

	// as socat and nc do
	half := d.raw()
	fmt.Fprintln(half, `{"command":"stream"}`)
	half.CloseWrite()
	if line, err := bufio.NewReader(half).ReadString('\n'); line != `{"data":"begin"}`+"\n" {
		t.Fatalf("answer %q, error %v", line, err)
	}
	for range 2 {
		<-time.After(goneEvery)
		if d.streams.Load() != 1 {
			t.Fatal("a client that still listens was given up")
		}
	}
	half.Close()
	await(t, "noticed", func() bool { return d.streams.Load() == 0 })

	half = d.raw()
	fmt.Fprint(half, `{"command":"echo","args":1}`) // no line end
	half.CloseWrite()
	if all, err := io.ReadAll(half); err != nil || string(all) != "{\"data\":1}\n{\"done\":true}\n" {
		t.Errorf("answer %q, error %v", all, err)
	}

	begin := time.Now()
	err = d.dial().Do(context.Background(), "stream", nil, func(json.RawMessage) error { d.stop(); return nil })
	if e, ok := errors.AsType[*Error](err); !ok || e.Text != "the daemon ends" {
		t.Errorf("daemon ends: error %v", err)
	}
	d.end()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("ending took %s", took)
	}
}

func TestManyAndSlowClients(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	var slow []*net.UnixConn
	for range maxClients - 1 {
		conn := d.raw()
		fmt.Fprintln(conn, `{"command":"flood"}`)
		slow = append(slow, conn)
	}
	if err := d.echo(); err != nil {
		t.Errorf("beside slow readers: %v", err)
	}
	await(t, "dropped", func() bool { return d.streams.Load() == 0 })
	for _, conn := range slow {
		conn.Close()
	}
	await(t, "free", func() bool { return len(d.slots) == 0 })

	for range maxClients {
		conn := d.raw()
		fmt.Fprintln(conn, `{"command":"stream"}`)
	}
	await(t, "streaming", func() bool { return d.streams.Load() == maxClients })
	err := d.echo()
	if e, ok := errors.AsType[*Error](err); !ok || !strings.Contains(e.Text, "64 clients") {
		t.Errorf("one too many: error %v", err)
	}
}

func TestOneDaemonInARunDirectory(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	if i, err := os.Stat(socketPath(d.dir)); err != nil || i.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, error %v", i.Mode(), err)
	}
	_, err := Listen(d.dir, d.handle, nil)
	want := fmt.Sprintf("another harouter daemon (process %d) runs with %s: stop it, or give this one another --run-dir", os.Getpid(), d.dir)
	if err == nil || err.Error() != want {
		t.Errorf("second daemon: error %v", err)
	}
	if err := d.echo(); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
	d.end()
	if _, err := os.Stat(socketPath(d.dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket after the end: %v", err)
	}
	if Ended(d.dir) {
		t.Error("a daemon that answers no more, but has not closed, counts as ended")
	}
	for range 2 {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if !Ended(d.dir) {
			t.Error("not ended after Close")
		}
		d.err = make(chan error, 1)
		d.start()
		d.end()
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}

	// one that never ran
	s, err := Listen(d.dir, d.handle, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// what a crash leaves
	l, err := net.Listen("unix", socketPath(d.dir))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	_, err = Dial(d.dir)
	if err == nil || !strings.Contains(err.Error(), "left of one that ended): start it with") {
		t.Errorf("stale socket: error %v", err)
	}
	d.err = make(chan error, 1)
	d.start()
	if err := d.echo(); err != nil {
		t.Errorf("after a crash: %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("d", maxSocketPath))
	for where, want := range map[string]string{
		dir:                          "no harouter daemon runs here (no " + dir + "/harouter.sock): start it with `harouter run` or `systemctl start harouter`",
		filepath.Join(dir, "absent"): "no harouter daemon runs here (no " + dir + "/absent/harouter.sock): start it with `harouter run` or `systemctl start harouter`",
		long:                         fmt.Sprintf("connect to %s/harouter.sock: the path has %d bytes, a socket's at most 107: choose a shorter --run-dir", long, len(long)+len("/harouter.sock")),
	} {
		if _, err := Dial(where); err == nil || err.Error() != want || errors.Is(err, ErrNoDaemon) != (where != long) {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
	if _, err := Listen(long, nil, nil); err == nil || !strings.Contains(err.Error(), "choose a shorter --run-dir") {
		t.Errorf("listen: error %v", err)
	}

	d := startDaemon(t)
	if err := os.Chmod(socketPath(d.dir), 0o600); err != nil {
		t.Fatal(err)
	}
	denied := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			if err := unix.Setfsuid(65534); err != nil {
				denied <- err
				return
			}
		} else if err := os.Chmod(socketPath(d.dir), 0); err != nil {
			denied <- err
			return
		}
		// not through Dial's timer: the connect must happen on this thread
		_, err := Dial(d.dir)
		denied <- err
	}()
	if err := <-denied; err == nil || !strings.HasPrefix(err.Error(), "permission denied to talk to the daemon ("+socketPath(d.dir)) {
		t.Errorf("without rights: error %v", err)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{"", "\n", `{"command":"status"}` + "\n", `{"command":"failover","args":{"to":"r2"}}` + "\nmore", `{"command":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readRequest(strings.NewReader(string(b)))
		if (err == nil) != (r.Command != "") {
			t.Fatalf("request %v, error %v", r, err)
		}
	})
}
