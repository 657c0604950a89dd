package guard

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// SendWords sends each word from its source. It does not wait: what the kernel
// has no room for is lost, and the farewell says the same to all. Without words
// it does nothing.
func SendWords(words []Word) error {
	var failed error
	for _, w := range words {
		if err := w.send(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("send a word from %v to %v: %w", w.Source, w.To, err))
		}
	}
	return failed
}

func (w Word) send() error {
	family := unix.AF_INET6
	if w.Source.Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(w.Source, 0))); err != nil {
		return err
	}
	return unix.Sendto(fd, w.Bytes, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sockaddr(w.To))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
