package guard

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hang      = 150 * ms
	fenceTime = 50 * ms
)

func TestKilledMasterIsFenced(t *testing.T) {
	for range 5 {
		r := newRig(t)
		r.do("set holding peer 150ms", "set <nil>")
		killed := r.signal(unix.SIGKILL)
		at := r.expectSet(time.Second, "remove 1", "send 1")
		within(t, "addresses removed", killed, at["remove 1"], fenceTime)
		within(t, "farewell sent", killed, at["send 1"], fenceTime)
		within(t, "second farewell", killed, r.expect("send 1", time.Second).at, fenceTime+secondFarewell)
		r.expectEnd("remove 1")
	}
}

// The fence does not wait until the kernel is through with the dead daemon, but
// what the daemon's last thread may have added meanwhile is taken away, too.
func TestKilledMasterThatIsSlowToGo(t *testing.T) {
	for range 5 {
		r := newRig(t, "DAEMON_SLOW=yes")
		r.do("set holding peer 2s", "set <nil>")
		killed := r.signal(unix.SIGKILL)
		at := r.expectSet(time.Second, "remove 1", "send 1")
		within(t, "addresses removed", killed, at["remove 1"], fenceTime)
		var last time.Duration
		for e := range r.events { // until all are gone
			if e.what == "remove 1" {
				last = e.at
			}
		}
		if last > 0 {
			t.Logf("and once more after %v, when the daemon's last thread was gone", (last - killed).Round(ms))
			return
		}
	}
	t.Error("five daemons were gone before their witness: no second removal seen")
}

func TestExitWithoutRetireIsFenced(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	r.say("exit")
	r.expectEnd("remove 1", "send 1")
}

func TestBackupDies(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	r.do("set backup peer 150ms", "set <nil>")
	r.signal(unix.SIGKILL)
	r.expectEnd()
}

// A machine with more work than processors must not make the fence late.
func TestKilledMasterIsFencedOnABusyMachine(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		spinner := exec.Command(exe, "as-spinner")
		if err := spinner.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { spinner.Process.Kill(); spinner.Wait() })
	}
	if err := Nice(-20); err != nil { // else our own wait for a processor is measured
		t.Fatalf("%v (it takes root)", err)
	}
	t.Cleanup(func() { Nice(0) })
	for range 5 {
		// Without priority the daemon's threads take long to go, one after the
		// other: the witness must be enough.
		r := newRig(t, "DAEMON_NICE=no")
		r.do("set holding peer 2s", "set <nil>")
		killed := r.signal(unix.SIGKILL)
		at := r.expectSet(5*time.Second, "remove 1", "send 1")
		within(t, "addresses removed", killed, at["remove 1"], fenceTime)
		r.expectEnd("remove 1", "send 1")
	}
}

func TestStoppedMasterIsFencedAndComesBack(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	r.expectNothing(2 * hang)
	stopped := r.signal(unix.SIGSTOP)
	at := r.expectSet(time.Second, "remove 1", "send 1")
	within(t, "addresses removed", stopped, at["remove 1"], hang+fenceTime)
	if d := at["remove 1"] - stopped; d < hang-30*ms {
		t.Errorf("fenced %v after the stop, before H is over", d)
	}
	r.expect("send 1", time.Second)
	r.signal(unix.SIGCONT)
	r.expect("fenced", time.Second)
	r.expectNothing(2 * hang)

	r.do("set backup peer 150ms", "set <nil>")
	r.do("set holding peer 150ms", "set <nil>")
	r.expectNothing(hang)
	r.signal(unix.SIGSTOP)
	r.expectSet(time.Second, "remove 1", "send 1")
	r.expect("send 1", time.Second)
	r.signal(unix.SIGKILL) // with the guard's word unread in its socket
	r.expectEnd("remove 1")
}

func TestLoneMasterKilled(t *testing.T) {
	r := newRig(t)
	r.do("set holding alone 150ms", "set <nil>")
	r.signal(unix.SIGKILL)
	r.expect("listen lan0 192.0.2.1", time.Second)
	for _, bad := range []func(*Heard){
		func(h *Heard) { h.TTL = 64 }, func(h *Heard) { h.Priority = 0 }, func(h *Heard) { h.VRID++ },
		func(h *Heard) { h.Drop = "length" }, func(h *Heard) { h.Src = site(true, true).Local },
	} {
		r.air(bad)
	}
	r.expectNothing(100 * ms)
	heard := r.air(nil)
	within(t, "addresses removed", heard, r.expect("remove 1", time.Second).at, fenceTime)
	r.expectEnd()
}

