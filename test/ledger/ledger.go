package ledger

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
)

// Tests are the test functions of packages by folder, each with the texts that
// stand in its file outside of other functions: the names of its cases.
type Tests map[string]map[string]map[string]bool

// Has is an error unless there is such a test: PACKAGE.NAME, with the name of its
// case behind a slash. The package is a folder below the one in which the caller
// runs, none for that itself, or from the top with a slash before it; top is the
// way there, such as "..".
func (all Tests) Has(top, name string) error {
	folder, name, sub := Split(top, name)
	if all[folder] == nil {
		found, err := readTests(folder)
		if err != nil {
			return err
		}
		all[folder] = found
	}
	switch cases := all[folder][name]; {
	case cases == nil:
		return fmt.Errorf("there is no test %s in %s", name, folder)
	case sub != "" && !cases[sub]:
		return fmt.Errorf("%s has no case %q", name, sub)
	}
	return nil
}

// Split takes a name apart: the folder, the function, the case.
func Split(top, name string) (folder, function, sub string) {
	folder = "."
	if dot := strings.Index(name, "."); dot >= 0 && !strings.HasPrefix(name, "Test") {
		folder, name = name[:dot], name[dot+1:]
		if strings.HasPrefix(folder, "/") {
			folder = top + folder
		}
	}
	function, sub, _ = strings.Cut(name, "/")
	return folder, function, sub
}

func readTests(folder string) (map[string]map[string]bool, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no tests in %s", folder)
	}
	found := map[string]map[string]bool{}
	for _, f := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		outside := map[string]bool{}
		for _, d := range tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); !ok {
				collect(d, outside)
			} else if strings.HasPrefix(fn.Name.Name, "Test") && fn.Recv == nil {
				found[fn.Name.Name] = collect(fn.Body, map[string]bool{})
			}
		}
		for _, d := range tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && found[fn.Name.Name] != nil {
				for text := range outside {
					found[fn.Name.Name][text] = true
				}
			}
		}
	}
	return found, nil
}

// collect takes in the texts within a node.
func collect(n ast.Node, into map[string]bool) map[string]bool {
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				into[text] = true
			}
		}
		return true
	})
	return into
}
