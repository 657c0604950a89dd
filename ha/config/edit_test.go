package config

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

var r9 = NewNode{Name: "r9", Addresses: addrs("192.0.2.9")}

// TestAddAndRemoveNode: what adding r9 gives; removing it again gives what was
// there, to the byte.
func TestAddAndRemoveNode(t *testing.T) {
	for name, test := range map[string]struct{ before, after string }{
		"lines of {}": {
			"cluster: home # of mine\nnodes:   # all\n  r1: {address: 192.0.2.1, priority: 200}   # first\n  r2: {address: 192.0.2.2,\n       devices: {}}  # second\n# the rest\nlans: []\n",
			"cluster: home # of mine\nnodes:   # all\n  r1: {address: 192.0.2.1, priority: 200}   # first\n  r2: {address: 192.0.2.2,\n       devices: {}}  # second\n  r9: {address: 192.0.2.9, priority: 50}\n# the rest\nlans: []\n",
		},
		"blocks": {
			"nodes:\n    r1:\n      # here\n      priority: 30\n\n      address: 192.0.2.1\ncluster: home\n",
			"nodes:\n    r1:\n      # here\n      priority: 30\n\n      address: 192.0.2.1\n    r9:\n      address: 192.0.2.9\n      priority: 1\ncluster: home\n",
		},
		"blocks with lines between": {
			"nodes:\n  r1:\n    address: 192.0.2.1\n\n  # the other one\n  r2:\n    address: 192.0.2.2\n\n\ncluster: home\n",
			"nodes:\n  r1:\n    address: 192.0.2.1\n\n  # the other one\n  r2:\n    address: 192.0.2.2\n  r9:\n    address: 192.0.2.9\n    priority: 50\n\n\ncluster: home\n",
		},
		"an empty line between": {
			"nodes:\n  r1:\n    address: 192.0.2.1\n\n  r2:\n    address: 192.0.2.2\n\ncluster: home\n",
			"nodes:\n  r1:\n    address: 192.0.2.1\n\n  r2:\n    address: 192.0.2.2\n\n  r9:\n    address: 192.0.2.9\n    priority: 50\n\ncluster: home\n",
		},
		"comments below": {
			"cluster: home\nnodes:\n  r1: {address: 192.0.2.1} # a cable\n                           # of 3 m\n  # no more yet\n\nlans: []\n",
			"cluster: home\nnodes:\n  r1: {address: 192.0.2.1} # a cable\n                           # of 3 m\n  r9: {address: 192.0.2.9, priority: 50}\n  # no more yet\n\nlans: []\n",
		},
		"no newline at the end": {
			"cluster: home\nnodes:\n  r1: {address: 192.0.2.1}",
			"cluster: home\nnodes:\n  r1: {address: 192.0.2.1}\n  r9: {address: 192.0.2.9, priority: 50}",
		},
		"Windows": {
			"cluster: home\r\nnodes:\r\n  r1:\r\n    address: 192.0.2.1\r\nlans: []\r\n",
			"cluster: home\r\nnodes:\r\n  r1:\r\n    address: 192.0.2.1\r\n  r9:\r\n    address: 192.0.2.9\r\n    priority: 50\r\nlans: []\r\n",
		},
		"Windows, no newline at the end": {
			"cluster: home\r\nnodes:\r\n  r1: {address: 192.0.2.1}",
			"cluster: home\r\nnodes:\r\n  r1: {address: 192.0.2.1}\r\n  r9: {address: 192.0.2.9, priority: 50}",
		},
		"one line": {
			"{cluster: home, nodes: {r1: {address: 192.0.2.1}}} # all",
			"{cluster: home, nodes: {r1: {address: 192.0.2.1}, r9: {address: 192.0.2.9, priority: 50}}} # all",
		},
		"one line, a comma behind": {
			"cluster: home\nnodes: { r1: {address: 192.0.2.1}, }\n",
			"cluster: home\nnodes: { r1: {address: 192.0.2.1}, r9: {address: 192.0.2.9, priority: 50}, }\n",
		},
		"braces over lines": {
			"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1},  # a, b}\n  r2: {address: 192.0.2.2}   # c\n}\n",
			"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1},  # a, b}\n  r2: {address: 192.0.2.2},   # c\n  r9: {address: 192.0.2.9, priority: 50}\n}\n",
		},
		"braces over lines, a comma behind": {
			"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1}, # c\n}\n",
			"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1}, # c\n  r9: {address: 192.0.2.9, priority: 50},\n}\n",
		},
		"braces as in the contract": {
			"cluster: home\nnodes: {r1: {address: 192.0.2.1},   # one\n        r2: {address: 192.0.2.2}}   # two\n",
			"cluster: home\nnodes: {r1: {address: 192.0.2.1},   # one\n        r2: {address: 192.0.2.2},\n        r9: {address: 192.0.2.9, priority: 50}}   # two\n",
		},
		"quotes": {
			"\ufeff'cluster': home\n\"nodes\":\n  'r1': {\"address\": '192.0.2.1'} # it's {\n  \"r2\": {address: 192.0.2.2}\nhooks: {directory: 'hooks'} # don't\n",
			"\ufeff'cluster': home\n\"nodes\":\n  'r1': {\"address\": '192.0.2.1'} # it's {\n  \"r2\": {address: 192.0.2.2}\n  r9: {address: 192.0.2.9, priority: 50}\nhooks: {directory: 'hooks'} # don't\n",
		},
		"an ü above": {
			"# Zürich €\ncluster: home\nnodes: {r1: {address: 192.0.2.1}} # ü\n",
			"# Zürich €\ncluster: home\nnodes: {r1: {address: 192.0.2.1}, r9: {address: 192.0.2.9, priority: 50}} # ü\n",
		},
	} {
		got, err := AddNode([]byte(test.before), r9)
		if diff := cmp.Diff(test.after, string(got)); diff != "" || err != nil {
			t.Errorf("%s, added: %v\n%s", name, err, diff)
			continue
		}
		if again, err := AddNode(got, r9); err != nil || !bytes.Equal(again, got) {
			t.Errorf("%s, added twice: %v", name, err)
		}
		back, err := RemoveNode(got, "r9")
		if diff := cmp.Diff(test.before, string(back)); diff != "" || err != nil {
			t.Errorf("%s, removed: %v\n%s", name, err, diff)
		}
	}
}

