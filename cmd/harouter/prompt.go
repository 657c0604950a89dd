package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// askSecret reads one line from in; from a terminal without echo, after the
// question.
func askSecret(ctx context.Context, in *os.File, stderr io.Writer, question string) (string, error) {
	if _, err := unix.IoctlGetTermios(int(in.Fd()), unix.TCGETS); err != nil {
		return readLine(in) // a pipe or a file
	}
	// Opened anew, a terminal's read can be interrupted by a deadline.
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("ask for the ticket: %w; give it with --token-file", err)
	}
	defer tty.Close()
	raw, err := tty.SyscallConn()
	if err != nil {
		return "", err
	}
	var old *unix.Termios
	control := func(f func(fd int) error) error {
		var inner error
		return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
	}
	err = control(func(fd int) (err error) {
		if old, err = unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
			return err
		}
		quiet := *old
		quiet.Lflag &^= unix.ECHO
		quiet.Lflag |= unix.ECHONL | unix.ICANON | unix.ISIG
		return unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet)
	})
	if err != nil {
		return "", fmt.Errorf("ask for the ticket: %w", err)
	}
	restore := func() error {
		return control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, old) })
	}
	stop := context.AfterFunc(ctx, func() { _ = tty.SetReadDeadline(time.Now()) })
	defer stop()
	_, asked := fmt.Fprint(stderr, question)
	line, err := readLine(tty)
	if ctx.Err() != nil {
		err = ctx.Err()
		fmt.Fprintln(stderr)
	}
	return line, errors.Join(err, asked, restore())
}

func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the ticket: %w", err)
	}
	return line, nil
}
