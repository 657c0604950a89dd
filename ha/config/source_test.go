package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestNoConfiguration: bytes that are no configuration at all.
func TestNoConfiguration(t *testing.T) {
	const smallest = "; allowed: at least cluster: and nodes: (see deploy/samples/minimal.yaml)"
	for name, test := range map[string]struct {
		text string
		want []string // LINE:COL: text
	}{
		"empty":            {"", []string{"1:1: the file is empty" + smallest}},
		"only comments":    {"# nothing\n\n# here\n", []string{"1:1: the file is empty" + smallest}},
		"null":             {"---\n~\n", []string{"1:1: the file is empty" + smallest}},
		"prose":            {"\nonce upon a time\n", []string{"2:1: one value stands here, which is no configuration" + smallest}},
		"a list":           {"- a\n- b\n", []string{"1:1: a list stands here, which is no configuration" + smallest}},
		"not UTF-8":        {"cluster: h\xff\n", []string{"1:11: byte 0xff is no UTF-8; allowed: text in UTF-8"}},
		"a binary":         {"\x7fELF\x02\x01", []string{"1:1: character U+007F cannot be meant here; allowed: printable text"}},
		"tabs":             {"nodes:\n\tr1: x\n  \tr2: y\n\t# fine\n\t\n", []string{"2:1: a tab in the indentation; allowed: spaces only", "3:3: a tab in the indentation; allowed: spaces only"}},
		"old line ends":    {"a: 1\rb: 2\r", []string{"1:5: character U+000D cannot be meant here; allowed: printable text"}},
		"a long line":      {"cluster: " + strings.Repeat("x", maxLine), []string{"1:1: the line has 16393 bytes; allowed: at most 16384"}},
		"a huge file":      {strings.Repeat("# 345678\n", maxSize/9+1), []string{"1:1: the file has 1048581 bytes; allowed: at most 1048576 (1 MiB)"}},
		"two documents":    {"cluster: a\n---\ncluster: b\n", []string{"3:8: a second YAML document; allowed: one in a file (remove the line ---)"}},
		"open brace":       {"cluster: home\nnodes: {r1: x\n", []string{"2:8: not valid YAML: could not find flow mapping end token '}'"}},
		"colon too many":   {"cluster: home: away\n", []string{"1:10: not valid YAML: mapping value is not allowed in this context"}},
		"stray brackets":   {"cluster: home\nlans: []]\n", []string{"2:9: not valid YAML: value is not allowed in this context"}},
		"anchors":          {"a: &x [1]\nb: *x\n<<: {c: 1}\n", []string{"1:4: anchors, aliases and merge keys are not understood; write the value out", "2:4: anchors, aliases and merge keys are not understood; write the value out", "3:1: anchors, aliases and merge keys are not understood; write the value out"}},
		"tags":             {"a: !!str 1\n", []string{"1:4: the tag !!str is not understood; write the value without it"}},
		"deep flow":        {"a: " + strings.Repeat("[", 2000), []string{"1:24: nested too deep; allowed: 20 levels"}},
		"deep block":       {"a:\n " + strings.Repeat("- ", 2000), []string{"2:42: nested too deep; allowed: 20 levels"}},
		"a key of its own": {"? [a]\n: b\n", []string{"2:1: not valid YAML: found an invalid key for this map"}},
	} {
		c, ps := Parse("x.yaml", []byte(test.text))
		var got []string
		for _, p := range ps {
			got = append(got, fmt.Sprintf("%d:%d: %s", p.Line, p.Col, p.Text))
		}
		if diff := cmp.Diff(test.want, got); diff != "" || c != nil {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

// TestBombs: input made to cost memory or time is refused at once.
func TestBombs(t *testing.T) {
	laughs := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 30 {
		laughs += fmt.Sprintf("a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i, i)
	}
	indent := ""
	for i := range 1200 {
		indent += strings.Repeat(" ", i) + "a:\n"
	}
	for name, text := range map[string]string{
		"aliases": laughs, "steps": indent, "keys": strings.Repeat("a: 1\n", 200_000), "items": "lans:" + strings.Repeat("\n- ", 300_000),
		"braces": strings.Repeat("{", 1<<20), "lines of braces": strings.Repeat("[\n", 1<<19), "quotes": strings.Repeat("\"\n", 1<<19),
		"brackets closed beforehand": strings.Repeat("]", 16_000) + "\n" + strings.Repeat("[", 16_000),
		"lans":                       "lans:\n" + strings.Repeat("- {}\n", 16_000),
		"nodes":                      "nodes: {" + strings.Repeat("a: {},\n", 10_000) + "}",
		"policies":                   "policies:\n" + strings.Repeat("- {name: x, uplinks: [y, y, y]}\n", 3_000),
	} {
		start := time.Now()
		c, ps := Parse("x.yaml", []byte(text))
		if took := time.Since(start); c != nil || len(ps) == 0 || len(ps) > maxProblems || took > 5*time.Second {
			t.Errorf("%s: %d problems after %v", name, len(ps), took)
		} else if testing.Verbose() {
			t.Log(name, took, len(ps), ps[0].Text)
		}
	}
}

// TestPositions: the library is wrong about some columns and lines.
func TestPositions(t *testing.T) {
	for name, test := range map[string]struct {
		text      string
		line, col int
	}{
		"blanks behind":     {"cluster: Home   \nnodes: {a: {address: 192.0.2.1}}\n", 1, 10},
		"Windows":           {"# x\r\n# y\r\n\r\ncluster: Home\r\nnodes: {a: {address: 192.0.2.1}}\r\n", 4, 10},
		"byte order mark":   {"\ufeffcluster: Home\nnodes: {a: {address: 192.0.2.1}}\n", 1, 10},
		"wide characters":   {"nodes: {a: {address: 192.0.2.1}} # ü\ncluster: Ünsere # €\n", 2, 10},
		"quotes":            {"cluster:   'Home'\nnodes: {a: {address: 192.0.2.1}}\n", 1, 12},
		"comment between":   {"cluster: # the name\n  # of it\n  Home # here\nnodes: {a: {address: 192.0.2.1}}\n", 3, 3},
		"no newline at end": {"nodes: {a: {address: 192.0.2.1}}\ncluster: Home", 2, 10},
	} {
		_, ps := Parse("x.yaml", []byte(test.text))
		if errs := ps.Errors(); len(errs) != 1 || errs[0].Line != test.line || errs[0].Col != test.col {
			t.Errorf("%s: want %d:%d\n%v", name, test.line, test.col, ps)
		}
	}
}

func TestProblemText(t *testing.T) {
	_, ps := Parse("dir/h.yaml", []byte("nodes: {a: {address: 192.0.2.1}}\ncluster: Home\n"))
	want := `dir/h.yaml:2:10: cluster: "Home" cannot be a name; allowed: 1 to 32 characters of a-z 0-9 . _ - with a letter or digit first
     2 | cluster: Home
       |          ^
dir/h.yaml:1:1: warning: there are neither lans nor uplinks: the nodes only watch each other
     1 | nodes: {a: {address: 192.0.2.1}}
       | ^`
	ps[0], ps[1] = ps[1], ps[0]
	if diff := cmp.Diff(want, ps.Error()); diff != "" {
		t.Error(diff)
	}
	if len(ps.Warnings()) != 1 || len(ps.Errors()) != 1 || ps.Err() == nil || ps.Warnings().Err() != nil {
		t.Error("errors and warnings are not told apart")
	}
}

func TestLongListOfProblems(t *testing.T) {
	var b strings.Builder
	for i := range 300 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, ps := Parse("x.yaml", []byte(b.String()))
	if len(ps) != maxProblems || !strings.HasSuffix(ps[maxProblems-1].Text, "(202 more problems are not shown)") {
		t.Errorf("%d problems, the last %v", len(ps), ps[len(ps)-1])
	}
}

func TestLoad(t *testing.T) {
	for path, want := range map[string]string{
		"testdata/none.yaml": "testdata/none.yaml: read the configuration: no such file or directory; harouter init writes the first router's file, harouter join fetches it from one that runs",
		"testdata":           "testdata: read the configuration: it is a directory; name a file",
	} {
		c, ps := Load(path)
		if c != nil || ps.Error() != want {
			t.Errorf("%s: %v", path, ps)
		}
	}
}
