package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// tree lists what is in a directory: mode and content of each file.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() && path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := e.Info()
		if err != nil || e.IsDir() {
			out[name] = "directory"
			return err
		}
		b, err := os.ReadFile(path)
		out[name] = fmt.Sprintf("%04o %s", info.Mode().Perm(), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFileSet(t *testing.T) {
	for name, v := range map[string]struct {
		do   func(t *testing.T, s *fileSet, dir string)
		want map[string]string
	}{
		"all steps": {func(t *testing.T, s *fileSet, dir string) {
			must(t, s.place(dir+"/etc/a", 0o644))
			must(t, s.place(dir+"/var/lib/b", 0o600))
			must(t, s.fill(dir+"/etc/a", []byte("A")))
			must(t, s.fill(dir+"/var/lib/b", []byte("B")))
			must(t, s.commit())
		}, map[string]string{"old": "0640 O", "etc": "directory", "etc/a": "0644 A", "var": "directory", "var/lib": "directory", "var/lib/b": "0600 B"}},
		"given up": {func(t *testing.T, s *fileSet, dir string) {
			must(t, s.place(dir+"/etc/a", 0o644))
			must(t, s.fill(dir+"/etc/a", []byte("A")))
		}, map[string]string{"old": "0640 O"}},
		"over an old one": {func(t *testing.T, s *fileSet, dir string) {
			must(t, s.place(dir+"/old", 0o600))
			must(t, s.fill(dir+"/old", []byte("N")))
			must(t, s.commit())
		}, map[string]string{"old": "0600 N"}},
		"one without content": {func(t *testing.T, s *fileSet, dir string) {
			must(t, s.place(dir+"/old", 0o600))
			must(t, s.place(dir+"/a", 0o600))
			must(t, s.fill(dir+"/old", []byte("N")))
			if err := s.commit(); err == nil || !strings.Contains(err.Error(), "no content") {
				t.Errorf("error %v", err)
			}
		}, map[string]string{"old": "0640 O"}},
		"the last rename fails": {func(t *testing.T, s *fileSet, dir string) {
			must(t, s.place(dir+"/old", 0o600))
			must(t, s.place(dir+"/new", 0o600))
			must(t, s.place(dir+"/a", 0o600))
			for _, f := range []string{"old", "new", "a"} {
				must(t, s.fill(dir+"/"+f, []byte("N")))
			}
			must(t, os.Mkdir(dir+"/a", 0o755)) // came meanwhile
			if err := s.commit(); err == nil {
				t.Error("no error")
			}
		}, map[string]string{"old": "0640 O", "a": "directory"}},
		"a directory in its place": {func(t *testing.T, s *fileSet, dir string) {
			if err := s.place(dir, 0o600); err == nil || !strings.Contains(err.Error(), "is a directory") {
				t.Errorf("error %v", err)
			}
			if err := s.place(dir+"/old/a", 0o600); err == nil || !strings.Contains(err.Error(), "not a directory") && !strings.Contains(err.Error(), "no directory") {
				t.Errorf("error %v", err)
			}
		}, map[string]string{"old": "0640 O"}},
		"another one's file in a new directory": {func(t *testing.T, s *fileSet, dir string) {
			must(t, s.place(dir+"/etc/a", 0o644))
			must(t, os.WriteFile(dir+"/etc/b", []byte("B"), 0o600))
		}, map[string]string{"old": "0640 O", "etc": "directory", "etc/b": "0600 B"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(dir+"/old", []byte("O"), 0o640))
			var s fileSet
			v.do(t, &s, dir)
			s.discard()
			if diff := cmp.Diff(v.want, tree(t, dir)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKeyIsNeverReadable: its temporary file has the final rights from the
// beginning, whatever the umask.
func TestKeyIsNeverReadable(t *testing.T) {
	dir := t.TempDir()
	var s fileSet
	defer s.discard()
	must(t, s.place(dir+"/cluster.key", 0o600))
	look := func(when string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		must(t, err)
		if len(entries) != 1 {
			t.Errorf("%s: %v", when, entries)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %s is %v", when, e.Name(), info.Mode())
			}
		}
	}
	look("placed")
	must(t, s.fill(dir+"/cluster.key", []byte("secret")))
	look("filled")
	must(t, s.commit())
	look("done")
}

func TestWriteGeneration(t *testing.T) {
	dir := t.TempDir()
	must(t, writeGeneration(dir, 1, []byte("cluster: old\n")))
	must(t, writeGeneration(dir, 7, []byte("cluster: home\n")))
	if diff := cmp.Diff(map[string]string{
		"accepted":               "directory",
		"accepted/harouter.yaml": "0644 cluster: home\n",
		"accepted/generation":    `0644 {"generation":7,"hash":"bcc614ca695097934081a2c3522c586c1ebda7f2c5be4a3cc19b119eb78477f5"}` + "\n",
	}, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestForgotten: a node that was forgotten does not run with the file of then,
// until it has joined again or got another file.
func TestForgotten(t *testing.T) {
	dir := t.TempDir()
	file := []byte("cluster: home\n")
	is := func(what string, file []byte, want bool) {
		t.Helper()
		if got := isForgotten(dir, file); got != want {
			t.Errorf("%s: forgotten %v", what, got)
		}
	}
	is("nothing remembered", file, false)
	must(t, writeGeneration(dir, 4, file))
	is("a member", file, false)
	must(t, writeForgotten(dir))
	is("forgotten", file, true)
	is("another file", []byte("cluster: new\n"), false)
	must(t, writeGeneration(dir, 6, file))
	is("joined again, with the same file", file, false)
	must(t, os.WriteFile(forgottenMark(dir), []byte("garbage"), 0o644))
	is("garbage", file, false)
}

// TestReserve: room that was reserved is there for its file alone, and what it
// does not need is free again.
func TestReserve(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	dir := t.TempDir()
	netlab.Sh(t, "mount --make-rprivate / && mount -t tmpfs -o size=64k none "+dir)
	defer netlab.Sh(t, "umount "+dir)
	var set fileSet
	defer set.discard()
	path := filepath.Join(dir, "a")
	must(t, set.place(path, 0o644))
	must(t, set.reserve(path, 40<<10))
	if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, 64<<10), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("another file takes all the room: error %v", err)
	}
	must(t, set.fill(path, []byte("hello\n")))
	must(t, set.commit())
	if diff := cmp.Diff("0644 hello\n", tree(t, dir)["a"]); diff != "" {
		t.Error(diff)
	}
	must(t, os.WriteFile(filepath.Join(dir, "other"), make([]byte, 60<<10), 0o644))
	must(t, set.place(path, 0o644))
	if err := set.reserve(path, 40<<10); err == nil || !strings.Contains(err.Error(), "make room for "+path+": no space left on device") {
		t.Errorf("no room: error %v", err)
	}
}

// TestFullDisk: with no room for one file, none is written and the old ones
// stay.
func TestFullDisk(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	dir := t.TempDir()
	netlab.Sh(t, "mount --make-rprivate / && mount -t tmpfs -o size=64k none "+dir)
	defer netlab.Sh(t, "umount "+dir)
	must(t, writeGeneration(dir, 1, []byte("cluster: old\n")))
	before := tree(t, dir)
	err := writeGeneration(dir, 2, make([]byte, 100<<10))
	if err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
	must(t, writeGeneration(dir, 2, []byte("cluster: new\n")))
}

// TestLeftovers: what a killed process left goes with the next one that writes
// there; what is being written, and what others have there, stays.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		".key.123": time.Hour, ".key.123.old": time.Hour, ".key.456": time.Minute, ".key.bak": time.Hour, ".key.": time.Hour,
		".other.123": time.Hour, "key.123": time.Hour,
	} {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, os.Chtimes(path, time.Time{}, time.Now().Add(-age)))
	}
	must(t, place(document{filepath.Join(dir, "key"), []byte("new"), 0o600}))
	want := map[string]string{"key": "0600 new", ".key.456": "0600 ", ".key.123.old": "0600 ", ".key.bak": "0600 ", ".key.": "0600 ", ".other.123": "0600 ", "key.123": "0600 "}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}
