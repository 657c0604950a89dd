package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// scripts are those of a directory that are to be run, in order; one that is
// not there has none.
func scripts(dir string) ([]string, error) {
	all, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the hooks: %w", err)
	}
	var out []string
	for _, e := range all {
		name := e.Name()
		if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "#") ||
			strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".bak") {
			continue
		}
		if path := filepath.Join(dir, name); executable(path) {
			out = append(out, path)
		}
	}
	return out, nil
}

// executable tells whether a file, or where a link leads, can be started.
func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// shell tells whether the kernel would not know what to start a file with. What
// the original started had a shell then.
func shell(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	n, err := io.ReadFull(f, magic[:])
	text := magic[:n]
	return (err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)) &&
		!bytes.HasPrefix(text, []byte("#!")) && !bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' && r != '\r' || r > '~' })
}

// maxOutput is how much of what a script prints is kept, bytes: the end.
const maxOutput = 4 << 10

// tail is a writer that keeps the end.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-maxOutput):]...)
	t.b = t.b[max(0, len(t.b)-maxOutput):]
	return len(p), nil
}

// last is the last line that says anything.
func (t *tail) last() string {
	b := bytes.TrimSpace(t.b)
	return strings.ToValidUTF8(string(bytes.TrimSpace(b[bytes.LastIndexByte(b, '\n')+1:])), "?")
}

// run runs one script to its end, limit at most.
func (r *Runner) run(ctx context.Context, path string, t told) error {
	limit := t.cfg.Timeout
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out tail
	program, args := path, t.args()
	if shell(path) {
		program, args = "/bin/sh", append([]string{path}, args...)
	}
	cmd := r.ports.Command(limited, program, args...)
	cmd.Env = append(os.Environ(), t.variables()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // it ended well, and left something running
		err = nil
	case ctx.Err() != nil:
		err = errors.New("killed, the daemon ends")
	case limited.Err() != nil:
		err = fmt.Errorf("killed after %v (hooks.timeout)", limit)
	case err != nil && out.last() != "":
		err = fmt.Errorf("%w: %s", err, out.last())
	}
	r.ports.Log.Debug("hook", "script", path, "state", t.state, "took", time.Since(began), "output", out.last(), "error", err)
	return err
}
