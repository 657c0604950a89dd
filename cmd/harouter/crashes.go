package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"harouter/ha"
)

// startsName is the file with the times of the starts that were not followed by
// an orderly end, in the run directory: what was before this machine started is
// no crash of the daemon.
const startsName = "starts"

// starts keeps the times since boot, in seconds, one a line.
type starts struct{ dir string }

// began notes a start, and returns how many lives within ha.CrashWindow ended
// without a word.
func (s starts) began() (crashes int, err error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("note the start: %w", err)
	}
	path := filepath.Join(s.dir, startsName)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("note the start: %w", err)
	}
	seconds := int64(now.Sec) // an int32 on processors of 32 bits
	lately := recent(string(b), seconds)
	text := ""
	for _, at := range append(lately, seconds) {
		text += strconv.FormatInt(at, 10) + "\n"
	}
	if err := place(document{path, []byte(text), 0o644}); err != nil {
		return len(lately), fmt.Errorf("note the start: %w", err)
	}
	return len(lately), nil
}

// recent reads the times that count at the time now. What is no time, or is to
// come, does not.
func recent(text string, now int64) []int64 {
	var out []int64
	for line := range strings.Lines(text) {
		at, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if err == nil && at <= now && now-at < int64(ha.CrashWindow/time.Second) {
			out = append(out, at)
		}
	}
	return out
}

// ended notes an orderly end: this life was none of a loop.
func (s starts) ended() error {
	if err := os.Remove(filepath.Join(s.dir, startsName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note the end: %w", err)
	}
	return nil
}
