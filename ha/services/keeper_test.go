package services

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/standin"
)

// rig is a Keeper whose PATH has stand-ins that write down what they are told.
// One that is told of a service fails while there is a file SERVICE.fails, and
// hangs at a verb while there is SERVICE.VERB.
type rig struct {
	*Keeper
	t      *testing.T
	dir    string
	alarms chan string
	stop   func()
}

func newRig(t *testing.T, programs []string, names ...string) *rig {
	dir := t.TempDir()
	for _, p := range programs {
		script := "#!/bin/sh\ncd " + dir + "\ncase $0 in *systemctl) v=$1 n=$2;; *) v=$2 n=$1;; esac\n" +
			"[ -e $n.fails ] && { echo $n is broken; echo really; exit 5; }\n" +
			"echo ${0##*/} \"$@\" >>calls\n[ -e $n.$v ] && sleep 600\nexit 0\n"
		if err := os.WriteFile(filepath.Join(dir, p), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The stand-ins need a shell and sleep, which lie beside the real ones.
	for _, p := range []string{"sh", "sleep"} {
		at, err := exec.LookPath(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(at, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	g := &rig{t: t, dir: dir, alarms: make(chan string, 100)}
	g.Keeper = New(names, 300*time.Millisecond, Ports{
		Command: standin.Command, Log: slog.New(slog.DiscardHandler),
		Failed: func(service string, failed bool, text string) {
			g.alarms <- fmt.Sprint(service, " ", failed, " ", text)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return g
}

func (g *rig) touch(name string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), nil, 0o644); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) remove(name string) {
	g.t.Helper()
	if err := os.Remove(filepath.Join(g.dir, name)); err != nil {
		g.t.Fatal(err)
	}
}

// calls are those of each service in their order, the services by name.
func (g *rig) calls() string {
	b, _ := os.ReadFile(filepath.Join(g.dir, "calls"))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(service(a), service(b)) })
	return strings.Join(lines, ", ")
}

// service is the one that a call is about.
func service(call string) string {
	w := strings.Fields(call)
	if len(w) < 3 {
		return ""
	}
	if w[0] == "systemctl" {
		return w[2]
	}
	return w[1]
}

// over waits until the alarm of a service ends.
func (g *rig) over(name string) {
	for a := range g.alarms {
		if a == name+" false " {
			return
		}
	}
}

func (g *rig) await(want string) {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); g.calls() != want; runtime.Gosched() {
		if time.Now().After(end) {
			g.t.Fatalf("the calls were %q, want %q", g.calls(), want)
		}
	}
}

func TestFollowsTheRole(t *testing.T) {
	g := newRig(t, []string{"systemctl"}, "dhcpd", "radvd")
	g.Serve(true)
	g.await("systemctl start dhcpd, systemctl start radvd")
	g.Serve(true)
	g.Serve(false)
	g.await("systemctl start dhcpd, systemctl stop dhcpd, systemctl start radvd, systemctl stop radvd")
	g.Configure([]string{"radvd", "ntpd"})
	g.Serve(true)
	const all = "systemctl start dhcpd, systemctl stop dhcpd, systemctl start ntpd, systemctl start radvd, systemctl stop radvd, systemctl start radvd"
	g.await(all)
	g.stop()
	if g.calls() != all {
		t.Errorf("the end called %s", g.calls())
	}
}

func TestManagers(t *testing.T) {
	for _, c := range []struct {
		name     string
		programs []string
		want     string
	}{
		{"systemd", []string{"systemctl"}, "systemctl start dhcpd"},
		{"openrc", []string{"rc-service"}, "rc-service dhcpd start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, c.programs, "dhcpd")
			g.Serve(true)
			g.await(c.want)
			g.stop()
		})
	}
	t.Run("none", func(t *testing.T) {
		g := newRig(t, nil, "dhcpd")
		g.Serve(true)
		if diff := cmp.Diff("dhcpd true start dhcpd: neither systemctl nor rc-service is in PATH; it is tried again", <-g.alarms); diff != "" {
			t.Error(diff)
		}
		g.stop()
	})
}

// TestOneThatHangs holds up no other, and a change of the role ends it.
func TestOneThatHangs(t *testing.T) {
	g := newRig(t, []string{"systemctl"}, "hangs", "works")
	g.touch("hangs.start")
	g.Serve(true)
	g.await("systemctl start hangs, systemctl start works")
	g.Serve(false)
	g.await("systemctl start hangs, systemctl stop hangs, systemctl start works, systemctl stop works")
	if len(g.alarms) > 0 {
		t.Error(<-g.alarms)
	}
	g.stop()
}

// TestLimit: one that hangs for too long is killed, told, and tried again.
func TestLimit(t *testing.T) {
	g := newRig(t, []string{"systemctl"}, "hangs")
	g.limit = 500 * time.Millisecond
	g.touch("hangs.start")
	g.Serve(true)
	if diff := cmp.Diff("hangs true start hangs by systemctl: killed after 500ms; it is tried again", <-g.alarms); diff != "" {
		t.Error(diff)
	}
	g.remove("hangs.start")
	g.over("hangs")
	g.stop()
}

func TestOneThatFails(t *testing.T) {
	g := newRig(t, []string{"systemctl"}, "bad", "good")
	g.touch("bad.fails")
	g.Serve(true)
	if diff := cmp.Diff("bad true start bad by systemctl: exit status 5: bad is broken; it is tried again", <-g.alarms); diff != "" {
		t.Error(diff)
	}
	g.remove("bad.fails")
	g.over("bad")
	g.await("systemctl start bad, systemctl start good")
	g.touch("bad.fails")
	g.Serve(false)
	if a := <-g.alarms; !strings.HasPrefix(a, "bad true stop bad by systemctl: ") {
		t.Error(a)
	}
	g.Configure([]string{"good"}) // no alarm of what is in the file no more
	g.over("bad")
	g.stop()
}

// TestStart: a node that does not know its role stops nothing for a while, and
// nothing at all if it ends before.
func TestStart(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(*rig)
		want string
	}{
		{"a backup", func(g *rig) { g.await("systemctl stop dhcpd") }, "systemctl stop dhcpd"},
		{"a lone master starts anew", func(g *rig) { g.Serve(true); g.await("systemctl start dhcpd") }, "systemctl start dhcpd"},
		{"it ends", func(*rig) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, []string{"systemctl"}, "dhcpd")
			g.Serve(false)
			c.then(g)
			g.stop()
			if diff := cmp.Diff(c.want, g.calls()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEnd: what is to be stopped still is, but not for long; what runs goes on.
func TestEnd(t *testing.T) {
	g := newRig(t, []string{"rc-service"}, "dhcpd", "hangs")
	g.touch("hangs.stop")
	g.Serve(true)
	g.await("rc-service dhcpd start, rc-service hangs start")
	began := time.Now()
	g.Serve(false)
	g.stop()
	if took := time.Since(began); took > endLimit+10*time.Second {
		t.Errorf("the end took %v", took)
	}
	if diff := cmp.Diff("rc-service dhcpd start, rc-service dhcpd stop, rc-service hangs start, rc-service hangs stop", g.calls()); diff != "" {
		t.Error(diff)
	}
}
