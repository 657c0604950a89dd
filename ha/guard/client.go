package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// ErrEnded is what Set returns after Retire or Release, and when the guard
// process is gone.
var ErrEnded = errors.New("the guard has ended")

// Client is the daemon's side of a guard process.
type Client struct {
	log    *slog.Logger
	pid    int
	proc   *os.Process
	page   *page
	conn   *os.File
	fenced chan struct{}
	died   chan struct{}
	left   chan struct{} // the guard understood a release
	mute   chan struct{} // its last word is read
	ended  chan struct{} // the process is gone and waited for, and mute
	seen   atomic.Int64  // fences told to the daemon
	late   atomic.Bool   // waiting is set
	pinged int64         // by Ping

	mu      sync.Mutex // orders what is sent
	fd      int        // of conn, -1 when closed
	waiting []byte     // the newest State, for which there was no room
	leaving bool       // Retire or Release was called
}

// read takes what the guard says, until its end.
func (c *Client) read() {
	defer close(c.mute)
	b := make([]byte, 4096)
	for {
		n, err := c.conn.Read(b)
		if err != nil {
			if errors.Is(err, unix.ECONNRESET) {
				continue // said once; what was sent to us comes after it
			}
			c.mu.Lock()
			c.fd = -1
			c.conn.Close()
			c.mu.Unlock()
			return
		}
		m, err := decodeMessage(b[:n])
		if err != nil {
			c.log.Warn("a message of the guard is not understood", "err", err)
			continue
		}
		switch m.Kind {
		case kindFenced:
			c.checkFenced()
		case kindLeft:
			select {
			case <-c.left:
			default:
				close(c.left)
			}
		}
	}
}

func (c *Client) wait(proc *os.Process) {
	state, err := proc.Wait()
	<-c.mute
	close(c.ended)
	c.mu.Lock()
	leaving := c.leaving
	c.mu.Unlock()
	if !leaving {
		c.log.Warn("guard died", "pid", c.pid, "state", fmt.Sprint(state), "err", err)
		close(c.died)
	}
}

// Set tells the guard what to do from now on. It does not block: the state lies
// in the socket when it returns, so it counts even if the daemon is killed the
// next moment. Only when there is no room (a guard that stands still) is it
// kept, the newest replacing an older one, and sent with a later Set or Beat.
// It is a beat, too.
func (c *Client) Set(s State) error {
	b, err := message{Kind: kindState, State: &s}.encode()
	if err != nil {
		return fmt.Errorf("tell the guard: %w", err)
	}
	c.page.beat()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return fmt.Errorf("tell the guard: %w", ErrEnded)
	}
	c.waiting = b
	if err := c.flush(); err != nil && err != unix.EAGAIN {
		return fmt.Errorf("tell the guard: %w", err)
	}
	return nil
}

// flush sends the State that waits. c.mu is held.
func (c *Client) flush() error {
	if c.waiting == nil {
		return nil
	}
	err := c.push(c.waiting)
	if err != unix.EAGAIN {
		c.waiting = nil
	}
	c.late.Store(err == unix.EAGAIN)
	return err
}

// push sends a packet. c.mu is held.
func (c *Client) push(b []byte) error {
	if c.fd < 0 {
		return ErrEnded
	}
	err := push(c.fd, b)
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return ErrEnded
	}
	return err
}

// Beat says that the deciding loop is alive: a store into shared memory. It must
// come from that loop itself, several times within Hang, and first thing after
// the loop woke: when the guard has fenced this daemon meanwhile, Fenced is
// ready as soon as Beat returns.
func (c *Client) Beat() {
	c.page.beat()
	c.checkFenced()
	if c.late.Load() && c.mu.TryLock() {
		if !c.leaving {
			c.flush()
		}
		c.mu.Unlock()
	}
}

func (c *Client) checkFenced() {
	n := c.page.fences.Load()
	if seen := c.seen.Load(); n <= seen || !c.seen.CompareAndSwap(seen, n) {
		return
	}
	select {
	case c.fenced <- struct{}{}:
	default:
	}
}

// Fenced is ready after the guard took this hanging daemon's addresses away and
// sent the farewell. The daemon must be backup and listen first. The guard is
// back at work with the next Set.
func (c *Client) Fenced() <-chan struct{} { return c.fenced }

// Ping asks the guard for a sign of life, and tells whether it has given the one
// that was asked for before; the first time it has. It does not block. Only one
// goroutine may call it.
func (c *Client) Ping() (answered bool) {
	answered = c.page.pings.Load() >= c.pinged
	b, err := message{Kind: kindPing}.encode()
	if err != nil {
		return answered
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leaving && c.push(b) == nil {
		c.pinged++
	}
	return answered
}

// Kill ends a guard that hangs; Died follows.
func (c *Client) Kill() error {
	if err := c.proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the guard, process %d: %w", c.pid, err)
	}
	return nil
}

// Died is closed when the guard process ended without having been asked to. The
// daemon then starts another and tells it the State.
func (c *Client) Died() <-chan struct{} { return c.died }

// PID is the guard's process id.
func (c *Client) PID() int { return c.pid }

// Retire ends the guard in order: it touches nothing. If ctx ends first the
// guard still ends as soon as it reads its mail.
func (c *Client) Retire(ctx context.Context) error {
	if err := c.leave(ctx, kindRetire); err != nil && !errors.Is(err, ErrEnded) {
		return fmt.Errorf("retire the guard: %w", err)
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("retire the guard, process %d: %w", c.pid, ctx.Err())
	}
}

// Release leaves the addresses to the guard, which listens for another node
// from now on, also after the daemon has ended. If this node holds nothing the
// guard ends.
func (c *Client) Release(ctx context.Context) error {
	if err := c.leave(ctx, kindRelease); err != nil {
		return fmt.Errorf("release the guard: %w", err)
	}
	select {
	case <-c.left:
		return nil
	case <-c.ended:
		select {
		case <-c.left: // it held nothing
			return nil
		default:
			return fmt.Errorf("release the guard: %w", ErrEnded)
		}
	case <-ctx.Done():
		return fmt.Errorf("release the guard, process %d: %w", c.pid, ctx.Err())
	}
}

// leave sends the last word, after a State that waits.
func (c *Client) leave(ctx context.Context, k kind) error {
	b, err := message{Kind: k}.encode()
	if err != nil {
		return err
	}
	retry := time.NewTicker(2 * time.Millisecond)
	defer retry.Stop()
	for {
		c.mu.Lock()
		c.leaving = true
		err := c.flush()
		if err == nil {
			err = c.push(b)
		}
		c.mu.Unlock()
		if err != unix.EAGAIN {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ended:
			return ErrEnded
		case <-retry.C:
		}
	}
}
