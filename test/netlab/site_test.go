package netlab

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSiteIsBuiltQuicklyAndLeavesNothing(t *testing.T) {
	root := func() string {
		return ok(run("", "ip", "-br", "link"))(t) + ok(run("", "ip", "-br", "address"))(t) + ok(run("", "ip", "route", "show", "table", "all"))(t)
	}
	before := root()
	begin := Now()
	s := ok(New(Pair(PairOptions{WANOwn: true})))(t)
	within(t, "building the standard site", Now().Sub(begin), 0, 1500*time.Millisecond)
	sleeper := ok(s.Router("r1").Start("sleeper", "sleep", "1000"))(t)
	stubborn := ok(s.Router("r2").Start("stubborn", "sh", "-c", "trap '' TERM; setsid sleep 1000 & wait"))(t)
	ok(s.Serve("net"))(t)
	client := ok(s.Load("net", Load{UDP: []UDPFlows{{Server: netip.AddrPortFrom(server, EchoPort), Flows: 1, Interval: time.Millisecond}}}))(t)
	ok(s.Port("isp1", "wan0").Emulate(Line{}, Line{}))(t)
	ok(s.Port("r1", "lan0").Capture(nil))(t)

	if !strings.Contains(ok(run("", "ip", "netns", "list"))(t), s.Prefix) {
		t.Error("no namespace with the site's prefix")
	}
	must(t, s.Close())
	must(t, s.Close())
	if names := ok(run("", "ip", "netns", "list"))(t); strings.Contains(names, s.Prefix) {
		t.Errorf("namespaces left: %s", names)
	}
	for _, p := range []*Process{sleeper, stubborn, client.agent.Process} {
		select {
		case <-p.Done():
		default:
			t.Errorf("%s still runs", p.Label)
		}
	}
	if left := running(t, s.Prefix); left != "" {
		t.Errorf("processes left: %s", left)
	}
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("folder %s is left", s.Dir)
	}
	if after := root(); after != before {
		t.Errorf("the caller's namespace changed: %s\nwas %s", after, before)
	}
}

// running lists command lines of processes in the site's folder.
func running(t *testing.T, prefix string) string {
	t.Helper()
	var found []string
	entries := ok(os.ReadDir("/proc"))(t)
	for _, e := range entries {
		cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if err == nil && strings.Contains(cwd, prefix) {
			found = append(found, e.Name()+" in "+cwd)
		}
	}
	return strings.Join(found, ", ")
}

// builder starts a process that has built a site and returns its prefix.
func builder(t *testing.T) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(ok(os.Executable())(t))
	cmd.Env = append(os.Environ(), roleEnv+"=builder")
	cmd.Stderr = os.Stderr
	out := ok(cmd.StdoutPipe())(t)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line := make([]byte, 100)
	n := ok(out.Read(line))(t)
	return cmd, strings.TrimSpace(string(line[:n]))
}

func TestSignalTakesTheSiteDown(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, prefix := builder(t)
		must(t, cmd.Process.Signal(sig))
		_ = cmd.Wait()
		if status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != sig {
			t.Errorf("after %s the process ended with %v", sig, cmd.ProcessState)
		}
		if names := ok(siteNames())(t); names[prefix] != nil {
			t.Errorf("after %s: left %v", sig, names[prefix])
		}
	}
}

func TestSweepRemovesOnlyWhatTheDeadLeft(t *testing.T) {
	mine := ForTest(t, Spec{Routers: []RouterSpec{{Name: "r1"}}})
	cmd, prefix := builder(t)
	if swept := ok(Sweep())(t); len(swept) != 0 {
		t.Errorf("swept %v while its creator lives", swept)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if left := running(t, prefix); left == "" {
		t.Error("the killed builder should have left its sleeper")
	}
	must(t, os.WriteFile(keepFile(prefix), nil, 0o644))
	if swept := ok(Sweep())(t); len(swept) != 0 {
		t.Errorf("swept %v, which is to be kept", swept)
	}
	must(t, os.Remove(keepFile(prefix)))
	if swept := ok(Sweep())(t); len(swept) != 1 || swept[0] != prefix {
		t.Errorf("swept %v, want %s", swept, prefix)
	}
	if left := running(t, prefix); left != "" {
		t.Errorf("processes left: %s", left)
	}
	if names := ok(siteNames())(t); names[prefix] != nil || names[mine.Prefix] == nil {
		t.Errorf("sites now: %v", names)
	}
}

func TestKeptSiteStandsUntilRemoved(t *testing.T) {
	s := plain(t)
	ok(s.Port("isp1", "wan0").Emulate(Line{Delay: time.Second}, Line{}))(t)
	commands := ok(s.Keep())(t)
	must(t, s.Close()) // no longer takes it down
	cmd := exec.Command("ip", "netns", "exec", s.Prefix+"-h1", ok(os.Executable())(t), server.String())
	cmd.Env = append(os.Environ(), roleEnv+"=reach")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("a kept site should forward at full speed: %v %s", err, out)
	}
	if left := running(t, s.Prefix); !strings.Contains(left, "net") {
		t.Errorf("the server does not run on: %q", left)
	}
	ok(run("", "sh", "-c", commands[len(commands)-1]))(t)
	if names := ok(siteNames())(t); names[s.Prefix] != nil {
		t.Errorf("left after %s: %v", commands[len(commands)-1], names[s.Prefix])
	}
	if left := running(t, s.Prefix); left != "" {
		t.Errorf("processes left: %s", left)
	}
}

func TestSpecIsChecked(t *testing.T) {
	bad := Pair(PairOptions{})
	bad.Routers[1].Name = "r1"
	bad.ISPs[0].Name = "Much-too-long"
	bad.LANs[0].Net = netip.MustParsePrefix("192.168.77.1/24")
	_, err := New(bad)
	for _, want := range []string{`"r1"`, `"Much-too-long"`, "192.168.77.1/24"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestManyISPsLANsAndRouters(t *testing.T) {
	spec := Pair(PairOptions{Routers: 3, ISPs: 16, Hosts: 2, WANOwn: true})
	spec.LANs = append(spec.LANs, LANSpec{Name: "guests", Net: netip.MustParsePrefix("10.9.0.0/24"), Own: true, Hosts: 1})
	s := ForTest(t, spec)
	for _, c := range []struct{ node, to string }{
		{"r3", "198.18.16.1"}, {"r3", "10.9.0.100"}, {"r3", "192.0.2.1"}, {"h2", "192.168.77.4"}, {"isp16", "198.51.100.2"},
	} {
		if !pings(s.Node(c.node), c.to) {
			t.Errorf("%s does not reach %s", c.node, c.to)
		}
	}
}