func TestLoneMasterStopped(t *testing.T) {
	r := newRig(t)
	r.do("set holding alone 150ms", "set <nil>")
	r.signal(unix.SIGSTOP)
	r.expect("listen", time.Second)
	r.signal(unix.SIGCONT)
	r.expect("unlisten", time.Second)
	r.expectNothing(2 * hang)

	r.signal(unix.SIGSTOP)
	r.expect("listen", time.Second)
	heard := r.air(nil)
	at := r.expectSet(time.Second, "remove 1", "unlisten")
	within(t, "addresses removed", heard, at["remove 1"], fenceTime)
	r.signal(unix.SIGCONT)
	r.expect("fenced", time.Second)
	r.do("retire", "retired <nil>")
}

func TestFrozenMachineIsNoHang(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	for _, frozen := range []time.Duration{hang, 3 * hang} {
		r.signal(unix.SIGSTOP)
		unix.Kill(r.guard, unix.SIGSTOP)
		r.expectNothing(frozen)
		unix.Kill(r.guard, unix.SIGCONT) // the guard first: the worse order
		r.signal(unix.SIGCONT)
		r.expectNothing(2 * hang)
	}
}

func TestRetire(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	r.do("retire", "retired <nil>")
	if err := unix.Kill(r.guard, 0); err != unix.ESRCH {
		t.Errorf("the guard after Retire: %v, want it gone", err)
	}
	r.do("set holding peer 150ms", "set tell the guard: the guard has ended")
	r.expectNothing(50 * ms) // it did not "die"
	r.signal(unix.SIGKILL)
	r.expectEnd()
}

func TestRelease(t *testing.T) {
	t.Run("holding", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding peer 150ms", "set <nil>") // the peer died since: Release counts
		r.say("release")
		r.expectSet(time.Second, "listen", "released <nil>")
		r.say("exit")
		r.expectNothing(2 * hang)
		heard := r.air(nil)
		within(t, "addresses removed", heard, r.expect("remove 1", time.Second).at, fenceTime)
		r.expectEnd()
	})
	t.Run("holding nothing", func(t *testing.T) {
		r := newRig(t)
		r.do("set backup alone 150ms", "set <nil>")
		r.do("release", "released <nil>")
		r.say("exit")
		r.expectEnd()
	})
}

// TestGuardThatHangs: the daemon finds out, and another one takes its place.
func TestGuardThatHangs(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	r.do("ping", "answered true") // nothing was asked yet
	r.expectNothing(400 * ms)     // a busy machine's guard answers late
	r.do("ping", "answered true")
	r.expectNothing(400 * ms)
	unix.Kill(r.guard, unix.SIGSTOP)
	r.expectNothing(50 * ms)
	r.do("ping", "answered true") // the one before it hung
	r.expectNothing(50 * ms)
	r.do("ping", "answered false")
	r.say("kill")
	r.expectSet(time.Second, "killed <nil>", "died")
	r.say("restart")
	started := r.expect("started", 5*time.Second)
	r.guard, _ = strconv.Atoi(strings.TrimPrefix(started.what, "started "))
	r.do("set holding peer 150ms", "set <nil>")
	r.signal(unix.SIGKILL)
	r.expectSet(time.Second, "remove 1", "send 1")
	r.expectEnd("remove 1", "send 1")
}

