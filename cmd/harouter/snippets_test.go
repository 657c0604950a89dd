package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSnippetsOfPlanAndCheck(t *testing.T) {
	config := filepath.Join(t.TempDir(), "harouter.yaml")
	if s := snippetScript(config, true); s != "" {
		t.Errorf("without a directory: %q", s)
	}
	dir := filepath.Join(filepath.Dir(config), "nft.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"10-a.nft": "chain user_input {\n\ttcp dport 23 drop\n}", "20-b.nft": "flush ruleset", "30-c": "not for us"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const bad = "line 1: flush: what stands between the braces of a table is wanted"
	s := snippetScript(config, true)
	for _, want := range []string{"# nft.d/\"20-b.nft\" is left out: \"" + bad, "nft -f - <<'end of nft.d'\ntable inet harouter {\n\tchain user_input {\n\t\ttype filter hook input", "tcp dport 23 drop\n}\n}\nend of nft.d\n"} {
		if !strings.Contains(s, want) {
			t.Errorf("%q is missing in\n%s", want, s)
		}
	}
	if s := snippetScript(config, false); !strings.HasPrefix(s, "# ") || strings.Count(s, "\n") != 1 {
		t.Errorf("of another node: %q", s)
	}
	if f := examineSnippets(config); len(f) != 1 || f[0].Subject != "nft.d/20-b.nft" || !strings.HasPrefix(f[0].Text, bad) {
		t.Errorf("findings: %v", f)
	}
	t.Setenv("PATH", "")
	if f := examineSnippets(config); len(f) != 2 || f[1].Subject != "nft.d" {
		t.Errorf("findings without nft: %v", f)
	}
}
