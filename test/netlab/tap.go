package netlab

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// openTap makes a TAP device in the namespace of the calling thread and
// returns the descriptor on which its frames are read and written. Without
// offloads of its own the kernel hands whole, checksummed frames of at most
// the MTU to it, whatever the sender's device leaves undone.
func openTap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("make tap device %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}
