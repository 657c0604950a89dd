package control

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// takeLock makes this process the daemon of runDir for as long as the file is
// open. The lock ends with the process, however it ends; the file stays and
// holds the process id for people to read.
func takeLock(runDir string) (*os.File, error) {
	f, err := os.OpenFile(lockPath(runDir), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", runDir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", lockPath(runDir), err)
		}
		who := ""
		if pid, err := io.ReadAll(io.LimitReader(f, 20)); err == nil && len(pid) > 0 {
			who = " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		return nil, fmt.Errorf("another harouter daemon%s runs with %s: stop it, or give this one another --run-dir", who, runDir)
	}
	// Only for people: a full disk must not keep the router from running.
	_ = f.Truncate(0)
	_, _ = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	return f, nil
}

// Ended tells whether no daemon has run-dir any more: it may have closed its
// socket long before it has done all that leaving takes.
func Ended(runDir string) bool {
	f, err := os.OpenFile(lockPath(runDir), os.O_RDWR, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}
