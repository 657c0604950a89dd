package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Watch records which router held which address when, from the kernel's own
// notices. One thread listens to all routers, at a priority that keeps its
// time stamps good (well under a millisecond) while other programs are busy.
type Watch struct {
	wake int // eventfd: the list of sockets has changed
	done chan struct{}

	mu      sync.Mutex
	closing bool
	sockets map[*Node]int
	held    map[holding]map[uint32]bool // the devices of a router that have the address
	changes map[netip.Addr][]Change
}

type holding struct {
	router string
	addr   netip.Addr
}

func newWatch() (*Watch, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch addresses: %w", err)
	}
	w := &Watch{wake: wake, done: make(chan struct{}), sockets: map[*Node]int{},
		held: map[holding]map[uint32]bool{}, changes: map[netip.Addr][]Change{}}
	go w.run()
	return w, nil
}

// add begins to watch a router. Addresses that it has already are not known.
func (w *Watch) add(n *Node) error {
	var fd int
	err := n.in(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		groups := uint32(1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1))
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups})
	})
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	w.mu.Lock()
	w.sockets[n] = fd
	w.mu.Unlock()
	w.poke()
	return nil
}

// remove ends the watch of a router that lost its power at that instant.
func (w *Watch) remove(n *Node, at Instant) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fd, ok := w.sockets[n]
	if !ok {
		return
	}
	w.drain(n, fd)
	delete(w.sockets, n)
	unix.Close(fd)
	for h := range w.held {
		if h.router == n.Name {
			w.note(Change{At: at, Router: n.Name}, h.addr)
			delete(w.held, h)
		}
	}
	w.poke()
}

func (w *Watch) poke() {
	one := make([]byte, 8)
	binary.NativeEndian.PutUint64(one, 1)
	_, _ = unix.Write(w.wake, one) // full only when the reader is awake anyway
}

// close ends the watch; what it recorded stays readable.
func (w *Watch) close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.poke()
	<-w.done
	for n, fd := range w.sockets {
		unix.Close(fd)
		delete(w.sockets, n)
	}
	unix.Close(w.wake)
}

func (w *Watch) run() {
	defer close(w.done)
	runtime.LockOSThread() // never unlocked: a thread with this priority is not for the pool
	realtime(10)
	var word [8]byte
	for {
		w.mu.Lock()
		if w.closing {
			w.mu.Unlock()
			return
		}
		polls := []unix.PollFd{{Fd: int32(w.wake), Events: unix.POLLIN}}
		for _, fd := range w.sockets {
			polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
		w.mu.Unlock()
		if _, err := unix.Ppoll(polls, nil, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		_, _ = unix.Read(w.wake, word[:])
		w.mu.Lock()
		for n, fd := range w.sockets {
			w.drain(n, fd)
		}
		w.mu.Unlock()
	}
}

// drain reads what the kernel has told of a router so far.
func (w *Watch) drain(n *Node, fd int) {
	buf := make([]byte, 16<<10)
	for {
		length, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil || length <= 0 {
			return
		}
		now := Now()
		for _, notice := range addressNotices(buf[:length]) {
			w.apply(n.Name, notice, now)
		}
	}
}

func (w *Watch) apply(router string, a addressNotice, now Instant) {
	h := holding{router, a.addr}
	devices := w.held[h]
	switch {
	case a.added:
		// The kernel repeats itself when only a lifetime or a flag changes.
		if devices == nil {
			devices = map[uint32]bool{}
			w.held[h] = devices
			w.note(Change{At: now, Router: router, Held: true}, a.addr)
		}
		devices[a.device] = true
	case devices[a.device]:
		if delete(devices, a.device); len(devices) == 0 {
			delete(w.held, h)
			w.note(Change{At: now, Router: router}, a.addr)
		}
	}
}

func (w *Watch) note(c Change, addr netip.Addr) { w.changes[addr] = append(w.changes[addr], c) }

type addressNotice struct {
	added  bool
	device uint32
	addr   netip.Addr
}

// addressNotices picks additions and removals of addresses out of a datagram
// of rtnetlink (struct nlmsghdr, struct ifaddrmsg, attributes).
func addressNotices(b []byte) []addressNotice {
	const header, message = unix.SizeofNlMsghdr, unix.SizeofIfAddrmsg
	var notices []addressNotice
	for len(b) >= header {
		length := int(binary.NativeEndian.Uint32(b))
		kind := binary.NativeEndian.Uint16(b[4:])
		if length < header || length > len(b) {
			break
		}
		body := b[header:length]
		b = b[min(align4(length), len(b)):]
		if kind != unix.RTM_NEWADDR && kind != unix.RTM_DELADDR || len(body) < message {
			continue
		}
		a := addressNotice{added: kind == unix.RTM_NEWADDR, device: binary.NativeEndian.Uint32(body[4:])}
		for attrs := body[message:]; len(attrs) >= 4; {
			n, t := int(binary.NativeEndian.Uint16(attrs)), binary.NativeEndian.Uint16(attrs[2:])
			if n < 4 || n > len(attrs) {
				break
			}
			// IFA_LOCAL is the own address also where IFA_ADDRESS is the peer's.
			if t == unix.IFA_LOCAL || t == unix.IFA_ADDRESS && !a.addr.IsValid() {
				if addr, ok := netip.AddrFromSlice(attrs[4:n]); ok {
					a.addr = addr
				}
			}
			attrs = attrs[min(align4(n), len(attrs)):]
		}
		if a.addr.IsValid() {
			notices = append(notices, a)
		}
	}
	return notices
}

func align4(n int) int { return (n + 3) &^ 3 }
