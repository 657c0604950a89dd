package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
)

// packages are in that root beside the essential ones.
const packages = "systemd,systemd-sysv,iproute2,procps,iputils-ping,dbus,libpam-systemd,network-manager"

// debian is the root that the containers share: made once, and only read.
func debian(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(top, "bin/debian"))
	must(t, err)
	root, done := filepath.Join(dir, "root"), filepath.Join(dir, "complete")
	if made, err := os.ReadFile(done); err == nil && string(made) == packages {
		return root
	}
	must(t, os.RemoveAll(root))
	must(t, os.MkdirAll(dir, 0o755))
	t.Log("making a Debian root in bin/debian")
	run(t, dir, "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", root)
	run(t, dir, "chroot", root, "systemctl", "mask", "NetworkManager") // but for the test that wants it
	must(t, os.WriteFile(done, []byte(packages), 0o644))
	return root
}

// container is a router of the site in which a Debian runs.
type container struct {
	t    *testing.T
	node *netlab.Node
	init int // its first process, as this machine sees it
}

// boot starts systemd in a router.
func boot(t *testing.T, node *netlab.Node, lower string) *container {
	t.Helper()
	script, err := filepath.Abs("boot.sh")
	must(t, err)
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "upper/etc"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "upper/etc/hostname"), []byte(node.Name+"\n"), 0o644))
	c := &container{t: t, node: node}
	group := "harouter-" + node.Namespace() // several sites at once have one of that name
	p, err := node.Start("init", "unshare", "--mount", "--kill-child", "sh", script, lower, dir, node.Name, group)
	must(t, err)
	t.Cleanup(func() {
		_ = p.Kill()
		if err := netlab.WaitFor("its control group to be empty", 10*time.Second, func() bool {
			return exec.Command("unshare", "--mount", "sh", script, lower, dir, "", group).Run() == nil
		}); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			if log, err := os.ReadFile(p.Log); err == nil {
				t.Logf("%s, its init:\n%s", node.Name, log)
			}
		}
	})
	must(t, netlab.WaitFor("systemd of "+node.Name, 60*time.Second, func() bool {
		if c.init == 0 {
			c.init = firstOf(p.PID)
		}
		if c.init == 0 {
			return false
		}
		out, err := c.try("systemctl is-system-running")
		return err == nil && strings.TrimSpace(out) == "running"
	}))
	return c
}

// firstOf finds systemd among the descendants of a process; 0: not yet.
func firstOf(pid int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, word := range strings.Fields(string(children)) {
		var child int
		if _, err := fmt.Sscan(word, &child); err != nil {
			continue
		}
		if exe, err := os.Readlink("/proc/" + word + "/exe"); err == nil && strings.HasSuffix(exe, "/systemd") {
			return child
		}
		if found := firstOf(child); found != 0 {
			return found
		}
	}
	return 0
}

// try runs a shell line in the container.
func (c *container) try(line string) (string, error) {
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(c.init), "-m", "-p", "-n", "-C", "-u", "-i",
		"env", "-i", "HOME=/root", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", line)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sh is try that must succeed.
func (c *container) sh(line string) string {
	c.t.Helper()
	out, err := c.try(line)
	if err != nil {
		c.t.Fatalf("%s: %s: %v\n%s", c.node.Name, line, err, out)
	}
	return out
}

// put copies a file into the container.
func (c *container) put(from, to string) {
	c.t.Helper()
	text, err := os.ReadFile(from)
	must(c.t, err)
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(c.init), "-m", "sh", "-c", "cat > "+to)
	cmd.Stdin = strings.NewReader(string(text))
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// wait waits until a shell line succeeds.
func (c *container) wait(what, line string, within time.Duration) {
	c.t.Helper()
	if err := netlab.WaitFor(what, within, func() bool { _, err := c.try(line); return err == nil }); err != nil {
		status, _ := c.try("harouter status; systemctl status harouter --no-pager; journalctl -u harouter --no-pager -n 40")
		c.t.Fatalf("%v\n%s", err, status)
	}
}
