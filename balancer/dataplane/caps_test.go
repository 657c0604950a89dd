package dataplane

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// core are the expressions that every kernel with nf_tables has.
var core = []string{"Bitwise", "Byteorder", "Cmp", "Dynset", "Exthdr", "Immediate", "Lookup", "Meta", "Payload", "Range", "Rt", "Verdict"}

// sameOption are those that come with the option of another one.
var sameOption = map[string]string{"Notrack": "Ct"}

// triedApart are those that Kernel.queueing tries, and Lacking with it.
var triedApart = []string{"Queue", "Target"}

// TestNeedsAreAll: each expression that a rule can have is tried where the kernel
// refuses the table, and by doctor.
func TestNeedsAreAll(t *testing.T) {
	tried := map[string]bool{}
	for _, n := range needs {
		for _, e := range n.exprs {
			tried[reflect.TypeOf(e).Elem().Name()] = true
		}
	}
	used := map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if name == "caps.go" || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if of, ok := literal.Type.(*ast.SelectorExpr); ok {
				if pkg, ok := of.X.(*ast.Ident); ok && pkg.Name == "expr" {
					used[of.Sel.Name] = true
				}
			}
			return true
		})
	}
	if !used["Numgen"] || !used["Dynset"] {
		t.Fatalf("the expressions were not found, only %v", slices.Sorted(maps.Keys(used)))
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if as := sameOption[name]; !tried[name] && !slices.Contains(core, name) && !slices.Contains(triedApart, name) && !tried[as] {
			t.Errorf("no kernel is asked for expr.%s: put it into needs with the option that brings it, and that into the ebuild and modules-load.conf", name)
		}
	}
}

// TestNeedsAreInstalled: the ebuild looks for the options, and their modules are
// loaded at boot.
func TestNeedsAreInstalled(t *testing.T) {
	ebuild, err := os.ReadFile("../../deploy/gentoo/harouter-9999.ebuild")
	if err != nil {
		t.Fatal(err)
	}
	modules, err := os.ReadFile("../../deploy/modules-load.conf")
	if err != nil {
		t.Fatal(err)
	}
	check := regexp.MustCompile(`(?s)CONFIG_CHECK="(.*?)"`).FindSubmatch(ebuild)
	if check == nil {
		t.Fatal("no CONFIG_CHECK in the ebuild")
	}
	checked := strings.Fields(strings.ReplaceAll(string(check[1]), "~", ""))
	var notChecked, notLoaded []string
	options := []string{OptionQueue}
	for _, n := range needs {
		options = append(options, n.option)
	}
	for _, option := range options {
		if option == "NFT_COUNTER" { // no option and no module any more
			continue
		}
		if !slices.Contains(checked, option) {
			notChecked = append(notChecked, option)
		}
		if module := strings.ToLower(option); strings.HasPrefix(module, "nft_") && !slices.Contains(strings.Split(string(modules), "\n"), module) {
			notLoaded = append(notLoaded, module)
		}
	}
	if diff := cmp.Diff([2][]string{}, [2][]string{notChecked, notLoaded}); diff != "" {
		t.Errorf("not in CONFIG_CHECK, not in modules-load.conf:\n%s", diff)
	}
}
