package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// Multicast groups of linux/netfilter/nfnetlink.h.
const (
	groupNew     = 1
	groupUpdate  = 2
	groupDestroy = 3

	groupExpected   = 4
	groupUnexpected = 6
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
	ignore  uint32     // port
	mu      sync.Mutex // closed, and the use of fd by Ignore
	closed  bool
	fd      int
	// bell is an epoll that rings once for all events that come until it is set
	// again: fd itself would wake this process up for each.
	bell *os.File
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
	for _, group := range []int{groupNew, groupUpdate, groupDestroy, groupExpected, groupUnexpected} {
		set(unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
	}
	l := &Listener{handler: h, fd: fd, ignore: ignore}
	if err == nil {
		err = l.Ignore(nil)
	}
	bell := -1
	if err == nil {
		bell, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	}
	if err == nil {
		err = unix.EpollCtl(bell, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: ring})
	}
	if err == nil {
		err = unix.SetNonblock(bell, true) // so that os.NewFile waits for it
	}
	if err != nil {
		unix.Close(fd)
		if bell >= 0 {
			unix.Close(bell)
		}
		return nil, fmt.Errorf("listen to the connection table: %w", err)
	}
	l.bell = os.NewFile(uintptr(bell), "ctnetlink")
	return l, nil
}

const ring = unix.EPOLLIN | unix.EPOLLONESHOT

// String names the task.
func (l *Listener) String() string { return "connection events" }

// Close ends the subscription of a Listener whose Run was never called.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return errors.Join(l.bell.Close(), unix.Close(l.fd))
}

// gather is how long events gather at least before they are read, while there
// are many: to wake up for each would cost more than all that is done with it.
// Where it brought as many as busy, the next look comes without a bell: to set
// it and to be woken by it would be most of the work. Where it brought as many as
// crowd they gather for longer: what is done once for all that came together,
// down to the packet that brings them to a peer, is done half as often.
const (
	gather     = time.Millisecond
	gatherLong = 2 * time.Millisecond
	busy       = 4
	crowd      = 25
)

// Run tells the handler what happens until ctx ends, and then ends the
// subscription. Events that follow each other closely are told a millisecond
// late at most, two where they are many.
func (l *Listener) Run(ctx context.Context) error {
	defer l.Close()
	bell, err := l.bell.SyscallConn()
	if err != nil {
		return fmt.Errorf("listen to the connection table: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = l.bell.SetReadDeadline(time.Unix(1, 0)) })()
	in := newDatagrams()
	for ctx.Err() == nil {
		told, err := l.tell(ctx, in)
		if err != nil {
			return fmt.Errorf("listen to the connection table: %w", err)
		}
		l.handler.Idle()
		idle := time.Now()
		if told < busy {
			err = l.wait(bell)
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("listen to the connection table: %w", err)
		}
		pause := gather
		if told >= crowd {
			pause = gatherLong
		}
		time.Sleep(pause - time.Since(idle))
	}
	return nil
}

// wait sets the bell and returns when it rings.
func (l *Listener) wait(bell syscall.RawConn) error {
	var waitErr error
	err := bell.Control(func(fd uintptr) {
		waitErr = unix.EpollCtl(int(fd), unix.EPOLL_CTL_MOD, l.fd, &unix.EpollEvent{Events: ring})
	})
	if err := errors.Join(err, waitErr); err != nil {
		return err
	}
	var rings [1]unix.EpollEvent
	err = bell.Read(func(fd uintptr) bool {
		var n int
		waitErr = ignoringEINTR(func() (err error) {
			n, err = unix.EpollWait(int(fd), rings[:], 0)
			return err
		})
		return n > 0 || waitErr != nil
	})
	return errors.Join(err, waitErr)
}

// tell tells all that is waiting, and how many datagrams it was.
func (l *Listener) tell(ctx context.Context, in *datagrams) (told int, err error) {
	var event conntracksync.Event
	each := func() { l.handler.Event(&event) }
	for ctx.Err() == nil {
		var n int
		err := ignoringEINTR(func() (err error) {
			n, err = in.read(l.fd)
			return err
		})
		switch err {
		case nil:
		case unix.EAGAIN:
			return told, nil
		case unix.ENOBUFS:
			l.handler.Overrun()
			continue
		default:
			return told, err
		}
		told += n
		for i := range n {
			if b, ok := in.datagram(i); ok { // else another process wrote to our port
				if err := events(b, &event, each); err != nil {
					l.handler.Broken(err)
				}
			}
		}
		if n < perRead {
			return told, nil
		}
	}
	return told, nil
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
		e.Expectation = nil
		switch {
		case kind == ofExpectation|msgNew, kind == ofExpectation|msgDelete:
			e.Kind, e.Expectation = conntracksync.Began, new(conntracksync.Expectation)
			if kind == ofExpectation|msgDelete {
				e.Kind = conntracksync.Ended
			}
			e.Flow, e.Told = conntracksync.Flow{}, 0
			if err := parseExpectation(payload, e.Expectation); err != nil {
				return err
			}
			each()
			continue
		case kind == ofFlow|msgDelete:
			e.Kind = conntracksync.Ended
		case kind != ofFlow|msgNew:
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
