package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrEnded is what Set returns after Retire or Release, and when the guard
// process is gone.
var ErrEnded = errors.New("the guard has ended")

const (
	// startPatience is generous: a guard starts in some 20 ms.
	startPatience = 5 * time.Second
	// highFD: when a process is killed the kernel closes its files from the
	// highest number down, and each packet socket among them takes it some
	// 13 ms (a grace period). The guard must learn of the death before that:
	// 0.3 ms instead of 130 ms with ten packet sockets.
	highFD = 1000
)

// Client is the daemon's side of a guard process.
type Client struct {
	log    *slog.Logger
	pid    int
	page   *page
	conn   *os.File
	fenced chan struct{}
	died   chan struct{}
	left   chan struct{} // the guard understood a release
	mute   chan struct{} // its last word is read
	ended  chan struct{} // the process is gone and waited for, and mute
	seen   atomic.Int64  // fences told to the daemon
	late   atomic.Bool   // waiting is set

	mu      sync.Mutex // orders what is sent
	fd      int        // of conn, -1 when closed
	waiting []byte     // the newest State, for which there was no room
	leaving bool       // Retire or Release was called
}

// Start starts the guard process (exe with args, which must end in a call of
// Run(3, runDir, …)) and waits until it is ready. The process has its own
// session and no tie to the daemon but the socket, so that it outlives it. Call
// TakeOver before the first Start; after Died only Start and Set.
func Start(exe string, args []string, runDir string, log *slog.Logger) (*Client, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if _, err := socketPath(runDir); err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	c, err := start(exe, args, log)
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return c, nil
}

func start(exe string, args []string, log *slog.Logger) (*Client, error) {
	mine, theirs, err := pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	page, pageFile, err := newPage()
	if err != nil {
		unix.Close(mine)
		return nil, err
	}
	defer pageFile.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		unix.Close(mine)
		return nil, err
	}
	defer null.Close()

	ended := make(chan struct{})
	page.startWitness(ended)
	proc, err := os.StartProcess(exe, append([]string{exe}, args...), &os.ProcAttr{
		Dir:   "/",
		Files: []*os.File{null, os.Stderr, os.Stderr, theirs, pageFile},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		close(ended)
		unix.Close(mine)
		return nil, err
	}
	theirs.Close() // else its end would not be seen
	c := &Client{
		log: log, pid: proc.Pid, page: page,
		conn: os.NewFile(uintptr(mine), "guard"), fd: mine,
		fenced: make(chan struct{}, 1),
		died:   make(chan struct{}),
		left:   make(chan struct{}),
		mute:   make(chan struct{}),
		ended:  ended,
	}
	if err := c.ready(); err != nil {
		c.conn.Close()
		proc.Kill()
		proc.Wait()
		close(ended)
		return nil, err
	}
	c.page.beat()
	go c.read()
	go c.wait(proc)
	log.Info("guard started", "pid", c.pid)
	return c, nil
}

// pair makes the socket: our end as a number, the guard's as a file.
func pair() (int, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, seqpacket, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("make the socket: %w", err)
	}
	mine := fds[0]
	if high, err := unix.FcntlInt(uintptr(mine), unix.F_DUPFD_CLOEXEC, highFD); err == nil {
		unix.Close(mine)
		mine = high
	} // else the limit of open files is low, and so is their number
	if unix.SetsockoptInt(mine, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*maxMessage) != nil {
		unix.SetsockoptInt(mine, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*maxMessage)
	}
	return mine, os.NewFile(uintptr(fds[1]), "guard"), nil
}

// ready waits for the guard's first word.
func (c *Client) ready() error {
	c.conn.SetReadDeadline(time.Now().Add(startPatience))
	defer c.conn.SetReadDeadline(time.Time{})
	b := make([]byte, 4096)
	n, err := c.conn.Read(b)
	if err != nil {
		return fmt.Errorf("wait until process %d is ready: %w", c.pid, err)
	}
	m, err := decodeMessage(b[:n])
	switch {
	case err != nil:
		return err
	case m.Kind == kindProblem:
		return errors.New(m.Text)
	case m.Kind != kindReady:
		return fmt.Errorf("it says %q instead of being ready", m.Kind)
	}
	return nil
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
