package main

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPathsAreAbsolute: the guard and the programs of others run elsewhere.
func TestPathsAreAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	c := &common{config: "a.yaml", runDir: "rn", stateDir: "/var/lib/x", node: "r1"}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	want := common{
		config: filepath.Join(dir, "a.yaml"), keyFile: filepath.Join(dir, "cluster.key"),
		runDir: filepath.Join(dir, "rn"), stateDir: "/var/lib/x", node: "r1",
	}
	if diff := cmp.Diff(want, *c, cmp.AllowUnexported(common{})); diff != "" {
		t.Error(diff)
	}
}
