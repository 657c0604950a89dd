package samples

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestCopyLeases has two routers, which are two directories, and an ssh that runs
// the command on the other one.
func TestCopyLeases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, name))
		return string(b)
	}
	// The last two words are the router and the command.
	write("bin/ssh", "#!/bin/sh\necho x >>\""+dir+"/calls\"\nwhile [ $# -gt 2 ]; do shift; done\n[ -e \""+dir+"/$1.off\" ] && exit 255\ncd \""+dir+"/$1\" && exec sh -c \"$2\"\n", 0o755)
	write("r1/leases", "", 0o644)
	write("r2/leases", "", 0o644)
	run := func(on, other string, args ...string) error {
		script, err := filepath.Abs("dnsmasq/copy-leases")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(script, args...)
		cmd.Dir = filepath.Join(dir, on)
		cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "HAROUTER_PEER="+other, "HAROUTER_LEASES=leases")
		return cmd.Run()
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(name, text string) {
		t.Helper()
		if got := read(name); got != text {
			t.Errorf("%s: %q, want %q", name, got, text)
		}
	}

	write("r1/leases", "one\n", 0o644)
	ok(run("r1", "r2", "add", "00:11:22:33:44:55", "192.168.77.100"))
	want("r2/leases", "one\n")
	ok(run("r1", "r2", "old", "00:11:22:33:44:55", "192.168.77.100"))
	want("calls", "x\n") // nothing new

	write("r2.off", "", 0o644)
	write("r1/leases", "one\ntwo\n", 0o644)
	if run("r1", "r2", "add") == nil {
		t.Error("a router that is off is no error")
	}
	ok(run("r1", "r2", "old"))
	want("calls", "x\nx\n") // not for each lease
	if err := os.Remove(filepath.Join(dir, "r2.off")); err != nil {
		t.Fatal(err)
	}
	ok(run("r2", "r1", "backup", "r2", "unknown"))
	want("r2/leases", "one\ntwo\n")

	write("r1/leases", "", 0o644) // a new router has none: what is here stays
	ok(run("r2", "r1", "backup", "r2", "fault"))
	want("r2/leases", "one\ntwo\n")
	ok(run("r1", "r2", "add"))
	want("r2/leases", "one\ntwo\n")
}
