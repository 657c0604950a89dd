package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

func span(t *testing.T, networks ...string) balancer.Spans {
	t.Helper()
	var all []balancer.Span
	for _, n := range networks {
		p, err := network(&value{kind: scalar, text: n})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, balancer.PrefixSpan(p))
	}
	return balancer.Union(all...)
}

// TestMatchMeans: what a match of the file is to the balancer.
func TestMatchMeans(t *testing.T) {
	one := func(n uint64) balancer.Spans { return balancer.Spans{{First: n, Last: n}} }
	for _, test := range []struct {
		text string
		want balancer.Match
	}{
		{"{lan: office}", balancer.Match{balancer.MatchLan: one(0)}},
		{"{source: [10.0.0.0/8, {not: 10.1.0.0/16}]}", balancer.Match{balancer.MatchSource: span(t, "10.0.0.0/8").Minus(span(t, "10.1.0.0/16"))}},
		{"{source: {not: 10.1.0.0/16}}", balancer.Match{balancer.MatchSource: span(t, "0.0.0.0/0").Minus(span(t, "10.1.0.0/16"))}},
		{"{destination: [192.0.2.7, 10.0.0.0/8]}", balancer.Match{balancer.MatchDestination: span(t, "192.0.2.7", "10.0.0.0/8")}},
		{"{protocol: [esp, 47]}", balancer.Match{balancer.MatchProtocol: balancer.Spans{{First: 47, Last: 47}, {First: 50, Last: 50}}}},
		{"{destination_ports: [25, 580-590]}", balancer.Match{
			balancer.MatchProtocol: balancer.WithPorts, balancer.MatchDestinationPort: balancer.Spans{{First: 25, Last: 25}, {First: 580, Last: 590}},
		}},
		{"{protocol: tcp, source_ports: {not: 1-1023}}", balancer.Match{
			balancer.MatchProtocol: one(6), balancer.MatchSourcePort: balancer.Spans{{First: 0, Last: 0}, {First: 1024, Last: 65535}},
		}},
		{"{dscp: [ef, af41, 0]}", balancer.Match{balancer.MatchDSCP: balancer.Spans{{First: 0, Last: 0}, {First: 34, Last: 34}, {First: 46, Last: 46}}}},
		{"{mac: 02:00:5e:10:00:01}", balancer.Match{balancer.MatchMAC: one(0x02005e100001)}},
	} {
		c := mustParse(t, site(map[string]string{"policies": match(test.text)}))
		if diff := cmp.Diff(test.want, c.Policies[0].Match.Balancer(c.Lans)); diff != "" {
			t.Errorf("%s:\n%s", test.text, diff)
		}
	}
}

