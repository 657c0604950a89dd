package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fromTerminal tells whether what is read there may be typed by a person.
func fromTerminal(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	on := false
	err = raw.Control(func(fd uintptr) { _, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); on = err == nil })
	return err == nil && on
}

// terminal is the one that this process belongs to.
type terminal struct {
	*os.File
	raw  syscall.RawConn
	stop func() bool
}

// openTerminal opens it anew: then the end of ctx interrupts a read.
func openTerminal(ctx context.Context) (*terminal, error) {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the terminal: %w", err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the terminal: %w", err), f.Close())
	}
	return &terminal{f, raw, context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Now()) })}, nil
}

func (t *terminal) Close() error {
	t.stop()
	return t.File.Close()
}

// control does something with its file descriptor.
func (t *terminal) control(f func(fd int) error) error {
	var inner error
	return errors.Join(t.raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}
