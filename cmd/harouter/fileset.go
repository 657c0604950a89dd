package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fileSet are files that are written whole, and all of them or none. Its steps
// are place (what may fail for rights is seen here), fill (what may fail for
// space), commit; discard after that, or instead of it, takes the rest away.
type fileSet struct {
	files []*placed
	dirs  []string // made by place, outermost first
}

// placed is one file of a set: a temporary one beside its place.
type placed struct {
	path   string
	temp   *os.File
	filled bool
	old    string // a second name of the file that commit replaced, "" none
	done   bool   // commit has put the new one in its place
}

// place makes an empty temporary file beside path, and its directory if it is
// missing. From its first moment on it has no more rights than mode.
func (s *fileSet) place(path string, mode os.FileMode) error {
	if err := s.mkdir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("make the directory of %s: %w", path, err)
	}
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return fmt.Errorf("write %s: it is a directory", path)
	}
	tidy(path)
	// CreateTemp makes it with mode 0600.
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	s.files = append(s.files, &placed{path: path, temp: temp})
	if err := temp.Chmod(mode); err != nil { // whatever the umask says
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// leftAfter is how old a temporary file is that nobody writes any more.
const leftAfter = 10 * time.Minute

// tidy removes the temporary files beside path that a process left which was
// killed: they may hold a key. A second name of a file in its place stays, since it
// is as old as that file. What cannot be removed is in nobody's way.
func tidy(path string) {
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return // whoever writes there meets it too
	}
	for _, f := range files {
		rest, ours := strings.CutPrefix(f.Name(), "."+filepath.Base(path)+".")
		if !ours || rest == "" || strings.Trim(rest, "0123456789") != "" {
			continue
		}
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > leftAfter {
			_ = os.Remove(filepath.Join(filepath.Dir(path), f.Name()))
		}
	}
}

// mkdir makes a directory and what is missing above it.
func (s *fileSet) mkdir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := s.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	s.dirs = append(s.dirs, dir)
	return nil
}

// reserve takes room on the disk for so many bytes of a placed file. More may be
// filled in, if there is room for more then. A file system that cannot reserve
// shows a full disk at fill.
func (s *fileSet) reserve(path string, bytes int64) error {
	f, err := s.find(path)
	if err != nil {
		return err
	}
	for {
		err = unix.Fallocate(int(f.temp.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, bytes)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil, errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		}
		return fmt.Errorf("make room for %s: %w", path, err)
	}
}

// fill writes the content of a placed file to the disk.
func (s *fileSet) fill(path string, data []byte) error {
	f, err := s.find(path)
	if err != nil {
		return err
	}
	_, err = f.temp.Write(data)
	// Truncated, it gives back what was reserved behind its end.
	if err = errors.Join(err, f.temp.Truncate(int64(len(data))), f.temp.Sync(), f.temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f.filled = true
	return nil
}

func (s *fileSet) find(path string) (*placed, error) {
	for _, f := range s.files {
		if f.path == path {
			return f, nil
		}
	}
	return nil, fmt.Errorf("write %s: it was not placed", path)
}

// commit puts all files into their places. On an error the old ones are back.
func (s *fileSet) commit() error {
	for _, f := range s.files {
		if !f.filled {
			return fmt.Errorf("write %s: it has no content", f.path)
		}
	}
	for _, f := range s.files {
		if err := f.commit(); err != nil {
			return errors.Join(fmt.Errorf("write %s: %w", f.path, err), s.undo())
		}
	}
	var failed error
	for _, f := range s.files {
		failed = errors.Join(failed, syncDir(filepath.Dir(f.path)))
	}
	if failed != nil {
		return errors.Join(failed, s.undo())
	}
	for _, f := range s.files {
		if f.old != "" {
			_ = os.Remove(f.old) // all is in its place already
		}
	}
	s.files, s.dirs = nil, nil
	return nil
}

func (f *placed) commit() error {
	if _, err := os.Lstat(f.path); err == nil {
		old := f.temp.Name() + ".old"
		if err := os.Link(f.path, old); err != nil {
			return err
		}
		f.old = old
	}
	if err := os.Rename(f.temp.Name(), f.path); err != nil {
		return err
	}
	f.done = true
	return nil
}

// undo takes back what commit did.
func (s *fileSet) undo() error {
	var failed error
	for _, f := range s.files {
		switch {
		case f.done && f.old != "":
			failed = errors.Join(failed, os.Rename(f.old, f.path))
		case f.done:
			failed = errors.Join(failed, os.Remove(f.path))
		case f.old != "":
			failed = errors.Join(failed, os.Remove(f.old))
		}
	}
	return failed
}

// discard removes what is left of a set that was not committed.
func (s *fileSet) discard() {
	for _, f := range s.files {
		_ = f.temp.Close() // maybe the second time
		_ = os.Remove(f.temp.Name())
	}
	for i := len(s.dirs) - 1; i >= 0; i-- {
		_ = os.Remove(s.dirs[i]) // unless others put something in
	}
	s.files, s.dirs = nil, nil
}

// syncDir makes renames in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
