package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/ha"
	"harouter/ha/config"
	"harouter/ha/join"
	"harouter/test/netlab"
)

// TestMain makes the test binary the program itself, for tests that start it.
func TestMain(m *testing.M) {
	if os.Getenv("HAROUTER_AS_PROGRAM") != "" {
		os.Exit(execute(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

const joinFile = `cluster: home
nodes:
  r1: {address: 192.0.2.1}
  r2: {address: 192.0.2.2, priority: 150, devices: {cable: enp3s0}}
lans:
  - {name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}
uplinks:
  - {name: cable, device: wan1, gateway: 203.0.113.1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}
`

func TestJoinAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:7947", "192.0.2.1:99": "192.0.2.1:99", "fd00::1": "[fd00::1]:7947", "[fd00::1]": "[fd00::1]:7947",
		"[fd00::1]:99": "[fd00::1]:99", "r1": "r1:7947", "r1.example.org:99": "r1.example.org:99", "fe80::1%eth0": "[fe80::1%eth0]:7947",
		"": "", ":99": "", "r1:": "", "r1:0": "", "r1:65536": "", "r1:http": "", "http://r1": "", "r1/24": "", "192.0.2.1:99:1": "", "root@r1": "",
	} {
		got, err := joinAddress(in)
		if got != want || (err == nil) != (want != "") || want == "" && !strings.Contains(err.Error(), fmt.Sprintf("%q", in)) {
			t.Errorf("%q: %q, error %v, want %q", in, got, err, want)
		}
	}
	// What token prints, join understands.
	for _, at := range []string{"192.0.2.1:7947", "192.0.2.1:99", "[fd00::1]:7947", "[fd00::1]:99"} {
		line := joinLine(tokenAnswer{Token: "T", Address: netip.MustParseAddrPort(at)})
		if got, err := joinAddress(strings.Fields(line)[2]); got != at || err != nil {
			t.Errorf("%q: %q, error %v", line, got, err)
		}
	}
	if line := joinLine(tokenAnswer{Token: "T", Address: netip.MustParseAddrPort("192.0.2.1:7947")}); line != "harouter join 192.0.2.1 --token T" {
		t.Errorf("%q", line)
	}
}

func TestJoinRequest(t *testing.T) {
	f := joinFlags{addresses: []string{"192.0.2.3", "198.51.100.3"}, priority: 50, devices: []string{"cable=enp3s0", "dsl=ppp=0"}}
	got, err := f.request("r3", true)
	want := join.Request{
		Node: "r3", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("198.51.100.3")},
		Priority: 50, Devices: map[string]string{"cable": "enp3s0", "dsl": "ppp=0"}, Version: versionString(),
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Errorf("error %v, %s", err, diff)
	}
	for name, v := range map[string]struct {
		f    joinFlags
		want string
	}{
		"address":       {joinFlags{addresses: []string{"192.0.2.3/24"}}, `--address "192.0.2.3/24" is no IP address`},
		"address twice": {joinFlags{addresses: []string{"192.0.2.3", "192.0.2.3"}}, "--address 192.0.2.3 stands here twice"},
		"priority 0":    {joinFlags{priority: 0}, "--priority 0: allowed: 1 to 254"},
		"priority 300":  {joinFlags{priority: 300}, "--priority 300: allowed: 1 to 254"},
		"no device":     {joinFlags{priority: 1, devices: []string{"cable"}}, `--device "cable"`},
		"empty device":  {joinFlags{priority: 1, devices: []string{"cable="}}, `--device "cable="`},
		"device twice":  {joinFlags{priority: 1, devices: []string{"cable=a", "cable=b"}}, `"cable" stands here twice`},
	} {
		if _, err := v.f.request("r3", true); err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: error %v, want %q", name, err, v.want)
		}
	}
}

