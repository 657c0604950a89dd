package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"harouter/ha/config"
	"harouter/test/netlab"
)

// importIn runs import with arguments, and gives both outputs.
func importIn(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := newRoot()
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(append([]string{"import", "--node", "r1", "--offline"}, args...))
	err = root.Execute()
	return stdout.String(), stderr.String(), err
}

// TestImport: on a real machine, from a balance.conf to a file that check takes.
func TestImport(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, `set -e
cable() { ip link add $1 type veth peer name p-$1; ip link set $1 up; ip link set p-$1 up; }
cable eth0; ip addr add 203.0.113.9/25 dev eth0; ip route add default via 203.0.113.1
cable eth1; ip addr add 192.168.10.1/24 dev eth1; ip addr add 192.168.11.1/24 dev eth1 label eth1:0`)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	conf := write("balance.conf", "CABLE eth0 isp 198.51.100.1 2\nDSL ppp0 isp 198.51.100.1\nLAN eth1 lan\nLAN2 eth1:0 lan\nLAB eth7 lan\nlong_down_time=5\n")
	write("balance/routes/01.vpn", "ip route add 10.8.0.0/24 dev tun0\n")
	write("balance/firewall/01.pl", "$B->forward(80 => '192.168.10.35');\n")
	write("balance/lsm/up.d/10.dyndns", "#!/bin/sh\n")
	if err := os.Mkdir(filepath.Join(dir, "balance/routes/old"), 0o755); err != nil {
		t.Fatal(err)
	}

	// To stdout: the file alone, what there is to say on stderr.
	out, errs, err := importIn(t, conf, "--lan", "lab=10.1.0.1/16", "--address", "192.0.2.1")
	if err != nil {
		t.Fatal(err, errs)
	}
	c, problems := config.Parse("out", []byte(out))
	if problems.Err() != nil {
		t.Fatal(problems)
	}
	if len(c.Lans) != 2 || len(c.Lans[0].Virtual) != 2 || c.Lans[0].Virtual[1].String() != "192.168.11.1/24" || c.Lans[1].Virtual[0].String() != "10.1.0.1/16" ||
		len(c.Uplinks) != 2 || c.Uplinks[0].Gateway.String() != "203.0.113.1" || c.Uplinks[0].Weight != 2 || c.Nodes[0].Name != "r1" {
		t.Errorf("%+v\n%s", c, out)
	}
	for _, want := range []string{"balance/firewall/01.pl:1", "- {to: 10.8.0.0/24, device: tun0}", "cp -p " + dir + "/balance/lsm/up.d/10.dyndns hooks/uplink-up.d/", "what eth1:0 has now"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if !strings.Contains(errs, conf+":6:16: warning: not carried over: long_down_time") || strings.Contains(errs, "placeholder") {
		t.Error(errs)
	}

	// To a file: not over one that is there, and not over one without force.
	path := filepath.Join(dir, "etc", "harouter.yaml")
	out, _, err = importIn(t, conf, "--output", path)
	if err != nil || !strings.Contains(out, path+": written (2 lans, 2 uplinks; ") || !strings.Contains(out, "base64 > "+filepath.Join(dir, "etc", "cluster.key")) {
		t.Errorf("%v\n%s", err, out)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := config.Load(path); problems.Err() != nil {
		t.Error(problems)
	}
	root := newRoot()
	root.SetArgs([]string{"check", path, "--node", "r1"})
	if err := root.Execute(); err != nil {
		t.Error(err)
	}
	if _, _, err := importIn(t, conf, "-o", path, "--cluster", "other"); !isWrongInput(err) || !strings.Contains(err.Error(), "is there already, so nothing was written; --force") {
		t.Error(err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the refused import wrote")
	}
	if _, _, err := importIn(t, conf, "-o", path, "--cluster", "other", "--force"); err != nil {
		t.Error(err)
	}
	if c, _ := config.Load(path); c == nil || c.Cluster != "other" {
		t.Error("force did not write")
	}

	// What is wrong is told, all of it, and nothing is written.
	bad := write("bad.conf", "up eth0 isp\nCABLE eth0 isp 198.51.100.1 much\n")
	_, errs, err = importIn(t, bad, "-o", filepath.Join(dir, "never"))
	if code, ok := errors.AsType[silent](err); !ok || code.code != 2 || !strings.Contains(errs, bad+":1:1: ") || !strings.Contains(errs, bad+":2:29: ") || !strings.Contains(errs, ": 2 mistakes; nothing was written\n") {
		t.Errorf("%v\n%s", err, errs)
	}
	for name, args := range map[string][]string{
		"no file":       {filepath.Join(dir, "nobody.conf")},
		"a directory":   {dir},
		"two files":     {conf, conf},
		"an address":    {conf, "--address", "here"},
		"a lan":         {conf, "--lan", "office"},
		"a lan twice":   {conf, "--lan", "lan=10.0.0.1/8", "--lan", "LAN=10.0.0.2/8"},
		"no lan's name": {conf, "--lan", "=10.0.0.1/8"},
		"no rules":      {conf, "--rules", filepath.Join(dir, "nobody")},
		"rules a file":  {conf, "--rules", conf},
	} {
		if out, _, err := importIn(t, append(args, "-o", filepath.Join(dir, "never"))...); !isWrongInput(err) || out != "" {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	for _, flag := range [][]string{{"--cluster", "My Home"}, {"--node", "R 1"}, {"--address", "192.168.10.1"}, {"--lan", "nobody=10.0.0.1/8"}} {
		if _, errs, err := importIn(t, append([]string{conf, "-o", filepath.Join(dir, "never")}, flag...)...); err == nil || errs == "" {
			t.Errorf("%v: %v", flag, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "never")); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was written:", err)
	}
}

// everyMistake are the lines of a balance.conf, and whether each is an error; of
// the others there is a warning, or nothing.
var everyMistake = []struct {
	line  string
	wrong bool
}{
	{"# every mistake that one can make", false},
	{"up eth1 isp", true},
	{"down eth2 lan", true},
	{"HALF eth1", true},
	{"ONE", true},
	{"WRONG eth3 wan", false}, // left out there as well
	{"A eth5 isp 198.51.100.1", false},
	{"a eth6 lan", true},
	{"SLASH eth/1 lan", true},
	{"LONG averyverylongdevice isp 198.51.100.1", true},
	{"MANY eth7 isp 198.51.100.1 many", true},
	{"MINUS eth8 isp 198.51.100.1 -1", true},
	{"NAN eth9 isp 198.51.100.1 NaN", true},
	{"GATE eth10 isp 198.51.100.1 1 gw.example.org", true},
	{"HOST eth11 isp 198.51.100.1/24", true},
	{"COLS eth12 isp 198.51.100.1 1 default and more", false},
	{"  IND eth13 lan", false},
	{"mode=blanced", false},
	{"interval_ms=1s", true},
	{"timeout_ms=", true},
	{"max_packet_loss=-1", true},
	{"min_successive_pkts_rcvd=99999999999999999999", true},
	{"forwarding_group=", true},
	{"forwarding_group=GATE :isp A", false}, // wrong for another reason, which is told
	{"forwarding_group=:isp NOBODY :lans", true},
	{"intervall_ms=5", false},
	{"warn_email=", false},
}

// TestImportEveryMistake: all of it is told at once, with its line; the exit code
// is 2, and nothing is written.
func TestImportEveryMistake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf, never := filepath.Join(dir, "balance.conf"), filepath.Join(dir, "never")
	var text strings.Builder
	for _, m := range everyMistake {
		text.WriteString(m.line + "\n")
	}
	if err := os.WriteFile(conf, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	out, errs, err := importIn(t, conf, "-o", never)
	if code, ok := errors.AsType[silent](err); !ok || code.code != 2 || out != "" || !strings.Contains(errs, " mistakes; nothing was written\n") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	for i, m := range everyMistake {
		told := false
		for line := range strings.Lines(errs) {
			told = told || strings.HasPrefix(line, fmt.Sprintf("%s:%d:", conf, i+1)) && !strings.Contains(line, ": warning: ")
		}
		if told != m.wrong {
			t.Errorf("line %d, %s: told as wrong: %t", i+1, m.line, told)
		}
	}
	if _, err := os.Stat(never); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was written:", err)
	}
}
