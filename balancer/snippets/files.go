package snippets

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"harouter/balancer"
)

// Directory is where the files are, beside the configuration.
const Directory = "nft.d"

// maxText is how long a file may be, bytes.
const maxText = 1 << 20

// Read reads the files of a directory that end in .nft, in the order of their
// names; hidden ones are passed over. A directory that is not there has none.
// What cannot be read is in failed, by name; "" is the directory.
func Read(dir string) (all []balancer.Snippet, failed map[string]error) {
	failed = map[string]error{}
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed[""] = fmt.Errorf("read the rules of %s: %w", dir, err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, ".nft") || strings.HasPrefix(name, ".") {
			continue
		}
		s, err := read(dir, name)
		if err == nil {
			err = s.Check()
		}
		if err != nil {
			failed[name] = err
		}
		all = append(all, s)
	}
	return all, failed
}

// read reads one file.
func read(dir, name string) (balancer.Snippet, error) {
	s := balancer.Snippet{Name: name}
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return s, err
	}
	if !info.Mode().IsRegular() { // reading one might never end
		return s, fmt.Errorf("%s is no file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return s, err
	}
	if len(text) > maxText {
		return s, fmt.Errorf("%s is longer than %d bytes", path, maxText)
	}
	s.Text = string(text)
	return s, nil
}
