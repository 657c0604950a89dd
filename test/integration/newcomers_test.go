package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/control"
	"harouter/test/netlab"
	"harouter/test/site"
)

// founding is a cluster that grows out of nothing: r1 founds it, r2 and r3 have
// the binary and no more.
type founding struct {
	*site.Cluster
	t *testing.T
}

// joinWords makes a ticket on a router: the words of the line that it prints,
// from join on.
func (f founding) joinWords(router string, args ...string) []string {
	f.t.Helper()
	line, err := f.Command(router, append([]string{"token"}, args...)...)
	must(f.t, err)
	words := strings.Fields(line)
	if len(words) != 5 || words[1] != "join" || words[3] != "--token" {
		f.t.Fatalf("token printed %q", line)
	}
	return words[1:]
}

// no runs a command that must fail with an exit code and one sentence that says
// what is wanted.
func (f founding) no(t *testing.T, code int, want, router string, args ...string) {
	t.Helper()
	out, err := f.Command(router, args...)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("exit status %d", code)) || !strings.Contains(err.Error(), want) || out != "" {
		t.Errorf("%s: printed %q, error %v; want exit status %d and %q", args[0], out, err, code, want)
	}
}

// bare checks that a router has no file of ours.
func (f founding) bare(t *testing.T, router string) {
	t.Helper()
	n := f.Router(router)
	for _, dir := range []string{n.ConfigDir(), n.StateDir()} {
		must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				t.Errorf("%s has the file %s", router, path)
			}
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}))
	}
}

// file is the configuration file as the daemon of a router sees it: r2 has
// small disks of its own.
func (f founding) file(router string) string {
	return f.disk(router, f.ConfigFile(router))
}

func (f founding) disk(router, path string) string {
	return fmt.Sprintf("/proc/%d/root%s", f.Daemons[router].PID, path)
}

func (f founding) text(router string) string {
	f.t.Helper()
	b, err := os.ReadFile(f.file(router))
	must(f.t, err)
	return string(b)
}

// confined starts a router's daemon with a small disk each for its files and its
// state, which nothing but it and its guard see.
func (f founding) confined(router string) {
	f.t.Helper()
	n := f.Router(router)
	const script = `for d in "$1" "$2"; do
  cp -a "$d" "$3" && mount -t tmpfs -o size=192k,mode=755 none "$d" && cp -a "$3/$(basename "$d")/." "$d" || exit 1
done; shift 3; exec "$@"`
	must(f.t, os.MkdirAll(n.StateDir(), 0o755))
	args := append([]string{"unshare", "--mount", "sh", "-c", script, "sh", n.ConfigDir(), n.StateDir(), f.t.TempDir()}, f.Args(router, "run")...)
	p, err := n.Start("harouter", args...)
	must(f.t, err)
	f.Daemons[router] = p
}

// fill leaves no room on the disk of a directory, until the returned function.
func (f founding) fill(router, dir string) (empty func()) {
	f.t.Helper()
	path := f.disk(router, filepath.Join(dir, "filler"))
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		f.t.Fatalf("fill the disk: %v", err)
	}
	return func() { must(f.t, os.Remove(path)) }
}

// steady is what a change of the file must leave alone.
type steady struct {
	role        ha.Role
	transitions uint64
}

func (f founding) steady(router string) steady {
	f.t.Helper()
	s, err := f.Status(router)
	must(f.t, err)
	return steady{s.Role, s.VRRP.Transitions}
}

// runs waits until a router runs a generation, in sync with the nodes named, of
// which it hears those that have a role.
func (f founding) runs(t *testing.T, router string, generation uint64, nodes map[string]ha.Role) {
	t.Helper()
	must(t, f.Wait(fmt.Sprintf("%s runs generation %d of %d nodes", router, generation, len(nodes)), router, 8*time.Second, func(s ha.Status) bool {
		if s.Config.Generation != generation || !s.Config.InSync || len(s.Nodes) != len(nodes) || len(s.Alarms) > 0 {
			return false
		}
		for _, n := range s.Nodes {
			if role, ok := nodes[n.Name]; !ok || n.Role != role {
				return false
			}
		}
		return true
	}))
}