// TestRemoveNode: nodes that a person wrote, also from the middle.
func TestRemoveNode(t *testing.T) {
	for name, test := range map[string]struct{ before, node, after string }{
		"block, first": {"cluster: home\nnodes:\n  # the cellar\n  r1:\n    address: 192.0.2.1\n    # its own\n\n  # the roof\n  r2:\n    address: 192.0.2.2\n", "r1",
			"cluster: home\nnodes:\n  # the cellar\n\n  # the roof\n  r2:\n    address: 192.0.2.2\n"},
		"block, middle": {"nodes:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2,\n    priority: 3}\n  r3: {address: 192.0.2.3}\ncluster: home\n", "r2",
			"nodes:\n  r1: {address: 192.0.2.1}\n  r3: {address: 192.0.2.3}\ncluster: home\n"},
		"one line, first": {"cluster: home\nnodes: {r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}, r3: {address: 192.0.2.3}}\n", "r1",
			"cluster: home\nnodes: {r2: {address: 192.0.2.2}, r3: {address: 192.0.2.3}}\n"},
		"one line, middle": {"cluster: home\nnodes: {r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}, r3: {address: 192.0.2.3}}\n", "r2",
			"cluster: home\nnodes: {r1: {address: 192.0.2.1}, r3: {address: 192.0.2.3}}\n"},
		"one line, last": {"cluster: home\nnodes: {r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}  }\n", "r2",
			"cluster: home\nnodes: {r1: {address: 192.0.2.1}  }\n"},
		"braces, first": {"cluster: home\nnodes: {r1: {address: 192.0.2.1},   # one\n        r2: {address: 192.0.2.2}}   # two\n", "r1",
			"cluster: home\nnodes: {r2: {address: 192.0.2.2}}   # two\n"},
		"braces, first, a word between": {"cluster: home\nnodes: {r1: {address: 192.0.2.1},   # one\n        # kept\n        r2: {address: 192.0.2.2}}   # two\n", "r1",
			"cluster: home\nnodes: {   # one\n        # kept\n        r2: {address: 192.0.2.2}}   # two\n"},
		"braces, last, a comment before": {"cluster: home\nnodes: {r1: {address: 192.0.2.1},   # one\n        r2: {address: 192.0.2.2}}   # two\n", "r2",
			"cluster: home\nnodes: {r1: {address: 192.0.2.1}   # one\n        }   # two\n"},
		"braces over lines, middle": {"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1},  # a\n  r2: {address: 192.0.2.2},  # b\n  r3: {address: 192.0.2.3}  # c\n}\n", "r2",
			"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1},  # a\n  r3: {address: 192.0.2.3}  # c\n}\n"},
		"braces over lines, last": {"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1},  # a\n  r2: {address: 192.0.2.2}  # b\n}\n", "r2",
			"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1}  # a\n}\n"},
		"braces over lines, two in one": {"cluster: home\nnodes: {\n  r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2},\n  r3: {address: 192.0.2.3}\n}\n", "r1",
			"cluster: home\nnodes: {\n  r2: {address: 192.0.2.2},\n  r3: {address: 192.0.2.3}\n}\n"},
	} {
		got, err := RemoveNode([]byte(test.before), test.node)
		if diff := cmp.Diff(test.after, string(got)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

// TestNewNodeText: all that a node can say, in both styles.
func TestNewNodeText(t *testing.T) {
	n := NewNode{Name: "2024", Addresses: addrs("192.0.2.9", "10.7.0.9"), Priority: 7, Devices: map[string]string{"office": "br-lan.7", "b": "0"}}
	for name, test := range map[string]struct{ nodes, want string }{
		"flow":  {"{r1: {address: 192.0.2.1}}", `, "2024": {addresses: [192.0.2.9, 10.7.0.9], priority: 7, devices: {b: "0", office: br-lan.7}}`},
		"block": {"\n  r1:\n   address: 192.0.2.1", "  \"2024\":\n   addresses: [192.0.2.9, 10.7.0.9]\n   priority: 7\n   devices: {b: \"0\", office: br-lan.7}\n"},
	} {
		before := site(map[string]string{"nodes": test.nodes})
		got, err := AddNode([]byte(before), n)
		if err != nil || !strings.Contains(string(got), test.want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		if c := mustParse(t, string(got)); c.Device("2024", "office") != "br-lan.7" || c.Nodes[1].Priority != 7 {
			t.Errorf("%s: %+v", name, c.Nodes)
		}
	}
}

func TestAddNodeRefuses(t *testing.T) {
	good := site(nil)
	for name, test := range map[string]struct {
		text string
		n    NewNode
		want string
	}{
		"a bad file":           {"cluster: home\n", r9, "add node \"r9\": the file has mistakes already:\nthe file:1:1: the file: the key nodes is missing"},
		"other address":        {good, NewNode{Name: "r2", Addresses: addrs("192.0.2.9")}, `add node "r2": there is a node of that name with other data ({address: 192.0.2.2, priority: 100}); allowed: another name, or the same data`},
		"other priority":       {good, NewNode{Name: "r2", Addresses: addrs("192.0.2.2"), Priority: 7}, "with other data"},
		"other device":         {good, NewNode{Name: "r2", Addresses: addrs("192.0.2.2"), Devices: map[string]string{"a": "x"}}, "with other data"},
		"address of a peer":    {good, NewNode{Name: "r9", Addresses: addrs("192.0.2.1")}, `add node "r9": 192.0.2.1 stands twice: node r1 in line 2, node r9 here; allowed: each address once`},
		"virtual address":      {good, NewNode{Name: "r9", Addresses: addrs("192.168.77.1")}, "192.168.77.1 stands twice"},
		"unknown link":         {good, NewNode{Name: "r9", Addresses: addrs("192.0.2.9"), Devices: map[string]string{"c": "x"}}, `there is no lan or uplink "c"`},
		"a name with tricks":   {good, NewNode{Name: "r9: {}\n", Addresses: addrs("192.0.2.9")}, `the name "r9: {}\n" cannot be a name; allowed: 1 to 63 characters`},
		"a device with tricks": {good, NewNode{Name: "r9", Addresses: addrs("192.0.2.9"), Devices: map[string]string{"a": "x}, r8: {"}}, `devices: "x}, r8: {" cannot be the name of a device`},
		"no address":           {good, NewNode{Name: "r9"}, "it has 0 addresses; allowed: 1 to 8"},
		"no valid address":     {good, NewNode{Name: "r9", Addresses: []netip.Addr{{}}}, "one of its addresses is none"},
		"IPv6":                 {good, NewNode{Name: "r9", Addresses: addrs("fd00::9")}, "the first address of node r1 (line 2) is IPv4"},
		"priority":             {good, NewNode{Name: "r9", Addresses: addrs("192.0.2.9"), Priority: 255}, "priority 255 is out of range; allowed: 1 to 254"},
		"escaped names":        {"cluster: home\nnodes:\n  \"r\\x31\": {address: 192.0.2.1}\n", r9, `add node "r9": the nodes are written in a way that only a person can edit; add this under nodes: r9: {address: 192.0.2.9, priority: 50}`},
	} {
		got, err := AddNode([]byte(test.text), test.n)
		if got != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	for name, n := range map[string]NewNode{
		"any priority":  {Name: "r2", Addresses: addrs("192.0.2.2"), Devices: map[string]string{}},
		"same priority": {Name: "r2", Addresses: addrs("192.0.2.2"), Priority: 100},
	} {
		if got, err := AddNode([]byte(good), n); string(got) != good || err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRemoveNodeRefuses(t *testing.T) {
	one := site(map[string]string{"nodes": "{r1: {address: 192.0.2.1}}"})
	for name, test := range map[string]struct{ text, node, want string }{
		"a bad file":    {"", "r1", "remove node \"r1\": the file has mistakes already:\nthe file:1:1: the file is empty"},
		"unknown":       {site(nil), "r3", `remove node "r3": there is no such node (did you mean r1?); the file has: r1, r2`},
		"the last one":  {one, "r1", `remove node "r1": it is the only one; a file has at least one node`},
		"escaped names": {"cluster: home\nnodes:\n  \"r\\x31\": {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n", "r2", "only a person can edit; remove its entry under nodes"},
	} {
		got, err := RemoveNode([]byte(test.text), test.node)
		if got != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// TestEditSamples: real files, each node out and a new one in.
func TestEditSamples(t *testing.T) {
	for _, path := range []string{"../../deploy/samples/harouter.yaml", "../../deploy/samples/minimal.yaml"} {
		text := read(t, path)
		added, err := AddNode(text, r9)
		if err != nil {
			t.Fatal(path, err)
		}
		back, err := RemoveNode(added, "r9")
		if diff := cmp.Diff(string(text), string(back)); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", path, err, diff)
		}
		for _, name := range []string{"r1", "r2"} {
			if _, err := RemoveNode(text, name); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// TestVerified: an edited text that is valid but says something else is no result.
func TestVerified(t *testing.T) {
	byHand, text := errors.New("by hand"), site(nil)
	fail := func(err error) ([]byte, error) { return nil, err }
	for name, test := range map[string]struct {
		change map[string]string
		want   string
	}{
		"the same":       {nil, ""},
		"something else": {map[string]string{"cluster": "away"}, "by hand"},
		"no YAML":        {map[string]string{"cluster": "{"}, "by hand"},
		"a mistake":      {map[string]string{"cluster": "Away"}, `cluster: "Away" cannot be a name`},
	} {
		out, err := verified([]byte(site(test.change)), mustParse(t, text), fail, byHand)
		if (err == nil) != (test.want == "") || (out == nil) != (err != nil) || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// layoutOf writes a file of n nodes as some person might.
func layoutOf(r *rand.Rand, n int) string {
	nl := pick(r, "\n", "\r\n")
	note := func() string { return pick(r, "", "", " # it's {a, \"b\"}, #c", "   #") }
	lines := func(indent string) (s string) { // that belong to nobody
		for range r.IntN(3) {
			s += pick(r, "", "  ", indent+"# a: {b}", "  # c, }", "# d") + nl
		}
		return s
	}
	flow, block := r.IntN(2) == 0, r.IntN(2) == 0
	step := strings.Repeat(" ", 1+r.IntN(5))
	var b strings.Builder
	b.WriteString(lines("") + "cluster: home" + nl + pick(r, "nodes", "'nodes'") + ":")
	if flow {
		b.WriteString(" {" + pick(r, "", " ", note()+nl+step))
	} else {
		b.WriteString(note() + nl)
	}
	for i := range n {
		name, last := pick(r, "r%d", "'r%d'", "\"r%d\""), i == n-1
		name = fmt.Sprintf(name, i)
		entry := fmt.Sprintf("{address: 192.0.2.%d%s}", i+1, pick(r, "", ", priority: 9", ","+nl+step+step+"devices: {} ", ", "))
		switch {
		case flow:
			b.WriteString(name + ": " + entry)
			if !last || r.IntN(3) == 0 {
				b.WriteString(pick(r, ",", " ,"))
			}
			if !last || r.IntN(2) == 0 {
				b.WriteString(pick(r, " ", note()+nl+step, note()+nl+lines(step)+step))
			}
		case block:
			b.WriteString(lines(step) + step + name + ":" + note() + nl + lines(step+step))
			b.WriteString(step + "  address: " + fmt.Sprintf("192.0.2.%d", i+1) + note() + nl)
		default:
			b.WriteString(lines(step) + step + name + ": " + entry + note() + nl)
		}
	}
	if flow {
		b.WriteString("}" + note() + nl)
	}
	b.WriteString(lines(step) + pick(r, "", "vrrp: {}"+nl, "ports:"+nl+" gossip: 1"))
	return strings.TrimRight(b.String(), pick(r, "", "\r\n"))
}

func pick(r *rand.Rand, words ...string) string { return words[r.IntN(len(words))] }

// TestEditAnyLayout: in files of every shape, adding and removing a node gives
// the file back, removing any node leaves a valid file, and no comment is lost
// with the addition.
func TestEditAnyLayout(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	edited := 0
	for range 3_000 {
		text := layoutOf(r, 1+r.IntN(3))
		c, _ := Parse("x", []byte(text))
		if c == nil {
			continue
		}
		added, err := AddNode([]byte(text), r9)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if a, b := strings.Count(text, "#"), strings.Count(string(added), "#"); a != b {
			t.Fatalf("comments: %d, then %d\n%s\n%s", a, b, text, added)
		}
		back, err := RemoveNode(added, "r9")
		if err != nil || string(back) != text {
			t.Fatalf("%v\n%s\nthen\n%s\nthen\n%s", err, text, added, back)
		}
		for _, n := range c.Nodes {
			if out, err := RemoveNode([]byte(text), n.Name); len(c.Nodes) > 1 && err != nil {
				t.Fatalf("%s: %v\n%s\n%s", n.Name, err, text, out)
			}
		}
		edited++
	}
	if edited < 1_500 {
		t.Errorf("only %d of the files were valid", edited)
	}
}

// FuzzEditNodes: whatever the file and the new node, there is a valid file that
// says the same but for the node, or an error.
func FuzzEditNodes(f *testing.F) {
	paths, _ := filepath.Glob("../../deploy/samples/*.yaml")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "r9", "lan0")
	}
	for _, text := range []string{
		"cluster: h\nnodes: {r1: {address: 127.0.0.1}, 'a': {address: 10.0.0.1,},}", "{nodes: {\"r1\": {address: 10.0.0.1} #\n}, cluster: h}",
		"cluster: h\r\nnodes:\r\n  r1:\r\n    address: 10.0.0.1\r\n\r\n  r2:\r\n    address: 10.0.0.2\r\n", "nodes:\n  r1:\n   addresses: [10.0.0.1,\n10.0.0.2]\ncluster: h",
	} {
		f.Add([]byte(text), "null", "0")
	}
	f.Fuzz(func(t *testing.T, data []byte, name, device string) {
		before, _ := Parse("x", data)
		n := NewNode{Name: name, Addresses: addrs("10.250.250.250")}
		if before != nil && len(before.Uplinks) > 0 {
			n.Devices = map[string]string{before.Uplinks[0].Name: device}
		}
		out, err := AddNode(data, n)
		if (err == nil) != (out != nil) || before == nil && err == nil {
			t.Fatalf("%q with %v", out, err)
		}
		if err == nil {
			after, problems := Parse("x", out)
			if after == nil {
				t.Fatalf("%v in\n%s", problems, out)
			}
			if len(after.Nodes) == len(before.Nodes)+1 && !bytes.Contains(out, []byte(name)) {
				t.Fatalf("no %q in %s", name, out)
			}
		}
		if before == nil {
			return
		}
		for _, node := range before.Nodes {
			out, err := RemoveNode(data, node.Name)
			if err != nil {
				continue
			}
			if after, problems := Parse("x", out); after == nil || len(after.Nodes) != len(before.Nodes)-1 {
				t.Fatalf("%v in\n%s", problems, out)
			}
		}
	})
}
