package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// openrc is what openrc-run gives to a service script, in short: it says what it
// is asked for.
const openrc = `
RC_SVCNAME=harouter
ebegin() { echo "begin: $*"; }
eend() { echo "end: $1"; return "$1"; }
checkpath() { echo "checkpath $*"; }
need() { echo "need $*"; }
use() { echo "use $*"; }
after() { echo "after $*"; }
`

// TestOpenRC exercises the functions of the service script with a stand-in for
// openrc-run and for the program.
func TestOpenRC(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "harouter")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\necho \"ran $*\"\n[ \"$1\" != \"$REFUSE\" ]\n"), 0o755))
	text, err := os.ReadFile(filepath.Join(top, "deploy/openrc/harouter"))
	must(t, err)
	script := filepath.Join(dir, "script")
	must(t, os.WriteFile(script, []byte(openrc+strings.ReplaceAll(string(text), "/usr/local/sbin/harouter", program)), 0o644))
	flags := `HAROUTER_FLAGS="--node r9"; `
	for name, test := range map[string]struct {
		line, want string
		fails      bool
	}{
		"depends":           {". $S; depend", "need localmount\nuse net logger\nafter net nftables", false},
		"starts":            {flags + `. $S; start_pre; echo "$command $command_args"`, "checkpath --directory --mode 0755 /run/harouter /var/lib/harouter\n" + program + " run --node r9", false},
		"a bad file":        {"REFUSE=check; export REFUSE; . $S; start_pre", "checkpath", true},
		"checks":            {flags + ". $S; check", "ran check --node r9\nend: 0", false},
		"reloads":           {flags + ". $S; reload", "ran reload --node r9\nend: 0", false},
		"a refused reload":  {"REFUSE=reload; export REFUSE; . $S; reload", "end: 1", true},
		"fences at the end": {flags + ". $S; stop_post", "ran fence --node r9", false},
		"patience":          {`. $S; echo "$retry $respawn_max $supervisor"`, "TERM/15/KILL/5 0 supervise-daemon", false},
		"more patience":     {`HAROUTER_PATIENCE=30; . $S; echo "$retry"`, "TERM/30/KILL/5", false},
		"logs to syslog":    {`. $S; echo "$error_logger|$error_log"`, "logger -t harouter -p daemon.info|\n", false},
		"logs to a file":    {`HAROUTER_LOG=/x; . $S; echo "$error_logger|$error_log"`, "|/x\n", false},
		"commands":          {`. $S; echo "$extra_commands $extra_started_commands $required_files"`, "check reload /etc/harouter/harouter.yaml /etc/harouter/cluster.key", false},
	} {
		// In a process of its own, since starting sets the shell's score for the end of memory.
		c := exec.Command("sh", "-c", test.line)
		c.Env = append(os.Environ(), "S="+script)
		out, err := c.CombinedOutput()
		if !strings.Contains(string(out), test.want) || (err != nil) != test.fails {
			t.Errorf("%s: %v, %q, want %q", name, err, out, test.want)
		}
	}
}
