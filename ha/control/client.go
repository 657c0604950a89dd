package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Client sends commands to the daemon of one run directory.
type Client struct {
	runDir string
	conn   net.Conn // of Dial, for the first command
}

// ErrNoDaemon is what Dial's error wraps where nobody listens.
var ErrNoDaemon = errors.New("no harouter daemon runs here")

// Dial connects to the daemon of runDir. Its errors are sentences for the
// person who typed the command.
func Dial(runDir string) (*Client, error) {
	conn, err := dial(runDir)
	if err != nil {
		return nil, err
	}
	return &Client{runDir: runDir, conn: conn}, nil
}

func dial(runDir string) (net.Conn, error) {
	path := socketPath(runDir)
	start := "start it with `harouter run` or `systemctl start harouter`"
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("connect to %s: the path has %d bytes, a socket's at most %d: choose a shorter --run-dir", path, len(path), maxSocketPath)
	}
	conn, err := net.DialTimeout("unix", path, 2*time.Second)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w (no %s): %s", ErrNoDaemon, path, start)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w (%s is left of one that ended): %s", ErrNoDaemon, path, start)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w to talk to the daemon (%s): try as root, or as a member of the group that owns the socket", fs.ErrPermission, path)
	case errors.Is(err, syscall.EAGAIN):
		return nil, fmt.Errorf("the daemon does not answer (%s): too many clients wait already", path)
	}
	return nil, fmt.Errorf("talk to the daemon: %w", err)
}

// Daemon is the process that listens, 0 if the kernel does not tell.
func (c *Client) Daemon() int {
	raw, err := c.conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return 0
	}
	return int(cred.Pid)
}

// Close ends a client that sent no command.
func (c *Client) Close() error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// Do sends a command and calls each with every object of the answer, until the
// answer ends, each returns an error, or ctx ends; the error of the last two
// is returned as it is. What the daemon refused is an *Error. args may be nil.
func (c *Client) Do(ctx context.Context, command string, args any, each func(json.RawMessage) error) error {
	conn := c.conn
	c.conn = nil
	if conn == nil {
		var err error
		if conn, err = dial(c.runDir); err != nil {
			return err
		}
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()

	r := Request{Command: command}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("send %s: %w", command, err)
		}
		r.Args = raw
	}
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("send %s: %w", command, err)
	}
	// A daemon that is busy answers without reading: look at the answer first.
	_, sent := conn.Write(append(line, '\n'))
	if err := read(conn, each); ctx.Err() != nil {
		return ctx.Err()
	} else if errors.Is(err, errEnded) {
		if sent != nil {
			return fmt.Errorf("send %s to the daemon: %w", command, sent)
		}
		return fmt.Errorf("%s: %w", command, err)
	} else {
		return err
	}
}

var errEnded = errors.New("the daemon ended before its answer was complete")

// read takes the lines of an answer.
func read(r io.Reader, each func(json.RawMessage) error) error {
	in := json.NewDecoder(bufio.NewReader(r))
	for {
		var a answer
		if err := in.Decode(&a); err != nil {
			if _, ok := errors.AsType[*json.SyntaxError](err); ok {
				return fmt.Errorf("read the daemon's answer: %w", err)
			}
			return errEnded
		}
		switch {
		case a.Error != "":
			return &Error{Text: a.Error, Code: max(a.Code, 1)}
		case a.Done:
			return nil
		case each != nil:
			if err := each(a.Data); err != nil {
				return err
			}
		}
	}
}