// mistaken is a ticket of the same cluster with another secret.
func mistaken(t *testing.T, word string) string {
	t.Helper()
	const prefix = "hj1_"
	text := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	raw, err := text.DecodeString(strings.TrimPrefix(word, prefix))
	must(t, err)
	raw = raw[:len(raw)-4]
	raw[len(raw)-1]++
	sum := sha256.Sum256(append([]byte(prefix), raw...))
	return prefix + text.EncodeToString(append(raw, sum[:4]...))
}

// TestClusterOutOfNothing is the life of a cluster as a person types it: init,
// run, token, join, leave; with what people get wrong, and with full disks.
func TestClusterOutOfNothing(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{Routers: 3}, site.Config)
	f := founding{c, t}
	for _, r := range []string{"r1", "r2", "r3"} {
		must(t, os.RemoveAll(c.Router(r).ConfigDir()))
	}
	must(t, c.Router("r3").IP("link set wan1 down", "link set wan1 name enp3s0", "link set enp3s0 up"))
	master, backup, unknown := ha.RoleMaster, ha.RoleBackup, ha.RoleUnknown

	f.no(t, 1, "no harouter daemon runs here", "r1", "token")
	_, err := c.Command("r1", "init", "--cluster", "home", "--address", "192.0.2.1", "--lan", "office=lan0,192.168.77.1/24",
		"--uplink", "cable=wan1,gateway=203.0.113.1,address=203.0.113.10/25,weight=2", "--uplink", "dsl=wan2,gateway=203.0.113.129,address=203.0.113.140/25")
	must(t, err)
	// A machine that stands still for 300 ms must not move the role meanwhile.
	text, err := os.ReadFile(c.ConfigFile("r1"))
	must(t, err)
	must(t, os.WriteFile(c.ConfigFile("r1"), append(text, "vrrp: {advertise: 300ms}\n"...), 0o644))
	_, err = c.Command("r1", "check")
	must(t, err)
	must(t, c.Run("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	f.runs(t, "r1", 1, map[string]ha.Role{"r1": master})
	founded := f.text("r1")
	client := load(t, c)
	c.Mark("grow")
	was := f.steady("r1")

	words := f.joinWords("r1")
	t.Run("wrong uses", func(t *testing.T) { f.wrongUses(t, words) })
	t.Run("another cluster", func(t *testing.T) { f.otherCluster(t, words) })
	f.joinerDisk(t, words)
	if f.text("r1") != founded {
		t.Fatal("the file changed")
	}

	_, err = c.Command("r2", append(words, "--address", "192.0.2.2")...)
	must(t, err)
	want, err := config.AddNode([]byte(founded), config.NewNode{Name: "r2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}})
	must(t, err)
	if got := f.text("r1"); got != string(want) || strings.Count(got, "#") != strings.Count(founded, "#") || strings.Count(got, "\n") <= strings.Count(founded, "\n") {
		t.Errorf("the file of r1 after the join:\n%s", got)
	}
	f.runs(t, "r1", 2, map[string]ha.Role{"r1": master, "r2": unknown})
	f.confined("r2")
	f.runs(t, "r2", 2, map[string]ha.Role{"r1": master, "r2": backup})
	f.runs(t, "r1", 2, map[string]ha.Role{"r1": master, "r2": backup})

	t.Run("refused on all", func(t *testing.T) { f.refusedOnAll(t) })
	t.Run("a third one, at the second", func(t *testing.T) {
		words := f.joinWords("r2", "--ttl", "5m")
		if words[1] != "192.0.2.2" {
			t.Errorf("the line is for %s", words[1])
		}
		_, err := c.Command("r3", append(words, "--address", "192.0.2.3", "--priority", "50", "--device", "cable=enp3s0")...)
		must(t, err)
		must(t, c.Run("r3"))
		for _, r := range []string{"r1", "r2", "r3"} {
			f.runs(t, r, 3, map[string]ha.Role{"r1": master, "r2": backup, "r3": backup})
			if text := f.text(r); !strings.Contains(text, "enp3s0") || text != f.text("r1") {
				t.Errorf("the file of %s:\n%s", r, text)
			}
		}
		s, err := c.Status("r3")
		must(t, err)
		if s.VRRP.Priority != 50 || s.Uplinks[0].Device != "enp3s0" {
			t.Errorf("r3: priority %d, cable on %s", s.VRRP.Priority, s.Uplinks[0].Device)
		}
	})
	t.Run("the port moves with the file", func(t *testing.T) { f.portMoves(t) })
	if now := f.steady("r1"); now != was {
		t.Errorf("r1 was %+v, is %+v", was, now)
	}

	t.Run("leave --forget, refused", func(t *testing.T) { f.notForgotten(t) })
	t.Run("leave --forget", func(t *testing.T) {
		_, err := c.Command("r3", "leave", "--forget")
		must(t, err)
		for _, r := range []string{"r1", "r2"} {
			f.runs(t, r, 5, map[string]ha.Role{"r1": master, "r2": backup})
			if strings.Contains(f.text(r), "r3") {
				t.Errorf("the file of %s:\n%s", r, f.text(r))
			}
		}
		c.Mark("hand over") // what is under way then may break, without a copy of the flows
		_, err = c.Command("r1", "leave", "--forget")
		must(t, err)
		must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
		f.runs(t, "r2", 6, map[string]ha.Role{"r2": master})
		f.no(t, 1, "no other node is alive", "r2", "leave", "--forget")
	})
	if t.Failed() {
		return // what follows builds on all of that
	}
	r := report(t, client)
	quietly(t, "silence seen by the host", r, r.PingGapSince("grow"), noise, "none")
	if n := r.FreshFailedSince("grow") - r.FreshFailedSince("hand over"); n > 0 {
		t.Errorf("%d fresh connections failed", n)
	}
	t.Run("a forgotten one comes back", func(t *testing.T) { f.forgotten(t) })
	f.story(t)
	for _, r := range []string{"r1", "r2", "r3"} {
		if log := c.Log(r); strings.Contains(log, "panic") {
			t.Errorf("%s panicked", r)
		}
	}
}

// wrongUses are of a newcomer; none writes anything or costs the ticket.
func (f founding) wrongUses(t *testing.T, words []string) {
	with := func(ticket string, args ...string) []string {
		return append([]string{"join", "192.0.2.1", "--token", ticket}, args...)
	}
	ticket := words[3]
	soon := f.joinWords("r1", "--ttl", "1s")[3]
	issued := netlab.Now()
	f.no(t, 2, "cut off", "r2", with(ticket[:40], "--address", "192.0.2.2")...)
	f.no(t, 2, "mistyped", "r2", with(ticket[:40]+"7"+ticket[41:len(ticket)-1]+"q", "--address", "192.0.2.2")...)
	f.no(t, 1, `has no node "r2": give the new router's address with --address`, "r2", with(ticket)...)
	f.no(t, 1, "is the name of the router that made the ticket", "r2", with(ticket, "--node", "r1", "--address", "192.0.2.2")...)
	f.no(t, 1, "192.0.2.1", "r2", with(ticket, "--address", "192.0.2.1")...) // another node's
	f.no(t, 1, "192.168.77.1", "r2", with(ticket, "--address", "192.168.77.1")...)
	f.no(t, 1, "fibre", "r2", with(ticket, "--address", "192.0.2.2", "--device", "fibre=wan1")...)
	f.no(t, 1, "nobody listens at 192.0.2.3:7947", "r2", "join", "192.0.2.3", "--token", ticket, "--address", "192.0.2.2")
	must(t, os.MkdirAll(f.Router("r2").ConfigDir(), 0o755))
	must(t, os.WriteFile(f.ConfigFile("r2"), []byte("mine\n"), 0o600))
	f.no(t, 2, "is here already", "r2", with(ticket, "--address", "192.0.2.2")...)
	must(t, os.Remove(f.ConfigFile("r2")))
	must(t, netlab.WaitFor("the ticket is old", 3*time.Second, func() bool { return netlab.Now().Sub(issued) > 1100*time.Millisecond }))
	f.no(t, 1, "too old", "r2", with(soon, "--address", "192.0.2.2")...)
	// Guessing is slow, for its source alone; the good ticket is not.
	f.no(t, 1, "not one of this router", "r3", with(mistaken(t, ticket), "--address", "192.0.2.3")...)
	f.no(t, 1, "a wrong ticket came from your address before", "r3", with(mistaken(t, ticket), "--address", "192.0.2.3")...)
	f.bare(t, "r2")
	f.bare(t, "r3")
	must(t, f.Wait("it is counted", "r1", 2*time.Second, func(s ha.Status) bool {
		d := s.Drops.Sync
		return d["used"] == 1 && d["ticket"] == 1 && d["delay"] == 1
	}))
}

// otherCluster has r3 run a cluster of its own for a moment.
func (f founding) otherCluster(t *testing.T, words []string) {
	n := f.Router("r3")
	dir := t.TempDir()
	ours := []string{"--config", dir + "/harouter.yaml", "--node", "r3", "--run-dir", dir, "--state-dir", dir + "/state"}
	other := func(args ...string) (string, error) { return n.Exec(slices.Concat([]string{f.Binary}, ours, args)...) }
	_, err := other("init", "--cluster", "other", "--address", "192.0.2.3", "--lan", "office=lan0,192.168.77.9/24", "--uplink", "dsl=wan2")
	must(t, err)
	text, err := os.ReadFile(dir + "/harouter.yaml")
	must(t, err)
	must(t, os.WriteFile(dir+"/harouter.yaml", append(text, "vrrp: {id: 99}\n"...), 0o644))
	p, err := n.Start("other", slices.Concat([]string{f.Binary}, ours, []string{"run"})...)
	must(t, err)
	must(t, netlab.WaitFor("the other cluster gives a ticket", 3*time.Second, func() bool {
		_, err := other("token")
		return err == nil
	}))
	f.no(t, 1, "192.0.2.3:7947 is not the cluster that made the ticket", "r2", "join", "192.0.2.3", "--token", words[3], "--address", "192.0.2.2")
	f.bare(t, "r2")
	_, err = other("stop", "--clean")
	must(t, err)
	if code, err := p.Wait(5 * time.Second); err != nil || code != 0 {
		t.Errorf("the other cluster: exit code %d, error %v", code, err)
	}
}

// joinerDisk joins on a machine whose disk is full.
func (f founding) joinerDisk(t *testing.T, words []string) {
	n := f.Router("r2")
	const script = `mkdir -p "$1" && mount -t tmpfs -o size=16k none "$1" || exit 3
cat /dev/zero > "$1/filler" 2>/dev/null; d=$1; shift; "$@"; code=$?; find "$d" -type f; exit $code`
	argv := append([]string{"unshare", "--mount", "sh", "-c", script, "sh", n.ConfigDir()}, f.Args("r2", append(words, "--address", "192.0.2.2")...)...)
	out, err := n.Exec(argv...)
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), "the ticket is still unused") || strings.TrimSpace(out) != n.ConfigDir()+"/filler" {
		t.Errorf("a full disk: printed %q, error %v", out, err)
	}
	f.bare(t, "r2")
}

// refusedOnAll are joins and reloads that a running node refuses: then nothing
// changes anywhere, and the ticket stays good.
func (f founding) refusedOnAll(t *testing.T) {
	words := append(f.joinWords("r1"), "--address", "192.0.2.3")
	good := f.text("r1")
	unchanged := func(what string) {
		t.Helper()
		for _, r := range []string{"r1", "r2"} {
			s, err := f.Status(r)
			must(t, err)
			if s.Config.Generation != 2 || len(s.Nodes) != 2 {
				t.Errorf("%s: %s runs generation %d with %d nodes", what, r, s.Config.Generation, len(s.Nodes))
			}
		}
		if f.text("r1") != good {
			t.Errorf("%s: the file of r1:\n%s", what, f.text("r1"))
		}
		f.bare(t, "r3")
	}

	must(t, netlab.WaitFor("r3 may try again after its wrong tickets", 3*time.Second, func() bool {
		time.Sleep(100 * time.Millisecond) // the sync port hangs up on who tries more than 20 times a second
		_, err := f.Command("r3", append(slices.Clone(words), "--node", "r2")...)
		return err != nil && !strings.Contains(err.Error(), "try again in")
	}))
	f.no(t, 1, "has a node r2 with address [192.0.2.2], not [192.0.2.3]", "r3", append(words, "--node", "r2")...)
	unchanged("another one's name")

	n := f.Router("r2")
	for _, dir := range []string{n.ConfigDir(), n.StateDir()} {
		empty := f.fill("r2", dir)
		f.no(t, 1, "no space left on device", "r3", words...)
		unchanged("a full disk under " + filepath.Base(dir))
		if f.text("r2") != good {
			t.Errorf("a full disk: the file of r2:\n%s", f.text("r2"))
		}
		empty()
	}

	edit := func(text string, routers ...string) {
		t.Helper()
		for _, r := range routers {
			must(t, os.WriteFile(f.file(r), []byte(text), 0o644))
			must(t, f.Wait("the edited file is seen", r, 3*time.Second, func(s ha.Status) bool {
				return hasAlarm(s, ha.AlarmConfigDiffers) == (text != good)
			}))
		}
	}
	edited := strings.Replace(good, "weight: 2", "weight: 3", 1)
	edit(edited, "r2")
	f.no(t, 1, "the file on r2 (", "r3", words...)
	f.no(t, 1, "harouter reload takes it into use", "r3", words...)
	unchanged("an edited file")
	if f.text("r2") != edited {
		t.Error("what a person edited is lost")
	}
	newer := strings.Replace(good, "cluster: home\n", "cluster: home\ncolour: blue\n", 1)
	must(t, os.WriteFile(f.file("r1"), []byte(newer), 0o644))
	edit(newer, "r2")
	f.no(t, 1, "colour", "r1", "reload")
	for _, r := range []string{"r1", "r2"} {
		must(t, os.WriteFile(f.file(r), []byte(good), 0o644))
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, f.Wait("no alarm", r, 12*time.Second, func(s ha.Status) bool { return len(s.Alarms) == 0 }))
	}
	unchanged("a newer file")
}

