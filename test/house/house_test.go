package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "harouter"

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath, Dir string
	Imports, Deps   []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,Deps", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		all = append(all, p)
	}
}

// leaves are the pure packages; core is the one that uses them.
var (
	leaves = []string{"vrrp", "balancer", "conntracksync"}
	core   = "ha"
)

func ours(imports []string) []string {
	var out []string
	for _, i := range imports {
		if p, ok := strings.CutPrefix(i, module+"/"); ok {
			out = append(out, p)
		}
	}
	return out
}

// TestImportDirection: cmd -> edges, ha/config -> ha -> leaves; no arrow
// between leaves or between edges; only tests import test/.
func TestImportDirection(t *testing.T) {
	unclean := []string{
		"golang.org/x/sys/unix", "github.com/vishvananda/netlink", "github.com/google/nftables",
		"github.com/hashicorp/memberlist", "os/exec", "log/slog", "syscall",
	}
	seen := map[string]bool{}
	for _, p := range packages(t) {
		seen[p.ImportPath] = true
		switch {
		case slices.Contains(leaves, p.ImportPath):
			if o := ours(p.Imports); len(o) > 0 {
				t.Errorf("%s is a leaf and imports %v", p.ImportPath, o)
			}
			for _, bad := range append(unclean, "net", "os") {
				if slices.Contains(p.Imports, bad) {
					t.Errorf("%s is pure and imports %s", p.ImportPath, bad)
				}
			}
		case p.ImportPath == core:
			for _, o := range ours(p.Imports) {
				if !slices.Contains(leaves, o) {
					t.Errorf("%s imports %s, which is no leaf", p.ImportPath, o)
				}
			}
			for _, bad := range []string{"golang.org/x/sys/unix", "github.com/vishvananda/netlink", "os/exec", "net", "os"} {
				if slices.Contains(p.Imports, bad) {
					t.Errorf("%s imports %s: that belongs into an edge", p.ImportPath, bad)
				}
			}
		case strings.HasPrefix(p.ImportPath, "cmd/"), strings.HasPrefix(p.ImportPath, "test/"):
		default: // edges; a part of one may use the whole
			for _, o := range ours(p.Imports) {
				if o != core && !slices.Contains(leaves, o) && !strings.HasPrefix(p.ImportPath, o+"/") {
					t.Errorf("%s is an edge and imports %s", p.ImportPath, o)
				}
			}
		}
		if !strings.HasPrefix(p.ImportPath, "test/") {
			for _, o := range ours(p.Deps) {
				if strings.HasPrefix(o, "test/") {
					t.Errorf("%s depends on %s, which is for tests", p.ImportPath, o)
				}
			}
		}
	}
	for _, must := range append([]string{core, "ha/config", "ha/gossip", "ha/control", "vrrp/wire", "vrrp/vip",
		"balancer/probe", "balancer/dataplane", "conntracksync/kernel", "cmd/harouter", "test/netlab"}, leaves...) {
		if !seen[must] {
			t.Errorf("the package %s is missing", must)
		}
	}
}

// TestPureCodeHasNoClock: time comes as an argument in the deciding code.
func TestPureCodeHasNoClock(t *testing.T) {
	clock := regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|NewTimer|NewTicker|Tick)\(`)
	for _, dir := range leaves {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if m := clock.Find(src); m != nil {
				t.Errorf("%s reads the clock: %s", f, m)
			}
		}
	}
}

// TestEachPackageExplainsItself: a doc.go, or the comment on main.
func TestEachPackageExplainsItself(t *testing.T) {
	for _, p := range packages(t) {
		file := "doc.go"
		if strings.HasPrefix(p.ImportPath, "cmd/") {
			file = "main.go"
		}
		src, err := os.ReadFile(filepath.Join(p.Dir, file))
		if err != nil {
			t.Errorf("%s has no %s", p.ImportPath, file)
			continue
		}
		if !regexp.MustCompile(`(?m)^// (Package|Command) \w+`).Match(src) {
			t.Errorf("%s/%s does not say what the package is", p.ImportPath, file)
		}
	}
}

// TestTopLevel: nothing but what the house has.
func TestTopLevel(t *testing.T) {
	want := []string{"Makefile", "README.md", "balancer", "bin", "cmd", "conntracksync", "deploy", "go.mod", "go.sum", "ha", "test", "vrrp"}
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(want, e.Name()) {
			t.Errorf("%s does not belong at the top level", e.Name())
		}
	}
}

// TestReadmeNamesDependencies: each direct dependency stands in the README
// with its reason.
func TestReadmeNamesDependencies(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.Contains(f[0], ".") || strings.HasPrefix(f[1], "//") {
			continue
		}
		if !bytes.Contains(readme, []byte("`"+strings.TrimPrefix(f[0], "github.com/")+"`")) {
			t.Errorf("the README does not say why %s is needed", f[0])
		}
	}
}
