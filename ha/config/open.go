package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// pipeLimit is how long the program behind a pipe may take.
const pipeLimit = 2 * time.Second

// ReadFile reads a file, of one that is longer than most bytes one more. It never
// waits for long: what is neither a file nor a pipe (a directory, a device) is an
// error, and so is a pipe that nobody writes into.
func ReadFile(path string, most int64) ([]byte, error) {
	fail := func(why string) error { return &os.PathError{Op: "read", Path: path, Err: errors.New(why)} }
	// Look before opening: that alone may wait, or do something.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	pipe := info.Mode().Type() == os.ModeNamedPipe
	switch {
	case info.IsDir():
		return nil, fail("it is a directory; name a file")
	case info.Mode()&os.ModeDevice != 0:
		return nil, fail("it is a device; name a file")
	case !pipe && !info.Mode().IsRegular():
		return nil, fail("it is no file; name one")
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if pipe {
		if err := f.SetReadDeadline(time.Now().Add(pipeLimit)); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fail(fmt.Sprintf("it is a pipe whose other side did not end within %v", pipeLimit))
	case pipe && err == nil && len(data) == 0:
		return nil, fail("it is a pipe into which nobody writes")
	}
	return data, err
}
