package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// socketName is the guard's socket in the run directory.
const socketName = "guard.sock"

const seqpacket = unix.SOCK_SEQPACKET | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK

// errEnd: the other side closed the socket and everything it sent is read.
var errEnd = errors.New("the other side has closed")

// push sends one packet and never blocks: unix.EAGAIN when there is no room.
func push(fd int, b []byte) error {
	for {
		err := unix.Send(fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// pull reads one packet and never blocks: unix.EAGAIN when there is none, errEnd
// at the end. *buf grows to what comes.
func pull(fd int, buf *[]byte) ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(fd, *buf, unix.MSG_PEEK|unix.MSG_TRUNC|unix.MSG_DONTWAIT)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.ECONNRESET:
			// The other side closed without having read all of ours. The kernel
			// says so once, before it hands out what was sent to us.
			continue
		default:
			return nil, err
		}
		if n == 0 {
			if ended(fd) {
				return nil, errEnd
			}
			n = 1 // an empty packet is not an end: the decoder refuses it
		}
		if n > maxMessage {
			n = 1 // of no use: taken from the queue, and refused by the decoder
		}
		if n > len(*buf) {
			*buf = make([]byte, n)
		}
		n, _, err = unix.Recvfrom(fd, *buf, unix.MSG_DONTWAIT)
		if err != nil {
			continue
		}
		return (*buf)[:n], nil
	}
}

// ended tells a closed other side from an empty packet.
func ended(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 1 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0
}

// socketPath checks the length: the kernel has 108 bytes for it.
func socketPath(runDir string) (string, error) {
	path := filepath.Join(runDir, socketName)
	if len(path) > 107 {
		return "", fmt.Errorf("the path %s is longer than the 107 bytes that a socket's name may have", path)
	}
	return path, nil
}

// dial connects to a guard's socket. A socket whose owner is dead is
// unix.ECONNREFUSED, none at all is unix.ENOENT.
func dial(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, seqpacket, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// door is the listening socket of the guard.
type door struct {
	fd   int
	path string
	ino  uint64
}

// openDoor listens at runDir/guard.sock. What a killed guard left there is
// removed; one that lives is an error.
func openDoor(runDir string) (*door, error) {
	path, err := socketPath(runDir)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, seqpacket, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == unix.EADDRINUSE {
		old, dialErr := dial(path)
		if dialErr == nil {
			unix.Close(old)
		}
		if dialErr != unix.ECONNREFUSED {
			unix.Close(fd)
			return nil, fmt.Errorf("open %s: another guard is there", path)
		}
		os.Remove(path)
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Chmod(path, 0o600) // and each caller is asked for his uid
	}
	if err == nil {
		err = unix.Listen(fd, 64)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat(path, &st)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &door{fd: fd, path: path, ino: st.Ino}, nil
}

// remove takes the name away, if it is still ours.
func (d *door) remove() {
	var st unix.Stat_t
	if unix.Stat(d.path, &st) == nil && st.Ino == d.ino {
		os.Remove(d.path)
	}
}

// accept takes one caller, unix.EAGAIN when there is none. Only root and our
// own user are let in.
func (d *door) accept() (int, error) {
	fd, _, err := unix.Accept4(d.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return -1, err
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		unix.Close(fd)
		return -1, unix.EACCES
	}
	return fd, nil
}
