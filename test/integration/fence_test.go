package integration

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// guardOf is the process id of a router's guard, 0 if none runs.
func guardOf(t *testing.T, c *site.Cluster, router string) int {
	t.Helper()
	running, err := c.Router(router).Processes()
	must(t, err)
	for _, p := range running {
		if strings.Contains(p.Args, "guard-process") {
			return p.PID
		}
	}
	return 0
}

// someGuardOf is one that is there: a signal to process 0 is one to this test.
func someGuardOf(t *testing.T, c *site.Cluster, router string) int {
	t.Helper()
	pid := guardOf(t, c, router)
	if pid == 0 {
		t.Fatalf("%s has no guard", router)
	}
	return pid
}

// TestGuardAndDaemon: what happens when the guard dies or hangs, when both
// processes die together, and when that happens again and again.
func TestGuardAndDaemon(t *testing.T) {
	t.Parallel()
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	another := func(t *testing.T, old int) {
		t.Helper()
		if err := netlab.WaitFor("another guard", 10*time.Second, func() bool {
			pid := guardOf(t, c, "r1")
			// One that is stopped before it is ready is another matter.
			return pid != 0 && pid != old && strings.Contains(c.Log("r1"), fmt.Sprintf("guard started\" part=guard pid=%d", pid))
		}); err != nil {
			t.Error(err)
		}
		if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r1"}) {
			t.Errorf("held by %v", h)
		}
	}
	t.Run("the guard is killed", func(t *testing.T) {
		old := someGuardOf(t, c, "r1")
		must(t, syscall.Kill(old, syscall.SIGKILL))
		another(t, old)
	})
	t.Run("the guard hangs", func(t *testing.T) {
		old := someGuardOf(t, c, "r1")
		must(t, syscall.Kill(old, syscall.SIGSTOP))
		another(t, old)
	})
	t.Run("out of memory, the new guard fences", func(t *testing.T) {
		time.Sleep(100 * time.Millisecond) // it has its orders
		group, why := memoryGroup(t, 8<<20)
		at := netlab.Now()
		if why != "" {
			t.Logf("no real lack of memory here (%s): killed instead", why)
			must(t, c.Daemons["r1"].Kill())
		} else {
			// The daemon alone: without CAP_SYS_RESOURCE the guard cannot be exempt from it here.
			group.take(t, c.Daemons["r1"].PID)
			for n := 0; c.Daemons["r1"].Ended() == 0 && n < 100000; n += 5000 { // the table of flows grows
				entries(t, c, "r1", n, n+5000)
			}
			t.Logf("the daemon ended %v after it began to get more", c.Daemons["r1"].Ended().Sub(at))
			if n := group.killed(t); n != 1 || c.Daemons["r1"].Ended() == 0 || slices.Contains(group.processes(t), c.Daemons["r1"].PID) {
				t.Fatalf("the kernel ended %d processes, the daemon at %v", n, c.Daemons["r1"].Ended())
			}
		}
		must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
		if o := c.Watch().Overlap(site.LANAddress, at); o > 0 {
			t.Errorf("two holders for %v", o)
		}
	})
	// both kills daemon and guard together, and then what systemd would do.
	both := func(t *testing.T) {
		t.Helper()
		guard := someGuardOf(t, c, "r1")
		if group, why := newCgroup(t, "cgroup.kill"); why == "" {
			group.take(t, c.Daemons["r1"].PID, guard)
			group.set(t, "cgroup.kill", "1")
			must(t, netlab.WaitFor("all have ended", 5*time.Second, func() bool { return len(group.processes(t)) == 0 }))
			<-c.Daemons["r1"].Done()
		} else {
			t.Logf("no end of a whole cgroup here (%s): killed one by one", why)
			must(t, syscall.Kill(guard, syscall.SIGSTOP)) // it does nothing between the two signals
			must(t, c.Daemons["r1"].Kill())
			must(t, syscall.Kill(guard, syscall.SIGKILL))
		}
		at := netlab.Now()
		out, err := c.Command("r1", "fence")
		must(t, err)
		if !strings.Contains(out, "another one has done its work") {
			t.Errorf("fence says %q", out)
		}
		atMost(t, "the second line of defence", netlab.Now().Sub(at), time.Second, "100 ms")
		if h := c.Holders(site.LANAddress); slices.Contains(h, "r1") {
			t.Errorf("held by %v", h)
		}
		must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
	}
	t.Run("the whole cgroup ends", func(t *testing.T) {
		must(t, c.Run("r1"))
		must(t, c.WaitHolder(site.LANAddress, "r1", 15*time.Second))
		both(t)
		if out, err := c.Command("r1", "fence"); err != nil || out != "" {
			t.Errorf("fence where there is nothing to do says %q, %v", out, err)
		}
	})
	t.Run("again and again", func(t *testing.T) {
		must(t, c.Run("r1"))
		must(t, c.Wait("r1 is backup", "r1", 10*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleBackup }))
		must(t, c.Daemons["r1"].Kill()) // the third time
		must(t, c.Run("r1"))
		must(t, c.Wait("the alarm", "r1", 5*time.Second, alarmed(ha.AlarmServiceFailed, "harouter")))
		must(t, c.Wait("r1 is backup and shall be no more", "r2", 5*time.Second, func(s ha.Status) bool {
			return s.Role == ha.RoleMaster && s.Nodes[0].Role == ha.RoleBackup && s.Nodes[0].EffectivePriority != nil && *s.Nodes[0].EffectivePriority == 1
		}))
		at := netlab.Now()
		time.Sleep(4 * time.Second) // preempt_delay is 2 s
		if v := c.Watch().Moves(site.LANAddress, at); v != 0 {
			t.Errorf("%d moves", v)
		}
	})
}
