package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	perRead = 64
	// An event has some 300 bytes, 600 with all that a flow can have.
	maxEvent = 4 << 10
)

// datagrams is room for what one system call reads from a netlink socket: the
// kernel tells each event in a datagram of its own.
type datagrams struct {
	heads   [perRead]mmsghdr
	vectors [perRead]unix.Iovec
	senders [perRead]unix.RawSockaddrNetlink
	buffers [perRead][maxEvent]byte
}

// mmsghdr is the struct of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	length uint32
}

func newDatagrams() *datagrams {
	d := &datagrams{}
	for i := range d.heads {
		d.vectors[i].Base = &d.buffers[i][0]
		d.vectors[i].SetLen(maxEvent)
		h := &d.heads[i]
		h.Iov, h.Name = &d.vectors[i], (*byte)(unsafe.Pointer(&d.senders[i]))
		h.SetIovlen(1)
	}
	return d
}

// read takes what is there and returns how many datagrams it is; it does not
// wait.
func (d *datagrams) read(fd int) (int, error) {
	for i := range d.heads {
		d.heads[i].Namelen = unix.SizeofSockaddrNetlink
	}
	n, _, err := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&d.heads[0])), perRead, unix.MSG_DONTWAIT, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

// datagram is the content of one; false if the kernel did not send it.
func (d *datagrams) datagram(i int) ([]byte, bool) {
	h := &d.heads[i]
	if h.Namelen != unix.SizeofSockaddrNetlink || d.senders[i].Pid != 0 {
		return nil, false
	}
	return d.buffers[i][:min(h.length, maxEvent)], true
}
