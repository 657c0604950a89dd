package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: no bytes make it panic, every problem has its place in the file, a
// refused file gives no Config and an accepted one keeps its promises.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../../deploy/samples/*.yaml"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	for _, seed := range []string{
		"", "\n", "a", "{", "[", "a: [", "? ", "- ", "'", "\"", "&a", "*a", "!!str", "%YAML 1.2\n---\n", "---\n...\n", "<<: *a", "|", ">", "a: |\n  b",
		"\xff", "\ufeff", "nodes: {? a: b}", "nodes: {r1: {address: }}", "lans:\n- \n-\n", "uplinks: [{name: a, name: b}]", "a: b #c\r\n", "null: null",
		"cluster: x\nnodes: {a: {address: 127.0.0.1}}\n", "lans: [{virtual_addresses: [::1/64, fd00::/8, 1.1.1.1/32]}]", "vrrp: {advertise: 1e9999h}",
		"uplinks: [{speed: {down: NaNgbit}, probe: {loss: {clear: NaN%}}}]", "policies: [{weights: {a: b}, match: {source: {not: {}}}}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, ps := Parse("x.yaml", data)
		if (c == nil) != (ps.Err() != nil) {
			t.Fatalf("config %v with %v", c != nil, ps)
		}
		lines := strings.Split(string(data), "\n")
		for _, p := range ps {
			if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > utf8.RuneCountInString(lines[p.Line-1])+1 || p.Text == "" ||
				strings.Count(p.Excerpt, "\n") != 1 || !strings.HasSuffix(p.Excerpt, "^") || strings.ContainsAny(p.Text, "\n\x00\x1b") {
				t.Fatalf("bad problem %+v", p)
			}
		}
		if c == nil {
			return
		}
		if c.Cluster == "" || len(c.Nodes) == 0 || len(c.Hash) != 64 || c.Policies[len(c.Policies)-1].Name != DefaultPolicy {
			t.Fatalf("half a config: %+v", c)
		}
		ids := map[int]bool{}
		for _, u := range c.Uplinks {
			if ids[u.ID] || u.ID < 1 || u.ID > min(maxID, c.Balance.MarkMask.Max()) || u.Name == "" || u.Device == "" || c.Device(c.Nodes[0].Name, u.Name) == "" {
				t.Fatalf("bad uplink %+v", u)
			}
			ids[u.ID] = true
		}
		for _, n := range c.Nodes {
			if n.Name == "" || len(n.Addresses) == 0 || n.Priority < 1 || n.Priority > 254 {
				t.Fatalf("bad node %+v", n)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("AAAA"))
	f.Add(NewKey().Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := ParseKey(data); err == nil {
			if again, err := ParseKey(k.Encode()); err != nil || again.Primary != k.Primary || len(again.Older) != len(k.Older) {
				t.Fatalf("no round trip: %v", err)
			}
		}
	})
}
