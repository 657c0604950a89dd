package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Handler carries out one command. It calls reply once for each object of the
// answer; the error of reply means that the client is gone, and so does the
// end of ctx. It runs in a goroutine of its own and may take as long as the
// command does, but while reply waits for a slow reader (two seconds at most)
// it must not hold up anything else.
type Handler func(ctx context.Context, r Request, reply func(any) error) error

// Server answers on the control socket.
type Server struct {
	handle Handler
	log    *slog.Logger
	lock   *os.File
	socket *net.UnixListener
	slots  chan struct{}

	requestWithin, writeWithin time.Duration // differ in tests only
}

// Listen makes this process the daemon of runDir, which is created if need be,
// and opens the socket, replacing that of a daemon which is gone. Clients wait
// until Run. The error is a sentence for the person who started a second
// daemon. The lock is held until Close.
func Listen(runDir string, handle Handler, log *slog.Logger) (*Server, error) {
	path := socketPath(runDir)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, a socket's at most %d: choose a shorter --run-dir", path, len(path), maxSocketPath)
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return nil, fmt.Errorf("create the run directory: %w", err)
	}
	lock, err := takeLock(runDir)
	if err != nil {
		return nil, err
	}
	// With the lock, whatever is there is of a daemon that is gone.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Close()
		return nil, fmt.Errorf("replace the control socket: %w", err)
	}
	// The mode of the descriptor is that of the file which bind makes (less
	// the umask): there is no moment in which others may connect.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		err := c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o660) })
		return errors.Join(err, chmod)
	}}
	socket, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		socket.Close()
		lock.Close()
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		handle: handle, log: log, lock: lock, socket: socket.(*net.UnixListener), slots: make(chan struct{}, maxClients),
		requestWithin: requestWithin, writeWithin: writeWithin,
	}, nil
}

// String names the task.
func (s *Server) String() string { return "control" }

// Close ends a server that never ran.
func (s *Server) Close() error {
	err := s.socket.Close()
	if errors.Is(err, net.ErrClosed) { // Run has ended
		err = nil
	}
	return errors.Join(err, s.lock.Close())
}

// Run answers until ctx ends; commands that are under way then have their ctx
// ended too, and Run waits for them. The socket is removed; the lock stays until
// Close, since a daemon that does not answer any more may still be leaving.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { s.socket.Close() })
	defer stop()
	var err error
	for {
		var conn *net.UnixConn
		if conn, err = s.socket.AcceptUnix(); err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				break
			}
			s.log.Warn("accept a control client", "error", err) // too many files, most likely
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-s.slots }()
				s.serve(ctx, conn)
			})
		default:
			c := client{conn, s.writeWithin}
			c.fail(&Error{Text: fmt.Sprintf("the daemon already talks to %d clients: end some and try again", maxClients), Code: 1})
			conn.Close()
		}
	}
	wg.Wait()
	s.socket.Close()
	if ctx.Err() == nil {
		return fmt.Errorf("accept a control client: %w", err)
	}
	return nil
}

// client is one connection.
type client struct {
	conn        *net.UnixConn
	writeWithin time.Duration
}

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	c := client{conn, s.writeWithin}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The end of the daemon ends the wait for a request too.
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer stop()
	conn.SetReadDeadline(time.Now().Add(s.requestWithin))
	if ctx.Err() != nil {
		return
	}
	r, err := readRequest(conn)
	if err != nil {
		if err != io.EOF && ctx.Err() == nil {
			c.fail(&Error{Text: err.Error(), Code: 2})
		}
		return
	}
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		if c.gone(ctx) {
			cancel()
		}
	}()
	err = s.handle(ctx, r, c.reply)
	if err == nil {
		c.write(answer{Done: true})
	} else {
		c.fail(err)
	}
	cancel()
	<-watching
}

// readRequest reads the one line of a client.
func readRequest(r io.Reader) (Request, error) {
	line, err := bufio.NewReaderSize(io.LimitReader(r, maxRequest+1), 4096).ReadBytes('\n')
	switch {
	case len(line) > maxRequest:
		return Request{}, fmt.Errorf("read the request: it has more than %d bytes", maxRequest)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Request{}, fmt.Errorf("read the request: it did not come to its end in time")
	case err == io.EOF && len(line) == 0:
		return Request{}, io.EOF
	case err != nil && err != io.EOF:
		return Request{}, fmt.Errorf("read the request: %w", err)
	}
	var req Request
	if err := json.Unmarshal(line, &req); err != nil || req.Command == "" {
		return Request{}, fmt.Errorf(`read the request: a line such as {"command":"status"} is expected, not %.40q`, bytes.TrimSpace(line))
	}
	return req, nil
}

// reply sends one object of the answer.
func (c client) reply(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return c.write(answer{Data: data})
}

// fail ends the answer with an error.
func (c client) fail(err error) {
	a := answer{Error: err.Error(), Code: 1}
	if e, ok := errors.AsType[*Error](err); ok && e.Code > 0 {
		a.Code = e.Code
	}
	_ = c.write(a) // a client that is gone needs no answer
}

func (c client) write(a answer) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	c.conn.SetWriteDeadline(time.Now().Add(c.writeWithin))
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		c.conn.Close()
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

const goneEvery = 250 * time.Millisecond

// gone waits until the client has closed its side, or ctx ends: false. A client
// that has only shut down its writing half (a shell pipe does) still listens.
func (c client) gone(ctx context.Context) bool {
	c.conn.SetReadDeadline(time.Time{})
	if ctx.Err() != nil { // its end may have come before the line above
		return false
	}
	_, err := io.Copy(io.Discard, c.conn)
	if err != nil {
		return ctx.Err() == nil
	}
	for !c.hungUp() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(goneEvery):
		}
	}
	return true
}

// hungUp tells whether the client has closed its socket altogether.
func (c client) hungUp() bool {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return true
	}
	var events int16
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		if n, err := unix.Poll(p, 0); err == nil && n > 0 {
			events = p[0].Revents
		}
	})
	return err != nil || events&unix.POLLHUP != 0
}
