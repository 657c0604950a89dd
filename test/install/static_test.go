package install

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestScripts: shellcheck has nothing to say.
func TestScripts(t *testing.T) {
	t.Parallel()
	var scripts []string
	for _, pattern := range []string{"deploy/*.sh", "deploy/debian/*.sh", "deploy/debian/p*", "deploy/openrc/harouter", "deploy/gentoo/*.sh", "deploy/samples/dnsmasq/copy-leases", "test/install/*.sh", ".ci/run"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		must(t, err)
		if found == nil {
			t.Errorf("nothing is %s", pattern)
		}
		scripts = append(scripts, found...)
	}
	run(t, ".", append([]string{"shellcheck"}, scripts...)...)
	run(t, top, "shellcheck", "--shell=bash", "--exclude=SC2034,SC2154", "deploy/gentoo/harouter-9999.ebuild") // variables of Portage

	text, err := os.ReadFile(filepath.Join(top, "Makefile"))
	must(t, err)
	argv := []string{"make", "-n", "-s"}
	for _, target := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(string(text), -1) {
		argv = append(argv, target[1])
	}
	recipes := filepath.Join(t.TempDir(), "recipes.sh")
	must(t, os.WriteFile(recipes, []byte("#!/bin/sh\n"+run(t, top, argv...)), 0o644))
	run(t, top, "shellcheck", "--exclude=SC2046,SC2086", recipes) // lists of words stand in variables there
}

// exposure is what systemd-analyze security says at most; 10 is no protection.
const exposure = 4.0

// TestUnit: systemd understands every line of the unit, and what it shields.
func TestUnit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unit, err := os.ReadFile(filepath.Join(top, "deploy/systemd/harouter.service"))
	must(t, err)
	path := filepath.Join(dir, "harouter.service")
	must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(unit), "/usr/local/sbin/harouter", "/bin/true")), 0o644))
	if out := run(t, dir, "systemd-analyze", "verify", "--man=no", path); strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	root := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(root, "etc/systemd/system"), 0o755))
	must(t, os.WriteFile(filepath.Join(root, "etc/systemd/system/harouter.service"), unit, 0o644))
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--root="+root, fmt.Sprintf("--threshold=%.0f", 10*exposure), "harouter.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security, at most %.1f: %v\n%s", exposure, err, out)
	}
	t.Log(regexp.MustCompile(`Overall exposure level.*`).FindString(string(out)))
}

// TestSamePackageTwice: the same sources in two folders give the same bytes.
func TestSamePackageTwice(t *testing.T) {
	t.Parallel()
	one, err := os.ReadFile(deb(t, sources(t), "1.0.0"))
	must(t, err)
	two, err := os.ReadFile(deb(t, sources(t), "1.0.0"))
	must(t, err)
	if string(one) != string(two) {
		t.Error("two builds of the same sources differ")
	}
}

// TestPackage: lintian finds nothing worse than a remark, every architecture is
// built, and the package has the license of each module that is linked.
func TestPackage(t *testing.T) {
	t.Parallel()
	dir := sources(t)
	run(t, dir, "make", "deb", "VERSION=v1.2.3-4-gabcdef0", "COMMIT=test", "DATE=2026-01-01")
	found, err := filepath.Glob(filepath.Join(dir, "bin/deb/*.deb"))
	must(t, err)
	var names []string
	for _, f := range found {
		names = append(names, filepath.Base(f))
		if out, err := exec.Command("lintian", "--fail-on", "error,warning", f).CombinedOutput(); err != nil {
			t.Errorf("lintian %s: %v\n%s", f, err, out)
		}
	}
	want := []string{"harouter_1.2.3+4+gabcdef0_amd64.deb", "harouter_1.2.3+4+gabcdef0_arm64.deb", "harouter_1.2.3+4+gabcdef0_armhf.deb"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	root := t.TempDir()
	run(t, root, "dpkg-deb", "--extract", found[0], root)
	notices := run(t, root, "zcat", root+"/usr/share/doc/harouter/notices.gz")
	linked := regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)`).FindAllStringSubmatch(run(t, root, "go", "version", "-m", root+"/usr/sbin/harouter"), -1)
	if len(linked) < 10 {
		t.Errorf("only %d modules are linked", len(linked))
	}
	for _, m := range linked {
		if !strings.Contains(notices, "==== "+m[1]+" "+m[2]+": ") {
			t.Errorf("no license of %s %s", m[1], m[2])
		}
	}
	conffiles := run(t, dir, "dpkg-deb", "--info", found[0], "conffiles")
	if conffiles != "/etc/default/harouter\n" {
		t.Errorf("conffiles: %s", conffiles)
	}
}

// TestInstallAndUninstall: make install puts things below DESTDIR only, says the
// right path in the services, and uninstall leaves nothing but the configuration.
func TestInstallAndUninstall(t *testing.T) {
	t.Parallel()
	dir, dest := sources(t), t.TempDir()
	args := []string{"DESTDIR=" + dest, "PREFIX=/opt/ha", "VERSION=1", "COMMIT=", "DATE="}
	run(t, dir, append([]string{"make", "install"}, args...)...)
	for path, want := range map[string]string{
		"/opt/ha/lib/systemd/system/harouter.service":        "ExecStart=/opt/ha/sbin/harouter run",
		"/etc/init.d/harouter":                               `harouter="/opt/ha/sbin/harouter"`,
		"/opt/ha/share/bash-completion/completions/harouter": "bash completion",
	} {
		if text, err := os.ReadFile(dest + path); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, no %q", path, err, want)
		}
	}
	if out := run(t, dir, dest+"/opt/ha/sbin/harouter", "version"); !strings.HasPrefix(out, "harouter 1 ") {
		t.Errorf("version: %s", out)
	}
	run(t, dir, append([]string{"make", "uninstall"}, args...)...)
	if left := run(t, dest, "find", ".", "-type", "f"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// TestManualPages: man has nothing to complain about.
func TestManualPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, top, "go", "run", "-buildvcs=false", "./cmd/harouter", "man", dir)
	pages, err := filepath.Glob(dir + "/*")
	must(t, err)
	if len(pages) < 10 {
		t.Errorf("only %d pages", len(pages))
	}
	for _, p := range pages {
		c := exec.Command("man", "--warnings=all", "-E", "UTF-8", "-l", "-Tutf8", "-Z", p)
		c.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=")
		var warnings strings.Builder
		c.Stderr = &warnings
		if err := c.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(p), err, warnings.String())
		}
	}
}
