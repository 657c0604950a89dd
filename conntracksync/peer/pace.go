package peer

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pacer waits for fractions of a millisecond. A Go timer is up to a millisecond
// late on an idle machine (epoll counts in milliseconds); the kernel's timer
// descriptor is late by some 50 µs, and no thread waits in it.
type pacer struct{ f *os.File }

func newPacer() (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &pacer{os.NewFile(uintptr(fd), "timerfd")}, nil
}

// pace returns how a session's writer waits, and what to call in the end.
func pace() (pause func(time.Duration), end func()) {
	p, err := newPacer()
	if err != nil {
		return time.Sleep, func() {} // late by a millisecond, no worse
	}
	return p.pause, func() { p.f.Close() }
}

// pause waits for d.
func (p *pacer) pause(d time.Duration) {
	raw, err := p.f.SyscallConn()
	if err != nil {
		return
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, d.Nanoseconds()))}
	if raw.Control(func(fd uintptr) { err = unix.TimerfdSettime(int(fd), 0, &spec, nil) }) != nil || err != nil {
		return
	}
	var n [8]byte
	p.f.Read(n[:])
}
