package importer

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// home is testdata/home on a machine like that of the original's tests.
func home(t *testing.T) Input {
	t.Helper()
	in := Input{
		Conf: File{Path: "balance.conf", Data: read(t, "testdata/home/balance.conf")}, Cluster: "home", Node: "r1",
		Devices: machine(),
		Resolve: func(name string) (netip.Addr, error) {
			if name == standard {
				return netip.MustParseAddr("198.51.100.94"), nil
			}
			return netip.Addr{}, fmt.Errorf("no such host %s", name)
		},
	}
	paths, err := filepath.Glob("testdata/home/balance/*/*")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("testdata/home/balance/lsm/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(paths, deeper...) {
		if info, err := os.Stat(p); err != nil || info.IsDir() {
			continue
		}
		rel, err := filepath.Rel("testdata/home", p)
		if err != nil {
			t.Fatal(err)
		}
		in.Beside = append(in.Beside, File{Name: rel[len("balance/"):], Path: rel, Data: read(t, p)})
	}
	return in
}

func machine() []Device {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	return []Device{
		{Name: "eth0", Address: p("191.3.88.152/27"), Gateway: a("191.3.88.129"), Dynamic: true},
		{Name: "ppp0", Address: p("11.120.199.108/32")},
		{Name: "eth1", Address: p("192.168.10.1/24")},
		{Name: "eth3", Address: p("192.168.12.1/24"), Labelled: map[string]netip.Prefix{"eth3:0": p("192.168.13.1/24")}},
		{Name: "eth4"},
		{Name: "eth5", Address: p("192.168.20.1/24")},
		{Name: "tun0", Address: p("10.8.0.1/24")},
	}
}

func read(t testing.TB, path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// all takes everything: what is written does not depend on what is refused of it.
func all(string, []byte) (*config.Config, config.Problems) { return nil, nil }

// TestHome: the whole text and all that is said, since people read it.
func TestHome(t *testing.T) {
	got, problems := run(home(t), all)
	golden(t, "testdata/home.golden", string(got)+"\n--- said ---\n"+problems.Error()+"\n")
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, path)), got); diff != "" {
		t.Errorf("%s (go test -update rewrites it):\n%s", path, diff)
	}
}

// TestTaken: what is written is what ha/config reads.
func TestTaken(t *testing.T) {
	whole, _ := run(home(t), all)
	_, problems := config.Parse("whole", whole)
	for _, p := range problems.Errors() {
		t.Errorf("%s", p)
	}
	text, said := Import(home(t))
	if said.Err() != nil {
		t.Fatal(said.Err())
	}
	c, problems := config.Parse("harouter.yaml", text)
	if problems.Err() != nil {
		t.Fatalf("%v\n%s", problems, text)
	}
	if len(c.Lans) != 4 || len(c.Uplinks) != 3 || c.Uplinks[0].Probe.Interval != 200*time.Millisecond {
		t.Errorf("%+v", c)
	}
	// Another router joins by an edit of the text.
	r2 := config.NewNode{Name: "r2", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Priority: 100}
	in := home(t)
	in.Address = netip.MustParseAddr("192.0.2.1")
	text, _ = Import(in)
	more, err := config.AddNode(text, r2)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := config.RemoveNode(more, "r2"); err != nil || string(back) != string(text) {
		t.Errorf("%v\n%s", err, cmp.Diff(string(text), string(back)))
	}
}

// TestRefused: what is not taken becomes a comment, and no more than that.
func TestRefused(t *testing.T) {
	const conf = "A eth0 isp 198.51.100.1\nB ppp0 isp 198.51.100.1\nL eth1 lan\nwarn_email=a@example.org\nforwarding_group=L A\n"
	in := Input{Conf: File{Path: "balance.conf", Data: []byte(conf)}, Cluster: "home", Node: "r1", Devices: machine(),
		Address: netip.MustParseAddr("192.0.2.1"),
		Beside:  []File{{Name: "firewall/a.pl", Path: "balance/firewall/a.pl", Data: []byte("$B->force_route('A',-p=>'tcp',-dport=>25); $B->forward(80=>'192.168.10.2');")}}}
	for name, test := range map[string]struct {
		refuse map[string]string // a part of a line: why
		want   []string          // lines of the file
		never  []string
		said   []string
	}{
		"a policy, whole": {map[string]string{"name: a-only-1": "policies.a-only-1: no; remove it"},
			[]string{"policies:", "  # policies.a-only-1: no; remove it:", "  # - {name: a-only-1,", "  - {name: default,"}, nil,
			[]string{"balance/firewall/a.pl:1:1: policies.a-only-1: no; remove it: it is written as a comment"}},
		"a list": {map[string]string{"  forward:": "firewall.forward: no; remove it"},
			[]string{"firewall:", "  groups:", "  # firewall.forward: no; remove it:", "  # forward:", "    # - {port: 80,"}, nil,
			[]string{"balance/firewall/a.pl:1:44: firewall.forward: no; remove it: it is written as a comment"}},
		"all of a part": {map[string]string{"  to: [": "mail.to: no; remove it"},
			[]string{"# mail:", "  # mail.to: no; remove it:", "  # to: ["}, []string{"mail:"},
			[]string{"balance.conf:4:12: mail.to: no; remove it: it is written as a comment"}},
		"a lan": {map[string]string{"virtual_addresses: [192": "no such address"},
			[]string{"  - name: l", "    # no such address:", "    # virtual_addresses: ["}, nil,
			[]string{"balance.conf:3:1: no such address: it is written as a comment"}},
	} {
		text, said := run(in, func(name string, data []byte) (*config.Config, config.Problems) {
			var ps config.Problems
			for i, line := range strings.Split(string(data), "\n") {
				for part, why := range test.refuse {
					if strings.Contains(line, part) && !strings.HasPrefix(strings.TrimSpace(line), "#") {
						ps = append(ps, config.Problem{File: name, Line: i + 1, Col: 1, Text: why})
					}
				}
			}
			return nil, ps
		})
		lines := strings.Split(string(text), "\n")
		starts := func(w string) bool {
			return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, w) })
		}
		for _, w := range test.want {
			if !starts(w) {
				t.Errorf("%s: no line %q in\n%s", name, w, text)
			}
		}
		for _, w := range test.never {
			if starts(w) {
				t.Errorf("%s: a line %q in\n%s", name, w, text)
			}
		}
		if diff := cmp.Diff(test.said, brief(said)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// brief are problems as FILE:LINE:COL: text.
func brief(ps config.Problems) (out []string) {
	for _, p := range ps {
		p.Excerpt = ""
		out = append(out, strings.Replace(p.Error(), "warning: ", "", 1))
	}
	return out
}

// TestBadNames: what the caller says wrongly is an error, nothing is written.
func TestBadNames(t *testing.T) {
	for _, change := range []func(*Input){
		func(in *Input) { in.Cluster = "My Home" },
		func(in *Input) { in.Node = "a: {}\n#" },
		func(in *Input) { in.Node = "" },
		func(in *Input) { in.Address = netip.MustParseAddr("224.0.0.1") },
		func(in *Input) { in.Address = netip.MustParseAddr("192.168.10.1") }, // that of a lan
	} {
		in := home(t)
		change(&in)
		if text, said := Import(in); text != nil || said.Err() == nil {
			t.Errorf("%q %q %s:\n%s", in.Cluster, in.Node, in.Address, text)
		}
	}
}
