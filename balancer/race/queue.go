package race

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// queue is one of the kernel's, which this process reads. When its socket closes,
// also because the process died, what waits there is dropped, and what comes later
// goes on at once.
type queue struct {
	file *os.File
	num  uint16
	seen []balancer.Held // with the answer to the first request
	b    [datagram]byte  // what is being read
}

// queueBuffer is bytes of packets that were told and not read yet. What finds no
// room there goes on as well.
const queueBuffer = 1 << 20

// openQueue takes a queue, in which so many packets may wait.
func openQueue(num uint16, room uint32) (*queue, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open the queue %d of packets: %w", num, err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueBuffer) != nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queueBuffer)
	}
	q := &queue{file: os.NewFile(uintptr(fd), "nfqueue"), num: num}
	if err == nil {
		err = q.bind(room)
	}
	if err != nil {
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("another program reads it, or the right NET_ADMIN is missing: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("open the queue %d of packets: %w", num, err), q.file.Close())
	}
	return q, nil
}

// Try tells whether this kernel lets a process read its queues, by reading one that
// nobody uses, in the network namespace of the caller.
func Try() error {
	q, err := openQueue(math.MaxUint16, 1)
	if err != nil {
		return err
	}
	return q.close()
}

// bindWithin is for the kernel's answer, which is there when the request returns.
const bindWithin = time.Second

func (q *queue) bind(room uint32) error {
	if err := q.send(bindRequest(q.num, room)); err != nil {
		return err
	}
	if err := q.file.SetReadDeadline(time.Now().Add(bindWithin)); err != nil {
		return err
	}
	for {
		got, err := q.read()
		if err != nil {
			return err
		}
		q.seen = append(q.seen, got.packets...)
		if got.acked {
			return errors.Join(got.refused, q.file.SetReadDeadline(time.Time{}))
		}
	}
}

// receive waits for packets. After an error there are no more.
func (q *queue) receive() ([]balancer.Held, error) {
	for {
		if seen := q.seen; len(seen) > 0 {
			q.seen = nil
			return seen, nil
		}
		got, err := q.read()
		if err != nil {
			return nil, fmt.Errorf("read the queue %d of packets: %w", q.num, err)
		}
		q.seen = got.packets // that a packet has gone meanwhile is no error
	}
}

// decide ends the waiting of a packet.
func (q *queue) decide(p balancer.Held, verdict uint32) error {
	if err := q.send(verdictRequest(p, verdict)); err != nil {
		return fmt.Errorf("let a packet go to %v: %w", p.To, err)
	}
	return nil
}

func (q *queue) close() error { return q.file.Close() }

// datagram is more than one packet with all that is told of it takes.
const datagram = 8 << 10

// read reads one datagram, and lets go what should not be there.
func (q *queue) read() (heard, error) {
	raw, err := q.file.SyscallConn()
	if err != nil {
		return heard{}, err
	}
	var n int
	var from unix.Sockaddr
	var failed error
	if err := raw.Read(func(fd uintptr) bool {
		for failed = unix.EINTR; failed == unix.EINTR; {
			n, from, failed = unix.Recvfrom(int(fd), q.b[:], 0)
		}
		return failed != unix.EAGAIN
	}); err != nil {
		return heard{}, err
	}
	if failed == unix.ENOBUFS { // what was left out has gone on
		return heard{}, nil
	}
	if failed != nil {
		return heard{}, failed
	}
	if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
		return heard{}, nil // another process wrote to our port
	}
	got, err := parse(q.b[:n])
	if err != nil {
		return heard{}, err
	}
	for _, p := range got.strange {
		err = errors.Join(err, q.decide(p, verdictAccept))
	}
	return got, err
}

func (q *queue) send(b []byte) error {
	raw, err := q.file.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) {
		for sent = unix.EINTR; sent == unix.EINTR; {
			sent = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		}
	}); err != nil {
		return err
	}
	return sent
}
