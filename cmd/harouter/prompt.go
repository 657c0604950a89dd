package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// askSecret reads one line from in; from a terminal without echo, after the
// question.
func askSecret(ctx context.Context, in *os.File, stderr io.Writer, question string) (string, error) {
	if !fromTerminal(in) {
		return readLine(in) // a pipe or a file
	}
	tty, err := openTerminal(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the ticket: %w; give it with --token-file", err)
	}
	defer tty.Close()
	var old *unix.Termios
	err = tty.control(func(fd int) (err error) {
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
		return tty.control(func(fd int) error { return unix.IoctlSetTermios(fd, unix.TCSETS, old) })
	}
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
