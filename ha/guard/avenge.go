package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Avenge does what a guard in runDir would have done if it had not been killed
// together with its daemon: it starts another one (exe and args as for Start),
// tells it the orders that the dead one had, and leaves it alone, so that it
// fences or listens. It does nothing, and tells so, where a guard is at work or
// ended in order. When it returns true the addresses are gone, unless no peer
// lived, or ctx ended before.
func Avenge(ctx context.Context, exe string, args []string, runDir string, log *slog.Logger) (done bool, err error) {
	path, err := socketPath(runDir)
	if err != nil {
		return false, fmt.Errorf("fence after the guard: %w", err)
	}
	fd, err := dial(path)
	if err == nil {
		unix.Close(fd)
		return false, nil
	}
	s, err := remembered(runDir)
	if err != nil {
		return false, err
	}
	if s == nil || !s.Holding {
		return false, nil
	}
	c, err := Start(exe, args, runDir, log)
	if err != nil {
		return false, fmt.Errorf("fence after the guard: %w", err)
	}
	if err := c.Set(*s); err != nil {
		return false, fmt.Errorf("fence after the guard: %w", err)
	}
	if !s.PeerAlive {
		if err := c.Release(ctx); err != nil {
			return false, err
		}
		return true, nil
	}
	c.abandon() // as if this process had died
	select {
	case <-c.ended:
		return true, nil
	case <-ctx.Done():
		return false, errors.Join(fmt.Errorf("wait for the fence in %s", filepath.Dir(path)), ctx.Err())
	}
}

// abandon closes the socket without a word.
func (c *Client) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	if c.fd >= 0 {
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
}