func TestFits(t *testing.T) {
	file, problems := config.Parse("f", []byte(joinFile))
	must(t, problems.Err())
	address := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for name, v := range map[string]struct {
		r    join.Request
		want string
	}{
		"by name":          {join.Request{Node: "r2"}, ""},
		"the same data":    {join.Request{Node: "r2", Addresses: address("192.0.2.2"), Priority: 150, Devices: map[string]string{"cable": "enp3s0", "office": "lan0"}}, ""},
		"the issuer":       {join.Request{Node: "r1"}, "r1 is the name of the router that made the ticket"},
		"unknown":          {join.Request{Node: "r3"}, `the cluster home has no node "r3": give the new router's address with --address`},
		"unknown with one": {join.Request{Node: "r3", Addresses: address("192.0.2.3")}, ""},
		"other address":    {join.Request{Node: "r2", Addresses: address("192.0.2.3")}, "a node r2 with address [192.0.2.2], not [192.0.2.3]"},
		"other priority":   {join.Request{Node: "r2", Priority: 50}, "a node r2 with priority 150, not 50"},
		"other device":     {join.Request{Node: "r2", Devices: map[string]string{"cable": "eth1"}}, "a node r2 with device cable=enp3s0, not cable=eth1"},
		"no such link":     {join.Request{Node: "r2", Devices: map[string]string{"cabel": "eth1"}}, "a node r2 with device cabel=, not cabel=eth1"},
	} {
		known, err := fits(file, "r1", v.r)
		if v.want == "" && err != nil || v.want != "" && (err == nil || !strings.Contains(err.Error(), v.want)) {
			t.Errorf("%s: error %v, want %q", name, err, v.want)
		}
		if err == nil && known != (v.r.Node == "r2") {
			t.Errorf("%s: known %v", name, known)
		}
	}
}

// TestIsElsewhere: a name is taken while its router runs, but by that router.
func TestIsElsewhere(t *testing.T) {
	file, problems := config.Parse("f", []byte(joinFile))
	must(t, problems.Err())
	own, other := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.9")
	for name, v := range map[string]struct {
		node  string
		alive bool
		from  netip.Addr
		want  string
	}{
		"itself again":    {"r2", true, own, ""},
		"another machine": {"r2", true, other, "a router r2 runs already, at 192.0.2.2, and this one asks from 192.0.2.9: give it another name with --node"},
		"it is dead":      {"r2", false, other, ""},
		"another name":    {"r3", true, other, ""},
	} {
		s := ha.Status{Nodes: []ha.NodeStatus{{Name: "r1", Alive: true}, {Name: "r2", Address: own, Alive: v.alive}}}
		err := isElsewhere(s, file, join.Request{Node: v.node, From: v.from})
		if v.want == "" && err != nil || v.want != "" && (err == nil || !strings.Contains(err.Error(), v.want)) {
			t.Errorf("%s: error %v, want %q", name, err, v.want)
		}
	}
}

