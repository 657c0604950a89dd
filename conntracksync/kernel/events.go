package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// Multicast groups of linux/netfilter/nfnetlink.h.
const (
	groupNew     = 1
	groupUpdate  = 2
	groupDestroy = 3
)

// Handler is told what happens in the connection table. All its functions are
// called by Listener.Run, one at a time.
type Handler struct {
	// Event is called for each change. The event is only lent.
	Event func(*conntracksync.Event)
	// Idle is called when all that was waiting has been told.
	Idle func()
	// Overrun is called when events got lost: only Dump knows what is true now.
	Overrun func()
	// Broken is called for a message that could not be read.
	Broken func(error)
}

// Listener hears what happens in the connection table of one network namespace.
type Listener struct {
	handler Handler
	ignore  uint32
	file    *os.File
}

// NewListener subscribes to the changes of the table in the network namespace
// of the calling thread, with a receive buffer of that many bytes (32 MiB hold
// about 80,000 of them). From then on nothing is lost without a word, also
// before Run is called; but flows that are older than the first listener may be
// silent (AlwaysTell), so Dump after it. Changes that the socket with the port ignore makes are
// not told (Injector.Port); 0 tells all.
func NewListener(buffer int, ignore uint32, h Handler) (*Listener, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open a netfilter socket: %w", err)
	}
	set := func(level, option, value int) {
		if err == nil {
			err = unix.SetsockoptInt(fd, level, option, value)
		}
	}
	set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
	// The kernel then tells an end again that found no room.
	set(unix.SOL_NETLINK, unix.NETLINK_BROADCAST_ERROR, 1)
	if err == nil {
		// Without a port it hears nothing: an event goes to all but the port of
		// its maker, which is 0 for a packet.
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	for _, group := range []int{groupNew, groupUpdate, groupDestroy} {
		set(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to the connection table: %w", err)
	}
	return &Listener{handler: h, ignore: ignore, file: os.NewFile(uintptr(fd), "ctnetlink")}, nil
}

// String names the task.
func (l *Listener) String() string { return "connection events" }

// Close ends the subscription of a Listener whose Run was never called.
func (l *Listener) Close() error { return l.file.Close() }

// gather is how long events gather at least before they are read, while there
// are many: to wake up for each would cost more than all that is done with it.
const gather = time.Millisecond

// Run tells the handler what happens until ctx ends, and then ends the
// subscription. Events that follow each other closely are told a millisecond
// late at most.
func (l *Listener) Run(ctx context.Context) error {
	defer l.file.Close()
	raw, err := l.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("listen to the connection table: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = l.file.SetReadDeadline(time.Unix(1, 0)) })()
	in := newDatagrams()
	var event conntracksync.Event
	told := false
	var idle time.Time // when all had been told
	for ctx.Err() == nil {
		var n int
		var readErr error
		waited := false
		err := raw.Read(func(fd uintptr) bool {
			if waited {
				time.Sleep(gather - time.Since(idle))
			}
			readErr = ignoringEINTR(func() (err error) {
				n, err = in.read(int(fd))
				return err
			})
			if readErr != unix.EAGAIN {
				return true
			}
			if told {
				told, idle = false, time.Now()
				l.handler.Idle()
			}
			waited = true
			return false
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("listen to the connection table: %w", err)
		case readErr == unix.ENOBUFS:
			l.handler.Overrun()
			told = true
			continue
		case readErr != nil:
			return fmt.Errorf("listen to the connection table: %w", readErr)
		}
		told = true
		for i := range n {
			b, ok := in.datagram(i)
			if !ok {
				continue // another process wrote to our port
			}
			err = events(b, &event, func() {
				if l.ignore == 0 || event.Port != l.ignore {
					l.handler.Event(&event)
				}
			})
			if err != nil {
				l.handler.Broken(err)
			}
		}
	}
	return nil
}

// events walks over one datagram and calls each after it has read a change
// into e.
func events(b []byte, e *conntracksync.Event, each func()) error {
	for len(b) > 0 {
		if len(b) < sizeHeader {
			return fmt.Errorf("read an event: %w", errTruncated)
		}
		n := int(native.Uint32(b))
		if n < sizeHeader || n > len(b) {
			return fmt.Errorf("read an event: %w", errTruncated)
		}
		kind, flags := native.Uint16(b[4:]), native.Uint16(b[6:])
		e.Port = native.Uint32(b[12:])
		payload := b[sizeHeader:n]
		b = b[min((n+3)&^3, len(b)):]
		switch {
		case kind == unix.NFNL_SUBSYS_CTNETLINK<<8|msgDelete:
			e.Kind = conntracksync.Ended
		case kind != unix.NFNL_SUBSYS_CTNETLINK<<8|msgNew:
			continue
		case flags&unix.NLM_F_CREATE != 0:
			e.Kind = conntracksync.Began
		default:
			e.Kind = conntracksync.Changed
		}
		var err error
		if e.Told, err = parse(payload, &e.Flow); err != nil {
			return err
		}
		each()
	}
	return nil
}
