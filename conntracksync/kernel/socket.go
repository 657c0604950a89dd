package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errAgain says that the kernel's answer got lost or is of no use, so that the
// same must be asked again: the socket's buffer overflowed, or the table was
// rebuilt during a dump. Nothing is known about what was done.
var errAgain = errors.New("the answer of the kernel is incomplete")

// tries is how often that is done.
const tries = 4

// exchange sends a request on a socket of its own and calls entry with the
// payload of each connection of the answer. When it must begin again it calls
// restart first. It returns ctx's error if ctx ends before the answer is whole.
func exchange(ctx context.Context, message, flags int, body []byte, restart func(), entry func([]byte) error) error {
	return retry(restart, func(seq int) error {
		return exchangeOnce(ctx, message, flags, seq, body, entry)
	})
}

// retry calls try with 1, 2, … while it returns errAgain, but not for ever.
func retry(restart func(), try func(n int) error) error {
	for n := 1; ; n++ {
		err := try(n)
		if !errors.Is(err, errAgain) || n == tries {
			return err
		}
		restart()
	}
}

func exchangeOnce(ctx context.Context, message, flags, seq int, body []byte, entry func([]byte) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	// A file, for the sake of the deadline that interrupts a read.
	file := os.NewFile(uintptr(fd), "ctnetlink")
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("open a netfilter socket: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })()

	b := append(request(message, flags, seq), body...)
	native.PutUint32(b, uint32(len(b)))
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		sendErr = ignoringEINTR(func() error { return unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
	})
	if err := errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("send to ctnetlink: %w", err)
	}

	// The kernel fills at most 32 KiB in a dump.
	buf := make([]byte, 64<<10)
	for {
		var n, got int
		var from unix.Sockaddr
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			readErr = ignoringEINTR(func() (err error) {
				n, _, got, from, err = unix.Recvmsg(int(fd), buf, nil, 0)
				return err
			})
			return readErr != unix.EAGAIN
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read from ctnetlink: %w", err)
		case readErr == unix.ENOBUFS:
			return errAgain
		case readErr != nil:
			return fmt.Errorf("read from ctnetlink: %w", readErr)
		case got&unix.MSG_TRUNC != 0:
			return fmt.Errorf("read from ctnetlink: %w", errTruncated)
		}
		if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
			continue // another process wrote to our port
		}
		done, err := messages(buf[:n], uint32(seq), entry)
		if done || err != nil {
			return err
		}
	}
}

// messages walks over one datagram of the kernel. It is done at the last
// message of the answer; an error is the kernel's, entry's, or errAgain.
func messages(b []byte, seq uint32, entry func([]byte) error) (done bool, err error) {
	for len(b) > 0 {
		if len(b) < sizeHeader {
			return false, fmt.Errorf("read from ctnetlink: %w", errTruncated)
		}
		n := int(native.Uint32(b))
		if n < sizeHeader || n > len(b) {
			return false, fmt.Errorf("read from ctnetlink: %w", errTruncated)
		}
		kind, flags, payload := native.Uint16(b[4:]), native.Uint16(b[6:]), b[sizeHeader:n]
		mine := native.Uint32(b[8:]) == seq
		b = b[min((n+3)&^3, len(b)):]
		if !mine {
			continue
		}
		if flags&unix.NLM_F_DUMP_INTR != 0 {
			return false, errAgain
		}
		switch kind {
		case unix.NLMSG_OVERRUN:
			return false, errAgain
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			// Both begin with 0 or a negative errno.
			if len(payload) < 4 {
				return false, fmt.Errorf("read from ctnetlink: %w", errTruncated)
			}
			if code := int32(native.Uint32(payload)); code < 0 {
				return true, syscall.Errno(-code)
			}
			return true, nil
		case ofFlow | msgNew, ofExpectation | msgNew:
			if err := entry(payload); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}
