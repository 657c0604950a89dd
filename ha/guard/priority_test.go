package guard

import (
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
