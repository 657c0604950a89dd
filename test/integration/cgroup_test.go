package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
)

// cgroup is a control group of this test's own.
type cgroup struct{ dir string }

// newCgroup makes one that has a file of that name, directly below the root of a
// hierarchy. Not ok: this machine has none, or none that may be written; why says so.
func newCgroup(t *testing.T, file string) (g cgroup, why string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	why = "no control groups are mounted"
	for l := range strings.Lines(string(mounts)) {
		f := strings.Fields(l)
		if len(f) < 4 || f[2] != "cgroup2" && !(f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), "memory")) {
			continue
		}
		dir, err := os.MkdirTemp(f[1], "harouter-test-")
		if err != nil {
			why = err.Error()
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			why = err.Error()
			must(t, os.Remove(dir))
			continue
		}
		g := cgroup{dir}
		t.Cleanup(func() { g.remove(t) })
		return g, ""
	}
	return cgroup{}, why
}

// remove ends the group; what is left in it goes to the root.
func (g cgroup) remove(t *testing.T) {
	for _, pid := range g.processes(t) {
		_ = os.WriteFile(filepath.Join(filepath.Dir(g.dir), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0) // it may have ended
	}
	if err := netlab.WaitFor("the group is empty", 5*time.Second, func() bool { return os.Remove(g.dir) == nil }); err != nil {
		t.Error(err)
	}
}

func (g cgroup) set(t *testing.T, file, value string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0))
}

// take puts processes into the group.
func (g cgroup) take(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		g.set(t, "cgroup.procs", strconv.Itoa(pid))
	}
}

func (g cgroup) processes(t *testing.T) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	must(t, err)
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// killed is how many processes of it the kernel ended to save memory.
func (g cgroup) killed(t *testing.T) (n int) {
	t.Helper()
	for _, file := range []string{"memory.events", "memory.oom_control"} {
		b, err := os.ReadFile(filepath.Join(g.dir, file))
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(l, "oom_kill "); ok {
				_, err := fmt.Sscan(rest, &n)
				must(t, err)
			}
		}
	}
	return n
}

// memoryGroup is one whose memory has a limit, bytes.
func memoryGroup(t *testing.T, limit int) (g cgroup, why string) {
	t.Helper()
	for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
		if g, why = newCgroup(t, file); why == "" {
			g.set(t, file, strconv.Itoa(limit))
			return g, ""
		}
	}
	return g, why
}