// portMoves changes the sync port while a ticket of the old one is valid, and
// while r3 is off: it fetches the file when it comes back.
func (f founding) portMoves(t *testing.T) {
	_, err := f.Command("r3", "leave")
	must(t, err)
	f.runs(t, "r1", 3, map[string]ha.Role{"r1": ha.RoleMaster, "r2": ha.RoleBackup, "r3": ha.RoleUnknown})
	words := f.joinWords("r1")
	text := f.text("r1") + "ports: {sync: 8000}    # 7947 is taken\n"
	for _, r := range []string{"r1", "r2"} {
		must(t, os.WriteFile(f.file(r), []byte(text), 0o644))
	}
	_, err = f.Command("r1", "reload")
	must(t, err)
	use := append(slices.Clone(words), "--force", "--node", "r4")
	f.no(t, 1, "nobody listens at 192.0.2.1:7947", "r3", use...)
	use[1] += ":8000"
	f.no(t, 1, `has no node "r4"`, "r3", use...) // it listens, and the ticket is good
	if line, err := f.Command("r2", "token"); err != nil || !strings.HasPrefix(line, "harouter join 192.0.2.2:8000 --token ") {
		t.Errorf("token printed %q, error %v", line, err)
	}
	must(t, f.Run("r3"))
	f.runs(t, "r3", 4, map[string]ha.Role{"r1": ha.RoleMaster, "r2": ha.RoleBackup, "r3": ha.RoleBackup})
	if f.text("r3") != text {
		t.Errorf("the file of r3 is\n%s\nnot\n%s", f.text("r3"), text)
	}
}

