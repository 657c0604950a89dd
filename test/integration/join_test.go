package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestJoinARouter: r2 gets file and key from r1 by one ticket, and is a backup
// at its next run; the ticket is good for nothing else.
func TestJoinARouter(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{}, site.Config)
	key := filepath.Join(c.Router("r2").ConfigDir(), "cluster.key")
	want, err := os.ReadFile(key)
	must(t, err)
	must(t, os.Remove(key))
	must(t, os.Remove(c.ConfigFile("r2")))
	must(t, c.Up("r1"))

	line, err := c.Command("r1", "token", "--ttl", "10m")
	must(t, err)
	words := strings.Fields(line)
	if len(words) != 5 || strings.Join(words[:4], " ") != "harouter join 192.0.2.1 --token" || !strings.HasSuffix(line, "\n") {
		t.Fatalf("token printed %q", line)
	}
	if out, err := c.Command("r2", append(slices.Clone(words[1:4]), words[4][:30])...); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("a ticket that is cut off: %q, error %v", out, err)
	}
	out, err := c.Command("r2", words[1:]...)
	must(t, err)
	t.Log(out)
	got, err := os.ReadFile(key)
	must(t, err)
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 || string(got) != string(want) {
		t.Errorf("key: %v, error %v, equal: %v", info.Mode(), err, string(got) == string(want))
	}
	if text, err := os.ReadFile(c.ConfigFile("r2")); err != nil || string(text) != site.Config {
		t.Errorf("file %q, error %v", text, err)
	}
	if out, err = c.Command("r2", words[1:]...); err == nil || !strings.Contains(err.Error(), "is here already") {
		t.Errorf("where a file exists: %q, error %v", out, err)
	}
	if out, err = c.Command("r2", append(slices.Clone(words[1:]), "--force")...); err == nil || !strings.Contains(err.Error(), "takes no new router at this moment") {
		t.Errorf("a used ticket: %q, error %v", out, err)
	}

	must(t, c.Run("r2"))
	must(t, c.Wait("r2 is a backup", "r2", 10*time.Second, func(s ha.Status) bool {
		return s.Role == ha.RoleBackup && s.VRRP.Master == "r1" && s.Config.InSync
	}))

	// Another ticket keeps the port open: the used one is told as such, and counted.
	_, err = c.Command("r1", "token")
	must(t, err)
	if out, err = c.Command("r2", append(slices.Clone(words[1:]), "--force")...); err == nil || !strings.Contains(err.Error(), "used already, by r2") {
		t.Errorf("a used ticket: %q, error %v", out, err)
	}
	must(t, c.Wait("the used ticket is counted", "r1", 2*time.Second, func(s ha.Status) bool { return s.Drops.Sync["used"] == 1 }))
}
