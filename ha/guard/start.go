package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startPatience is generous: a guard starts in some 20 ms.
	startPatience = 5 * time.Second
	// highFD: when a process is killed the kernel closes its files from the
	// highest number down, and each packet socket among them takes it some
	// 13 ms (a grace period). The end of our socket shall not wait for those:
	// 0.3 ms instead of 130 ms with ten of them. (The fence itself is begun by
	// the witness; a lone guard, a takeover and the end of a fence wait for it.)
	highFD = 1000
)

// Start starts the guard process (exe with args, which must end in a call of
// Run(3, runDir, …)) and waits until it is ready. The process has its own
// session and no tie to the daemon but the socket and the page, so that it
// outlives it. exe is best /proc/self/exe, which an upgrade does not replace.
// Call TakeOver before the first Start; after Died only Start and Set. It takes
// some 20 ms: not for the deciding loop.
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
		log: log, pid: proc.Pid, proc: proc, page: page,
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
