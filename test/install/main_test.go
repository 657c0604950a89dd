package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"harouter/test/netlab"
)

func TestMain(m *testing.M) {
	netlab.Main()
	os.Exit(m.Run())
}

const top = "../.."

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run is a program's output, of both kinds.
func run(t *testing.T, dir string, argv ...string) string {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// sources copies what git knows of, as it is now, into a folder of its own.
func sources(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, top, "sh", "-c", fmt.Sprintf("git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t %s", dir))
	return dir
}

// deb builds the package for amd64 out of a copy of the sources, with the quick
// compression.
func deb(t *testing.T, dir, version string) string {
	t.Helper()
	run(t, dir, "make", "deb", "ARCHES=amd64", "VERSION="+version, "COMMIT=test", "DATE=2026-01-01", "COMPRESSION=gzip")
	path := filepath.Join(dir, "bin/deb", "harouter_"+version+"_amd64.deb")
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}
