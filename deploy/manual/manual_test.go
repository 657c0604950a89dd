package manual

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEscape: nothing that a person writes is taken for a request of roff.
func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		".TH is a request":     `\&.TH is a request`,
		"a\n'b":                "a\n" + `\&'b`,
		`C:\n`:                 `C:\en`,
		"--flag":               `\-\-flag`,
		"in the . middle":      "in the . middle",
		"fall × interval, 1…5": `fall \(mu interval, 1...5`,
	} {
		if got := escape(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestCommands: a page for what people use, with its flags and what it lacks not.
func TestCommands(t *testing.T) {
	root := &cobra.Command{Use: "x", Short: "does things", Run: func(*cobra.Command, []string) {}}
	root.PersistentFlags().String("config", "/etc/x", "the `FILE`")
	verb := &cobra.Command{Use: "go WHERE", Short: "goes", Example: "  x go home", Run: func(*cobra.Command, []string) {}}
	verb.Flags().Bool("fast", false, "do not dally")
	root.AddCommand(verb, &cobra.Command{Use: "secret", Hidden: true, Run: func(*cobra.Command, []string) {}})
	pages := map[string]string{}
	for _, p := range Commands(root, "1.0") {
		pages[p.Name] = p.Text
	}
	if _, ok := pages["x-secret.8"]; ok || pages["x.8"] == "" {
		t.Errorf("pages: %v", pages)
	}
	for _, want := range []string{`.TH "X\-GO" 8`, `x\-go \- goes`, `\fBx go WHERE`, `\fB\-\-fast\fR`, "do not dally", `\fB\-\-config FILE\fR`, "(default /etc/x)", "x go home", "harouter.yaml(5)"} {
		if !strings.Contains(pages["x-go.8"], want) {
			t.Errorf("no %q in\n%s", want, pages["x-go.8"])
		}
	}
}

// TestFile: each fact of a key is told, and a part has a title once.
func TestFile(t *testing.T) {
	text := File([]Key{
		{Path: "a", Text: "The a.", Values: "a map", Example: "{}"},
		{Path: "a.b", Text: "The b.", Values: "1 to 3", Example: "2", Default: "1"},
		{Path: "c[].d", Text: "The d.", Values: "text", Example: "x", Required: true},
	}, "a: {b: 2}", "1.0").Text
	for _, want := range []string{"Allowed: 1 to 3. Default: 1. Example: 2", "Must be there.", `.SS "c"`, "a: {b: 2}"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, ".SS "); n != 2 {
		t.Errorf("%d parts, want 2", n)
	}
}
