package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"harouter/test/netlab"
)

// TestWrongUse: what a person does wrong is told by the daemon, before it
// changes anything, in one line that says what to do.
func TestWrongUse(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up; ip addr add 192.0.2.1/32 dev lo")
	good := "cluster: home\nnodes: {r1: {address: 192.0.2.1}}\nlans: [{name: a, device: lan0, virtual_addresses: [192.168.77.1/24]}]\n"
	key := strings.Repeat("Q", 42) + "E=\n"
	for name, test := range map[string]struct {
		file, key string
		mode      os.FileMode
		spoil     func(dir string) error
		node      string
		code      int
		want      string
	}{
		"no file":              {"", key, 0o600, nil, "r1", 2, "harouter init writes the first router's file"},
		"no key":               {good, "", 0o600, nil, "r1", 2, "cluster.key: there is none; harouter join --force fetches it"},
		"a key for all":        {good, key, 0o644, nil, "r1", 2, "cluster.key: others can read it (mode 0644); run `chmod 600 "},
		"an empty key":         {good, "\n", 0o600, nil, "r1", 2, "cluster.key: it is empty; write one line with 32 random bytes"},
		"another file as key":  {good, "PRIVATE KEY\n", 0o600, nil, "r1", 2, "cluster.key: line 1 is no base64"},
		"a directory as key":   {good, "", 0o600, func(dir string) error { return os.Mkdir(dir+"/cluster.key", 0o700) }, "r1", 2, "cluster.key: it is no file"},
		"a key behind a link":  {good, "", 0o600, func(dir string) error { return os.Symlink("cluster.key", dir+"/cluster.key") }, "r1", 2, "cluster.key: too many levels of symbolic links"},
		"a newer file":         {good + "teleport: true\n", key, 0o600, nil, "r1", 2, `unknown key "teleport" (a newer harouter may know it)`},
		"one name twice":       {strings.Replace(good, "}}\n", "}, r1: {address: 192.0.2.2}}\n", 1), key, 0o600, nil, "r1", 2, `the key "r1" stands twice (first in line 2)`},
		"one address twice":    {strings.Replace(good, "}}\n", "}, r2: {address: 192.0.2.1}}\n", 1), key, 0o600, nil, "r1", 2, "192.0.2.1 stands twice"},
		"the name of nobody":   {good, key, 0o600, nil, "r9", 2, `has no node "r9" (this host's name unless --node is given); it has: r1`},
		"a file that is empty": {" \n", key, 0o600, nil, "r1", 2, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.MkdirAll(dir+"/etc", 0o755))
			for path, text := range map[string]string{"harouter.yaml": test.file, "cluster.key": test.key} {
				if text != "" {
					must(t, os.WriteFile(filepath.Join(dir, "etc", path), []byte(text), test.mode))
				}
			}
			if test.spoil != nil {
				must(t, test.spoil(dir+"/etc"))
			}
			code, out, said := program(t, dir, "", "run", "--node", test.node)
			if code != test.code || out != "" || !strings.Contains(said, test.want) {
				t.Errorf("exit code %d, %q, said:\n%s", code, out, said)
			}
			lines := strings.Split(strings.TrimSpace(said), "\n")
			if n := len(lines); n != 1 && !strings.Contains(lines[0], "harouter.yaml:") { // of a file there is an excerpt too
				t.Errorf("%d lines:\n%s", n, said)
			}
			if left := netlab.Sh(t, "nft list tables; ip rule | grep -v -e 'lookup local' -e 'lookup main' -e 'lookup default' || true"); left != "" {
				t.Errorf("it changed something: %s", left)
			}
			fmt.Fprintf(t.Output(), "%s", said)
		})
	}
}
