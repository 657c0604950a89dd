package wire

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Unread tells whether a packet lies in a receive socket that nobody has read
// yet. On a busy machine the receivers may wait for a processor longer than a
// short Master_Down_Interval: who has found the timer run out asks this first.
// It takes one system call for each socket and never blocks.
func (t *Transport) Unread() bool {
	open := t.open.Load()
	if open == nil {
		return false
	}
	for _, conn := range *open {
		unread := false
		_ = conn.Control(func(fd uintptr) { // an error: it was closed just now
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			unread = err == nil && n > 0 && fds[0].Revents&unix.POLLIN != 0
		})
		if unread {
			return true
		}
	}
	return false
}

// connections are the sockets that are open, for Unread.
func (e *ears) connections() *[]syscall.RawConn {
	var out []syscall.RawConn
	for _, ear := range e.open {
		if conn, err := ear.socket.file.SyscallConn(); err == nil {
			out = append(out, conn)
		}
	}
	return &out
}