// notForgotten asks for what one of the others does not agree to.
func (f founding) notForgotten(t *testing.T) {
	good := f.text("r2")
	must(t, os.WriteFile(f.file("r2"), []byte(good+"# a remark\n"), 0o644))
	must(t, f.Wait("the edited file is seen", "r1", 3*time.Second, func(s ha.Status) bool { return hasAlarm(s, ha.AlarmConfigDiffers) }))
	f.no(t, 1, "the file on r2 (", "r3", "leave", "--forget")
	must(t, os.WriteFile(f.file("r2"), []byte(good), 0o644))
	for _, r := range []string{"r1", "r2", "r3"} {
		f.runs(t, r, 4, map[string]ha.Role{"r1": ha.RoleMaster, "r2": ha.RoleBackup, "r3": ha.RoleBackup})
	}
}

// forgotten starts r1 again, which is in no file but its own: it does not run
// before it has joined anew. With another key nobody listens to it.
func (f founding) forgotten(t *testing.T) {
	f.no(t, 2, "was taken out of the cluster", "r1", "run")
	words := f.joinWords("r2")
	_, err := f.Command("r1", append(words, "--address", "192.0.2.1", "--force")...)
	must(t, err)
	key := filepath.Join(f.Router("r1").ConfigDir(), "cluster.key")
	good, err := os.ReadFile(key)
	must(t, err)
	must(t, os.WriteFile(key, config.NewKey().Encode(), 0o600))
	must(t, f.Run("r1"))
	must(t, f.Wait("a node with another key is an alarm, and no member", "r2", 5*time.Second, func(s ha.Status) bool {
		return hasAlarm(s, ha.AlarmBadKey) && s.Drops.Gossip["key"] > 0
	}))
	_, err = f.Command("r1", "stop", "--clean")
	must(t, err)
	must(t, f.WaitHolder(site.LANAddress, "r2", time.Second))
	must(t, os.WriteFile(key, good, 0o600))
	must(t, f.Run("r1"))
	f.runs(t, "r1", 7, map[string]ha.Role{"r1": ha.RoleBackup, "r2": ha.RoleMaster})
}