// program runs one command line in a directory of its own.
func program(t *testing.T, dir, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	args = append(args, "--config", dir+"/etc/harouter.yaml", "--state-dir", dir+"/lib", "--run-dir", dir+"/run")
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HAROUTER_AS_PROGRAM=1")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestJoinCommand: the whole verb against a server, on a loopback of its own.
func TestJoinCommand(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "mount --make-rprivate / && ip link set lo up")
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)) + "\n"
	good := join.Bundle{Cluster: "home", File: []byte(joinFile), Key: []byte(key), Generation: 7, Hash: join.Hash([]byte(joinFile))}
	bundle := good
	s, err := join.New(join.Config{
		Seed: [32]byte{1}, Addresses: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:7947")},
		Give: func(context.Context, join.Request) (join.Bundle, error) { return bundle, nil },
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		must(t, <-ended)
	}()
	ticket := func() string {
		k, err := s.Issue(ctx, 0)
		must(t, err)
		return k.Word()
	}
	written := map[string]string{
		"etc": "directory", "etc/cluster.key": "0600 " + key, "etc/harouter.yaml": "0644 " + joinFile,
		"lib": "directory", "lib/accepted": "directory", "lib/accepted/harouter.yaml": "0644 " + joinFile,
		"lib/accepted/generation": fmt.Sprintf("0644 {\"generation\":7,\"hash\":%q}\n", good.Hash),
	}
	old := map[string]string{"etc": "directory", "etc/harouter.yaml": "0644 mine\n"}

	word, ticketFile := ticket(), t.TempDir()+"/ticket"
	otherFile := func(text string) func() {
		return func() { bundle.File, bundle.Hash = []byte(text), join.Hash([]byte(text)) }
	}
	for _, v := range []struct {
		name    string
		prepare func(dir string)
		bundle  func()
		stdin   string
		args    string // T is a ticket
		code    int
		say     string
		want    map[string]string
	}{
		{"nothing given", nil, nil, "", "join", 2, "join takes one address", nil},
		{"bad address", nil, nil, "", "join 127.0.0.1: --node r2 --token T", 2, "no port behind the colon", nil},
		{"bad priority", nil, nil, "", "join 127.0.0.1 --priority 0 --node r2 --token T", 2, "--priority 0", nil},
		{"no ticket", nil, nil, "", "join 127.0.0.1 --node r2", 2, "the ticket is empty", nil},
		{"cut ticket", nil, nil, "", "join 127.0.0.1 --node r2 --token " + word[:40], 2, "cut off", nil},
		{"two tickets", nil, nil, "", "join 127.0.0.1 --node r2 --token T --token-file x", 2, "exclude each other", nil},
		{"no ticket file", nil, nil, "", "join 127.0.0.1 --node r2 --token-file /nonexistent", 2, "no such file", nil},
		{"same paths", nil, nil, "", "join 127.0.0.1 --node r2 --token T --key-file DIR/etc/harouter.yaml", 2, "two different files", nil},
		{"nobody there", nil, nil, "", "join 127.0.0.1:9 --node r2 --token T", 1, "nobody listens at 127.0.0.1:9", nil},
		{"file exists", func(dir string) { must(t, os.WriteFile(dir+"/etc/harouter.yaml", []byte("mine\n"), 0o644)) }, nil, "",
			"join 127.0.0.1 --node r2 --token T", 2, "is here already", old},
		{"key exists", func(dir string) { must(t, os.WriteFile(dir+"/etc/cluster.key", []byte("mine\n"), 0o600)) }, nil, "",
			"join 127.0.0.1 --node r2 --token T", 2, "cluster.key is here already", map[string]string{"etc": "directory", "etc/cluster.key": "0600 mine\n"}},
		{"no room for the state", func(dir string) { must(t, os.WriteFile(dir+"/lib", nil, 0o644)) }, nil, "",
			"join 127.0.0.1 --node r2 --token T", 1, "the ticket is still unused", map[string]string{"etc": "directory", "lib": "0644 "}},
		{"taken", nil, nil, "", "join 127.0.0.1 --node r2 --token T", 0, "this is now node r2 of cluster home", written},
		{"used", nil, nil, "", "join 127.0.0.1 --node r2 --token T", 1, "used already, by r2", nil},
		{"by stdin", nil, nil, "N\n", "join 127.0.0.1 --node r2", 0, "harouter check", written},
		{"by file", func(dir string) { must(t, os.WriteFile(ticketFile, []byte(ticket()+"\n"), 0o600)) }, nil, "",
			"join 127.0.0.1 --node r2 --token-file " + ticketFile, 0, "harouter run", written},
		{"forced", func(dir string) { must(t, os.WriteFile(dir+"/etc/harouter.yaml", []byte("mine\n"), 0o644)) }, nil, "N",
			"join 127.0.0.1 --node r2 --force", 0, "this is now node r2", written},
		{"node not in it", nil, nil, "N", "join 127.0.0.1 --node r3", 1, "without the node r3: nothing is written", nil},
		{"bad file", nil, otherFile("cluster: home\nsurprise: 1\n"), "N", "join 127.0.0.1 --node r2", 1, "nothing is written", nil},
		{"bad file over an old one", func(dir string) { must(t, os.WriteFile(dir+"/etc/harouter.yaml", []byte("mine\n"), 0o644)) },
			otherFile("surprise: 1\n"), "N", "join 127.0.0.1 --node r2 --force", 1, "nothing is written", old},
		{"bad key", nil, func() { bundle.Key = []byte("swordfish\n") }, "N", "join 127.0.0.1 --node r2", 1, "gave a key that is none", nil},
		{"full disk", func(dir string) { netlab.Sh(t, "mkdir "+dir+"/lib && mount -t tmpfs -o size=16k none "+dir+"/lib") },
			nil, "N", "join 127.0.0.1 --node r2", 1, "no space left on device; the ticket is still unused",
			map[string]string{"etc": "directory", "lib": "directory"}},
		{"a file that is too large for the disk", func(dir string) { netlab.Sh(t, "mkdir "+dir+"/lib && mount -t tmpfs -o size=160k none "+dir+"/lib") },
			otherFile(joinFile + strings.Repeat("# padding\n", 20000)), "N", "join 127.0.0.1 --node r2", 1, "no space left on device; nothing is written, and the ticket is used",
			map[string]string{"etc": "directory", "lib": "directory"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			dir := t.TempDir()
			if v.prepare != nil {
				must(t, os.Mkdir(dir+"/etc", 0o755))
				v.prepare(dir)
				t.Cleanup(func() { _ = exec.Command("umount", dir+"/lib").Run() })
			}
			bundle = good
			if v.bundle != nil {
				v.bundle()
			}
			var args []string
			for _, a := range strings.Fields(v.args) {
				if a == "T" {
					a = word
				}
				args = append(args, strings.ReplaceAll(a, "DIR", dir))
			}
			stdin := v.stdin
			if strings.Contains(stdin, "N") {
				stdin = strings.Replace(stdin, "N", ticket(), 1)
			} else if v.name == "used" {
				ticket() // keeps the port open
			}
			code, stdout, stderr := program(t, dir, stdin, args...)
			if code != v.code || !strings.Contains(stdout+stderr, v.say) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, v.code, v.say, stdout, stderr)
			}
			if code != 0 && stdout != "" || strings.Contains(stdout+stderr, strings.TrimSpace(key)) || strings.Contains(stdout+stderr, "swordfish") {
				t.Errorf("printed:\n%s%s", stdout, stderr)
			}
			if diff := cmp.Diff(v.want, tree(t, dir), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestInterruptedJoin leaves nothing behind.
func TestInterruptedJoin(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, "ip link set lo up")
	l, err := net.Listen("tcp", "127.0.0.1:7947")
	must(t, err)
	defer l.Close()
	s, err := join.New(join.Config{Give: func(context.Context, join.Request) (join.Bundle, error) { return join.Bundle{}, nil }})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	k, err := s.Issue(ctx, 0)
	must(t, err)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "join", "127.0.0.1", "--node", "r2", "--token", k.Word(), "--config", dir+"/etc/harouter.yaml", "--state-dir", dir+"/lib")
	cmd.Env = append(os.Environ(), "HAROUTER_AS_PROGRAM=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	must(t, cmd.Start())
	conn, err := l.Accept() // now it waits for an answer
	must(t, err)
	defer conn.Close()
	if len(tree(t, dir)) == 0 {
		t.Error("nothing was placed before the ticket is used")
	}
	must(t, cmd.Process.Signal(os.Interrupt))
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		cmd.Process.Kill()
		t.Fatal("it goes on")
	}
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(errs.String(), "join was interrupted; nothing is written") {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	cancel()
	must(t, <-ended)
}
