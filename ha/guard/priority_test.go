package guard

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestRights asks in processes of their own what they may have.
func TestRights(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, drop, want string }{
		{"all", "", "hurry <nil>; memory <nil>; nice <nil>; all 10 <nil>"},
		{"no SYS_NICE", "-sys_nice", "hurry set real-time priority: operation not permitted; memory <nil>; nice set nice -20: permission denied; all 0 set real-time priority 10: operation not permitted"},
		{"no IPC_LOCK", "-ipc_lock", "hurry <nil>; memory lock memory: neither CAP_IPC_LOCK nor an unlimited RLIMIT_MEMLOCK; nice <nil>; all 10 <nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"--memlock=8388608", exe, "as-asker"}
			if c.drop != "" {
				args = []string{"--memlock=8388608", "setpriv", "--bounding-set", c.drop, "--inh-caps", c.drop, exe, "as-asker"}
			}
			out, err := exec.Command("prlimit", args...).CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
				t.Errorf("%v\n got %s\nwant %s", err, got, c.want)
			}
		})
	}
}

func TestSecond(t *testing.T) {
	for _, c := range []struct {
		name string
		pid  int
		tids []int
		want int
		ok   bool
	}{
		{"alone", 7, []int{7}, 0, false},
		{"the next", 7, []int{7, 9, 8, 12}, 8, true},
		{"ids began anew for the third", 32767, []int{32767, 32768, 300, 301}, 32768, true},
		{"ids began anew for the second", 32768, []int{32768, 300, 301}, 300, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := second(c.pid, c.tids); got != c.want || ok != c.ok {
				t.Errorf("%d, %t, want %d, %t", got, ok, c.want, c.ok)
			}
		})
	}
}

// TestRelax: the kernel takes it for a thread of this process. One that the
// watchman has started meanwhile is relaxed too.
func TestRelax(t *testing.T) {
	if err := Relax(); err != nil {
		t.Fatal(err)
	}
	relaxed := 0
	err := eachThread(func(tid int) error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", tid))
		if err == nil && strings.TrimSpace(string(b)) == "500000" {
			relaxed++
		}
		return err
	})
	if err != nil || relaxed == 0 {
		t.Errorf("%d threads are relaxed (%v), want the runtime's watchman", relaxed, err)
	}
}
