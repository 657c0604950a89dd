package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sections is a good file, a line for each section; tests replace some.
var sections = []struct{ key, text string }{
	{"cluster", "home"},
	{"nodes", "{r1: {address: 192.0.2.1}, r2: {address: 192.0.2.2}}"},
	{"vrrp", "{}"},
	{"lans", "[{name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}]"},
	{"uplinks", "[{name: a, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}, " +
		"{name: b, device: w2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}}]"},
}

// site is that file with sections replaced, added, or left out ("-").
func site(change map[string]string) string {
	var b strings.Builder
	for _, s := range sections {
		text, ok := change[s.key]
		if !ok {
			text = s.text
		}
		if text != "-" {
			fmt.Fprintf(&b, "%s: %s\n", s.key, text)
		}
	}
	for key, text := range change {
		if !strings.Contains(b.String(), key+": "+text+"\n") && text != "-" {
			fmt.Fprintf(&b, "%s: %s\n", key, text)
		}
	}
	return b.String()
}

// match is a list of policies of which the first one has this match.
func match(text string) string { return "[{name: x, match: " + text + "}]" }

// texts are problems in short.
func texts(ps Problems) []string {
	var all []string
	for _, p := range ps {
		t := p.Text
		if p.Severity == Warning {
			t = "warning: " + t
		}
		all = append(all, t)
	}
	return all
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, ps := Parse("test.yaml", []byte(text))
	if c == nil || len(ps) > 0 {
		t.Fatalf("%s\nin\n%s", ps.Error(), text)
	}
	return c
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSamplesPass(t *testing.T) {
	paths, err := filepath.Glob("../../deploy/samples/*.yaml")
	if err != nil || len(paths) < 6 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		c, ps := Load(path)
		if err := ps.Err(); err != nil || c == nil {
			t.Errorf("%v", err)
		}
		if strings.HasSuffix(path, "harouter.yaml") && len(ps) > 0 {
			t.Errorf("the sample is without reproach, but:\n%s", ps.Error())
		}
	}
}

// TestReadmePolicies: the policies of the README are without reproach, in a file
// that has what they name.
func TestReadmePolicies(t *testing.T) {
	_, text, found := strings.Cut(string(read(t, "../../README.md")), "```yaml\npolicies:\n")
	text, _, end := strings.Cut(text, "```")
	if !found || !end {
		t.Fatal("the README has no policies")
	}
	file := site(map[string]string{
		"lans": "[{name: office, device: lan0, virtual_addresses: [192.168.77.1/24]}, {name: guests, device: lan1, virtual_addresses: [192.168.78.1/24]}]",
		"uplinks": "[{name: cable, device: w1, virtual_addresses: [203.0.113.10/25], probe: {targets: [198.51.100.1]}}, " +
			"{name: dsl, device: w2, virtual_addresses: [203.0.113.140/25], probe: {targets: [198.51.100.1]}}]",
	}) + "policies:\n" + text
	c, ps := Parse("README", Pack([]byte(file), map[string][]byte{"bank": []byte("198.51.100.0/24\n")}))
	if len(ps) > 0 || len(c.Policies) != 7 {
		t.Errorf("%v\nin\n%s", ps, file)
	}
}

// TestDesignSamplePasses: all that the full sample of DESIGN.md §3 has is built.
func TestDesignSamplePasses(t *testing.T) {
	if _, ps := Load("testdata/design.yaml"); ps.Err() != nil {
		t.Error(ps.Err())
	}
}

func TestManyFaults(t *testing.T) {
	for _, name := range []string{"wrong", "broken"} {
		_, ps := Parse(name+".yaml", read(t, "testdata/"+name+".yaml"))
		golden := "testdata/" + name + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(ps.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(string(read(t, golden)), ps.Error()+"\n"); diff != "" {
			t.Errorf("%s (go test -update rewrites it):\n%s", golden, diff)
		}
	}
}