// TestBothKilled: daemon and guard end together, as at the end of a cgroup.
func TestBothKilled(t *testing.T) {
	both := func(t *testing.T, orders string) *rig {
		r := newRig(t)
		r.do(orders, "set <nil>")
		eventually(t, "the guard has kept its orders", func() bool {
			s, err := remembered(r.dir)
			return err == nil && s != nil && s.Holding == strings.Contains(orders, "holding")
		})
		unix.Kill(r.guard, unix.SIGSTOP) // so that it does nothing between the two signals
		r.signal(unix.SIGKILL)
		unix.Kill(r.guard, unix.SIGKILL)
		for range r.events { // until both are gone
		}
		return r
	}
	t.Run("a peer lives", func(t *testing.T) {
		r := both(t, "set holding peer 150ms")
		a := startRole(t, "as-avenger", r.dir)
		a.expectSet(5*time.Second, "remove 1", "send 1")
		a.expectEnd("remove 1", "send 1", "avenged true <nil>")
		if s, err := remembered(r.dir); s != nil || err != nil {
			t.Errorf("orders that are done stay: %v, %v", s, err)
		}
		again := startRole(t, "as-avenger", r.dir)
		again.expect("avenged false <nil>", 5*time.Second)
		again.expectEnd()
	})
	t.Run("alone", func(t *testing.T) {
		r := both(t, "set holding alone 150ms")
		a := startRole(t, "as-avenger", r.dir)
		a.expectSet(5*time.Second, "listen lan0", "avenged true <nil>")
		a.air(nil)
		a.expect("remove 1", time.Second)
		a.expectEnd("unlisten")
	})
	t.Run("a backup", func(t *testing.T) {
		r := both(t, "set backup peer 150ms")
		a := startRole(t, "as-avenger", r.dir)
		a.expect("avenged false <nil>", 5*time.Second)
		for range a.events {
		}
	})
	t.Run("only the daemon", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding alone 150ms", "set <nil>")
		r.signal(unix.SIGKILL)
		r.expect("listen", time.Second)
		a := startRole(t, "as-avenger", r.dir)
		a.expect("avenged false <nil>", 5*time.Second)
		a.expectEndBut()
		r.expectNothing(50 * ms)
	})
	t.Run("neither, in order", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding peer 150ms", "set <nil>")
		r.do("retire", "retired <nil>")
		a := startRole(t, "as-avenger", r.dir)
		a.expect("avenged false <nil>", 5*time.Second)
		a.expectEnd()
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for late := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func TestSIGTERM(t *testing.T) {
	r := newRig(t)
	r.do("set holding alone 150ms", "set <nil>")
	unix.Kill(r.guard, unix.SIGTERM) // the daemon lives: the guard stays
	r.expectNothing(50 * ms)
	r.signal(unix.SIGKILL)
	r.expectEnd("listen")
}

func TestTakeOver(t *testing.T) {
	t.Run("nobody there", func(t *testing.T) {
		if s, err := TakeOver(t.TempDir()); s != nil || err != nil {
			t.Fatalf("%v, %v", s, err)
		}
	})
	t.Run("from a lone guard", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding alone 150ms", "set <nil>")
		r.signal(unix.SIGKILL)
		r.expect("listen", time.Second)
		s, err := TakeOver(r.dir)
		if err != nil || s == nil || !s.Holding || len(s.Addresses) != 1 || s.Addresses[0] != site(true, false).Addresses[0] {
			t.Fatalf("%+v, %v", s, err)
		}
		next := startRig(t, r.dir) // at once
		r.expectEndBut()
		next.do("set holding peer 150ms", "set <nil>")
		next.do("retire", "retired <nil>")
	})
	t.Run("the moment the daemon is killed", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding alone 150ms", "set <nil>")
		r.signal(unix.SIGKILL)
		s, err := TakeOver(r.dir)
		if err != nil || s == nil || !s.Holding {
			t.Fatalf("%+v, %v", s, err)
		}
		r.expectEnd("listen")
	})
	t.Run("waits for the fence", func(t *testing.T) {
		r := newRig(t, "GUARD_BLOCK=remove:200ms")
		r.do("set holding peer 150ms", "set <nil>")
		killed := r.signal(unix.SIGKILL)
		s, err := TakeOver(r.dir)
		back := monotonic()
		if err != nil || s == nil || s.Holding {
			t.Fatalf("%+v, %v", s, err)
		}
		at := r.expectSet(time.Second, "remove 1")["remove 1"]
		if at > back || back-killed < 200*ms {
			t.Errorf("came back %v after the death, before the end of the fence", back-killed)
		}
		r.expectEnd("remove 1", "send 1")
	})
	t.Run("refused while the daemon lives", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding peer 150ms", "set <nil>")
		if s, err := TakeOver(r.dir); !errors.Is(err, ErrDaemonAlive) || s != nil {
			t.Fatalf("%v, %v, want ErrDaemonAlive", s, err)
		}
		r.expectNothing(hang)
	})
	t.Run("a guard that does not answer is killed", func(t *testing.T) {
		r := newRig(t, "GUARD_BLOCK=remove:1h")
		r.do("set holding peer 150ms", "set <nil>")
		r.signal(unix.SIGKILL)
		begun := monotonic()
		if s, err := TakeOver(r.dir); !errors.Is(err, ErrKilled) || s != nil {
			t.Fatalf("%v, %v, want ErrKilled", s, err)
		}
		within(t, "back", begun, monotonic(), takeOverPatience+killPatience+50*ms)
		r.expectEnd("send 1")
	})
	t.Run("a stopped guard is killed", func(t *testing.T) {
		r := newRig(t)
		r.do("set holding alone 150ms", "set <nil>")
		unix.Kill(r.guard, unix.SIGSTOP)
		r.signal(unix.SIGKILL)
		if s, err := TakeOver(r.dir); !errors.Is(err, ErrKilled) || s != nil {
			t.Fatalf("%v, %v, want ErrKilled", s, err)
		}
		r.expectEnd()
	})
	t.Run("a stale socket is removed", func(t *testing.T) {
		dir := t.TempDir()
		d, err := openDoor(dir)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(d.fd)
		if s, err := TakeOver(dir); s != nil || err != nil {
			t.Fatalf("%v, %v", s, err)
		}
		if _, err := os.Stat(d.path); !os.IsNotExist(err) {
			t.Fatalf("it is still there: %v", err)
		}
	})
	t.Run("somebody else's socket is left alone", func(t *testing.T) {
		dir := t.TempDir()
		d, err := openDoor(dir) // our own process must not be killed
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(d.fd)
		if s, err := TakeOver(dir); s != nil || err == nil || errors.Is(err, ErrKilled) {
			t.Fatalf("%v, %v", s, err)
		}
	})
}

