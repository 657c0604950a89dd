package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReadFile: whatever stands where a file should be, there is an answer soon.
func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("file"), []byte("12345"), 0o600))
	must(syscall.Mkfifo(at("pipe"), 0o600))
	r, w, err := os.Pipe()
	must(err)
	defer r.Close()
	_, err = w.WriteString("123")
	must(err)
	must(w.Close())
	for _, c := range []struct{ name, path, want, err string }{
		{"a file", at("file"), "12345", ""},
		{"what another program prints", fmt.Sprint("/proc/self/fd/", r.Fd()), "123", ""},
		{"a pipe without a writer", at("pipe"), "", "into which nobody writes"},
		{"a directory", dir, "", "it is a directory; name a file"},
		{"a device", "/dev/zero", "", "it is a device; name a file"},
		{"nothing", at("none"), "", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadFile(c.path, 4)
			if string(got) != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}