// story checks that the events tell all of it.
func (f founding) story(t *testing.T) {
	events := read(t, told(t, f.Cluster, "r2"))
	for _, v := range []struct {
		node, kind, subject, reason string
	}{
		{"r1", "operator", "join", "a ticket for one more node was made, valid for 1h0m0s"},
		{"r1", "sync", "r2", "could not join from 192.0.2.2: "},
		{"r1", "operator", "join", "asked on r1"},
		{"r1", "config", "generation", "in use"},
		{"r1", "node", "r2", "new in the configuration"},
		{"r1", "node", "r2", "joined from 192.0.2.2 with a ticket"},
		{"r2", "node", "r2", "version "},
		{"r1", "config", "generation", "no space left on device"},
		{"r1", "config", "generation", "the file on r2 ("},
		{"r2", "node", "r3", "joined from 192.0.2.3 with a ticket"},
		{"r1", "operator", "forget", "asked on r3"},
		{"r2", "node", "r3", "no longer in the configuration"},
		{"r2", "operator", "forget", "asked on r1"},
		{"r2", "node", "r1", "no longer in the configuration"},
	} {
		if !slices.ContainsFunc(events, func(e control.Event) bool {
			return e.Node == v.node && e.Kind == v.kind && e.Subject == v.subject && strings.Contains(e.Reason, v.reason)
		}) {
			t.Errorf("no event %v", v)
		}
	}
	if t.Failed() {
		var b bytes.Buffer
		for _, e := range events {
			fmt.Fprintln(&b, e.Time.Format("05.000"), e.Node, e.Kind, e.Subject, e.From, e.To, e.Reason)
		}
		t.Log("\n" + b.String())
	}
}