func TestGuardKilled(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 150ms", "set <nil>")
	unix.Kill(r.guard, unix.SIGKILL)
	r.expect("died", time.Second)
	r.do("set holding peer 150ms", "set tell the guard: the guard has ended")
	r.do("restart", "started") // the dead one's socket lies in the way
	r.guard = 0
	r.do("set holding peer 150ms", "set <nil>")
	r.signal(unix.SIGKILL)
	r.expectEnd("remove 1", "send 1")
}

func TestNeitherWaitsForTheOther(t *testing.T) {
	for blocked, free := range map[string]string{"remove": "send 1", "send": "remove 1"} {
		t.Run(blocked+" blocks", func(t *testing.T) {
			r := newRig(t, "GUARD_BLOCK="+blocked+":200ms")
			r.do("set holding peer 150ms", "set <nil>")
			killed := r.signal(unix.SIGKILL)
			within(t, free, killed, r.expect(free, time.Second).at, fenceTime)
			r.expectEnd("remove 1", "send 1")
		})
	}
}

func TestGarbage(t *testing.T) {
	r := newRig(t)
	r.do("set holding peer 1s", "set <nil>")
	r.do("garbage", "littered")
	for range 20 { // more than the guard keeps
		conn, err := net.Dial("unixpacket", filepath.Join(r.dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	for _, g := range []string{"", "x", `{"kind":"state","state":{"holding":false}}`, `{"kind":"retire"}`, `{"kind":"taken"}`, strings.Repeat("y", 100000)} {
		conn, err := net.Dial("unixpacket", filepath.Join(r.dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte(g))
		conn.Close()
	}
	r.expectNothing(100 * ms)
	killed := r.signal(unix.SIGKILL)
	at := r.expectSet(time.Second, "remove 1", "send 1")
	within(t, "addresses removed", killed, at["remove 1"], fenceTime)
	r.expectEnd("remove 1", "send 1")
}

// A guard that stands still must not block the daemon, and when it goes on it
// must have the newest state.
func TestSetNeverBlocksNorLosesTheNewest(t *testing.T) {
	r := newRig(t)
	r.do("set holding alone 150ms", "set <nil>")
	unix.Kill(r.guard, unix.SIGSTOP)
	r.do("flood", "flooded <nil> true")
	unix.Kill(r.guard, unix.SIGCONT)
	r.expectNothing(2 * hang)
	r.signal(unix.SIGKILL)
	r.expectSet(time.Second, "remove 1", "send 1")
	r.expectEnd("remove 1", "send 1")
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	r := newRig(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, exe, dir, want string
	}{
		{"no such program", "/no/such/harouter", t.TempDir(), "no such file"},
		{"another guard", exe, r.dir, "another guard is there"},
		{"no run directory", exe, "/no/such/dir", "open /no/such/dir/guard.sock: no such file"},
		{"long path", exe, "/" + strings.Repeat("x", 110), "longer than the 107 bytes"},
		{"not a guard", "/bin/true", t.TempDir(), "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Start(tt.exe, []string{"as-guard", tt.dir}, tt.dir, nil)
			if err == nil {
				t.Fatalf("started process %d", c.PID())
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want it to say %q", err, tt.want)
			}
		})
	}
	t.Run("by hand", func(t *testing.T) {
		out, err := exec.Command(exe, "as-guard", t.TempDir()).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "started by the daemon, not by hand") {
			t.Fatalf("%v: %s", err, out)
		}
	})
}
