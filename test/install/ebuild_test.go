package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// portage is what Portage and the eclasses give to an ebuild, in short.
const portage = `
set -eu
die() { echo "died: $*" >&2; exit 1; }
inherit() { for e; do case $e in go-module|linux-info|systemd) ;; *) die "no eclass $e" ;; esac; done; }
ego() { echo "ego $*"; }
usex() { if [[ " $USE " == *" $1 "* ]]; then echo "${2-yes}"; else echo "${3-no}"; fi; }
systemd_get_systemunitdir() { echo /usr/lib/systemd/system; }
keepdir() { mkdir -p "$D$1"; }
elog() { echo "elog: $*"; }
einfo() { echo "einfo: $*"; }
P=harouter-1.2.3 PF=harouter-1.2.3-r1 PV=1.2.3 EPREFIX="" EROOT="$R" D="$IMAGE" ED="$IMAGE" REPLACING_VERSIONS="${REPLACING_VERSIONS-}"
`

// ebuild runs a line behind the ebuild, in a folder of the sources.
func ebuild(t *testing.T, dir, line string, env ...string) string {
	t.Helper()
	c := exec.Command("bash", "-c", portage+". deploy/gentoo/harouter-9999.ebuild\n"+line)
	c.Dir = dir
	c.Env = append(append(os.Environ(), "S="+dir, "R=/nowhere", "IMAGE=/nowhere", "USE="), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// TestEbuild: with a stand-in for Portage its phases do what they should, and
// what it installs is what make install installs.
func TestEbuild(t *testing.T) {
	t.Parallel()
	dir, made := sources(t), t.TempDir()
	run(t, dir, "make", "install", "DESTDIR="+made, "PREFIX=/usr", "SYSCONFDIR=/etc", "VERSION=1.2.3", "COMMIT=", "DATE=")
	for use, without := range map[string][]string{"systemd": nil, "": {"/usr/lib/systemd/", "/usr/lib/NetworkManager/", "/examples/keep-addresses.conf"}} {
		image := t.TempDir()
		ebuild(t, dir, "src_install", "IMAGE="+image, "USE="+use)
		var want []string
		for _, f := range tree(t, made) {
			drop := false
			for _, w := range without {
				drop = drop || strings.Contains(f, w)
			}
			if drop {
				continue
			}
			if strings.HasPrefix(f, "/usr/share/man/") {
				f = strings.TrimSuffix(f, ".gz")
			}
			want = append(want, strings.Replace(f, "/share/doc/harouter/", "/share/doc/harouter-1.2.3-r1/", 1))
		}
		if diff := cmp.Diff(want, tree(t, image)); diff != "" {
			t.Errorf("USE=%q, make install and the ebuild:\n%s", use, diff)
		}
		if text, err := os.ReadFile(image + "/etc/init.d/harouter"); err != nil || !strings.Contains(string(text), `harouter="/usr/sbin/harouter"`) {
			t.Errorf("the service script: %v", err)
		}
	}
	if out := ebuild(t, dir, "src_compile"); !strings.Contains(out, "main.version=1.2.3 -o bin/harouter ./cmd/harouter") {
		t.Errorf("compiles: %s", out)
	}
	if out := ebuild(t, dir, "pkg_nofetch; pkg_postinst"); !strings.Contains(out, "einfo:   harouter-1.2.3.tar.xz and harouter-1.2.3-deps.tar.xz") || !strings.Contains(out, "elog: On the first router") {
		t.Errorf("says: %s", out)
	}

	// At an upgrade a master hands over, a backup does not.
	for role, want := range map[string]string{"master": "handed over\nelog: This router handed over", "backup": "", "master alone": "nobody\n", "master busy": "handed over\nelog: This router handed over"} {
		root := t.TempDir()
		must(t, os.MkdirAll(root+"/usr/sbin", 0o755))
		program := "#!/bin/sh\ncase $1 in\nstatus) echo '  \"role\": \"" + strings.Fields(role)[0] + "\"' ;;\nfailover) echo handed over ;;\nesac\n"
		if role == "master alone" {
			program = strings.Replace(program, "echo handed over", "echo nobody; exit 1", 1)
		}
		if role == "master busy" {
			program = strings.Replace(program, "echo handed over", "test -e "+root+"/asked && echo handed over || { touch "+root+"/asked; exit 1; }", 1)
		}
		must(t, os.WriteFile(root+"/usr/sbin/harouter", []byte(program), 0o755))
		out := ebuild(t, dir, "pkg_preinst", "R="+root, "REPLACING_VERSIONS=1.2.2")
		if want == "" && out != "" || !strings.HasPrefix(out, want) || role == "master alone" && strings.Contains(out, "elog") {
			t.Errorf("upgrade of a %s: %q", role, out)
		}
	}
}

// tree lists the files below a folder, and folders that are empty.
func tree(t *testing.T, root string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if d.IsDir() {
			if inside, err := os.ReadDir(path); err != nil || len(inside) > 0 {
				return err
			}
		}
		all = append(all, strings.TrimPrefix(path, root))
		return nil
	}))
	return all
}