func TestHours(t *testing.T) {
	days := func(s string) (out [7]bool) {
		for i, c := range s {
			out[i] = c != '-'
		}
		return out
	}
	for text, want := range map[string]balancer.Hours{
		"08:00-18:30":         {Days: days("smtwtfs"), From: 480, To: 1110},
		"mon-fri 22:00-06:00": {Days: days("-mtwtf-"), From: 1320, To: 360},
		"sat,sun":             {Days: days("s-----s"), To: 1440},
		"fri-mon 00:00-24:00": {Days: days("sm---fs"), To: 1440},
	} {
		got, err := hours(&value{kind: scalar, text: text})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
}

const listed = "[{name: x, match: {destination: [\"@far\", {not: \"@near.txt\"}]}}, {name: y, match: {source: \"@far\"}}]"

// TestLists: a file's lists are read with it, and are part of its hash.
func TestLists(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "harouter.yaml")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := site(map[string]string{"policies": listed})
	write("harouter.yaml", file)
	write("far", "# the office\n10.0.0.0/8\n\n  192.0.2.0/24 # and the other one\r\n")
	_, problems := Load(path)
	if diff := cmp.Diff([]string{`policies.x.match.destination: there is no file "near.txt" beside this one; allowed: one with a network in each line`}, texts(problems)); diff != "" {
		t.Error(diff)
	}
	write("near.txt", "10.7.0.0/16\n")
	c, problems := Load(path)
	if problems != nil {
		t.Fatal(problems)
	}
	want := span(t, "10.0.0.0/8", "192.0.2.0/24").Minus(span(t, "10.7.0.0/16"))
	if diff := cmp.Diff(want, c.Policies[0].Match.Balancer(c.Lans)[balancer.MatchDestination]); diff != "" {
		t.Error(diff)
	}

	text, _ := Read(path)
	back, lists, err := Unpack(text)
	if err != nil || string(back) != file || len(lists) != 2 || string(lists["near.txt"]) != "10.7.0.0/16\n" {
		t.Errorf("%v: %q, %q", err, back, lists)
	}
	write("near.txt", "10.8.0.0/16\n")
	if other, _ := Load(path); other == nil || other.Hash == c.Hash {
		t.Error("another list, and the hash is the same")
	}
	added, err := AddNode(text, NewNode{Name: "r3", Addresses: c.Nodes[0].Addresses[:0], Priority: 1})
	if err == nil {
		t.Errorf("a node without an address: %s", added)
	}

	write("far", "10.0.0.0/8\n  10.0.0.0/33\n192.0.2.1 192.0.2.2\n2001:db8::/32\n")
	write("near.txt", "# nothing\n")
	_, problems = Load(path)
	got := strings.ReplaceAll(problems.Error(), dir+"/", "")
	golden := `far:2:3: "10.0.0.0/33" is no network; allowed: a network such as 10.0.0.0/8
     2 |   10.0.0.0/33
       |   ^
far:3:1: "192.0.2.1 192.0.2.2" is no network; allowed: a network such as 10.0.0.0/8
     3 | 192.0.2.1 192.0.2.2
       | ^
far:4:1: IPv4 only: this is IPv6; allowed: an IPv4 address
     4 | 2001:db8::/32
       | ^
near.txt:1:1: no network stands here; allowed: one in each line, such as 10.0.0.0/8
     1 | # nothing
       | ^`
	if diff := cmp.Diff(golden, got); diff != "" {
		t.Error(diff)
	}
	// A file with lists inside is none of ours.
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if c, problems := Load(path); c != nil || problems.Err() == nil {
		t.Error("a packed text was taken from the disk")
	}
}

// TestEditKeepsLists: a node that is added leaves the lists where they are.
func TestEditKeepsLists(t *testing.T) {
	lists := map[string][]byte{"far": []byte("10.0.0.0/8\n"), "near.txt": []byte("10.7.0.0/16")}
	text := Pack([]byte(site(map[string]string{"policies": listed})), lists)
	more, err := AddNode(text, NewNode{Name: "r3", Addresses: mustParse(t, site(map[string]string{"nodes": "{r3: {address: 192.0.2.3}}"})).Nodes[0].Addresses})
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := Unpack(more); err != nil || !cmp.Equal(lists, got) {
		t.Errorf("%v: %q", err, got)
	}
	less, err := RemoveNode(more, "r3")
	if err != nil || !bytes.Equal(less, text) {
		t.Errorf("%v: %q", err, less)
	}
}

// FuzzUnpack: what is taken apart is the same when packed, and what a peer sends
// makes no name that leaves the directory.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("cluster: a\n"))
	f.Add(Pack([]byte("cluster: a\n"), map[string][]byte{"a": nil, "b": []byte("10.0.0.0/8\n")}))
	f.Add([]byte("x\x00@a 99\nb"))
	f.Add([]byte("x\x00@../a 1\nb"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, lists, err := Unpack(text)
		if err != nil {
			return
		}
		if back := Pack(file, lists); !bytes.Equal(back, text) {
			t.Errorf("%q was %q", back, text)
		}
		for name := range lists {
			if filepath.Base(name) != name || strings.HasPrefix(name, ".") {
				t.Errorf("the name %q", name)
			}
		}
	})
}
