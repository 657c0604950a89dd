package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// document is a file that is to be written as a whole.
type document struct {
	path string
	data []byte
	mode os.FileMode
}

// place writes all documents or none: what was there stays if anything fails,
// such as a full disk, and no half of a file is ever seen. Directories that are
// missing are made.
func place(docs ...document) (err error) {
	var undo, done []func() error
	defer func() {
		steps := done
		if err != nil {
			steps = undo
		}
		for i := len(steps) - 1; i >= 0; i-- {
			if e := steps[i](); e != nil && !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, fmt.Errorf("tidy up: %w", e))
			}
		}
	}()
	remove := func(path string) func() error { return func() error { return os.Remove(path) } }
	var temps []string
	for _, d := range docs {
		made, err := makeDir(filepath.Dir(d.path))
		for _, dir := range made {
			undo = append(undo, remove(dir))
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", d.path, err)
		}
		temp, err := writeTemp(d)
		if temp != "" {
			undo = append(undo, remove(temp))
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", d.path, err)
		}
		temps = append(temps, temp)
	}
	for i, d := range docs {
		was := temps[i] + ".was" // a second name of what is replaced
		switch err := os.Link(d.path, was); {
		case err == nil:
			undo = append(undo, func() error { return os.Rename(was, d.path) })
			done = append(done, remove(was))
		case errors.Is(err, os.ErrNotExist):
			undo = append(undo, remove(d.path))
		default:
			return fmt.Errorf("replace %s: %w", d.path, err)
		}
		if err := os.Rename(temps[i], d.path); err != nil {
			return fmt.Errorf("write %s: %w", d.path, err)
		}
	}
	return nil
}

// makeDir makes a directory with its parents, and tells which are new, the
// outermost first.
func makeDir(dir string) (made []string, err error) {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if made, err = makeDir(parent); err != nil {
			return made, err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return made, err
	}
	return append(made, dir), nil
}

// writeTemp writes a document beside its place; the name is empty if there is no
// file to remove.
func writeTemp(d document) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(d.path), "."+filepath.Base(d.path)+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(d.data)
	if err == nil {
		err = f.Chmod(d.mode)
	}
	if err == nil {
		err = f.Sync() // a full disk may show only here
	}
	return f.Name(), errors.Join(err, f.Close())
}
