package guard

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrDaemonAlive: the guard's daemon lives (or hangs), there is nothing to
	// take over.
	ErrDaemonAlive = errors.New("its daemon is alive")
	// ErrKilled: the guard did not answer in time and was killed. The way is
	// free, but what it held is not known.
	ErrKilled = errors.New("it did not answer and was killed")
)

const (
	takeOverPatience = 500 * time.Millisecond
	answerPatience   = 100 * time.Millisecond // for a guard that need not wait for a fence
	killPatience     = 500 * time.Millisecond
)

// TakeOver ends a guard that a former daemon left behind in runDir. When it
// returns without error no guard is at work there: a fence that was on its way
// is complete. previous is the last State of that guard, with Holding as it is
// now (false when it has taken the addresses away), or nil when there was no
// guard; what a killed guard left in runDir is removed. It takes 500 ms at most,
// twice that when the guard must be killed.
func TakeOver(runDir string) (previous *State, err error) {
	path, err := socketPath(runDir)
	if err != nil {
		return nil, fmt.Errorf("take over from the guard: %w", err)
	}
	deadline := time.Now().Add(takeOverPatience)
	problem := error(os.ErrDeadlineExceeded)
	for first := true; first || time.Now().Before(deadline); first = false {
		fd, err := dial(path)
		switch err {
		case nil:
		case unix.ENOENT:
			return nil, nil
		case unix.ECONNREFUSED:
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("take over from the guard: %w", err)
			}
			return nil, nil
		case unix.EAGAIN, unix.EINTR: // many callers, the guard is slow
			time.Sleep(2 * time.Millisecond)
			continue
		default:
			return nil, fmt.Errorf("take over from the guard: connect to %s: %w", path, err)
		}
		state, err := ask(fd, deadline)
		if err == nil {
			return state, nil
		}
		problem = err
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if errors.Is(err, ErrDaemonAlive) && time.Until(deadline) < answerPatience {
			break // a conversation cut short must not look like a guard that is stuck
		}
		time.Sleep(2 * time.Millisecond) // dying daemon, or dying guard: look again
	}
	if errors.Is(problem, ErrDaemonAlive) {
		return nil, fmt.Errorf("take over from the guard: %w", problem)
	}
	return nil, fmt.Errorf("take over from the guard: %w", kill(path))
}

// ask has one conversation with the guard behind fd.
func ask(fd int, deadline time.Time) (*State, error) {
	conn := os.NewFile(uintptr(fd), "guard")
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	b, err := message{Kind: kindTakeOver}.encode()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(b); err != nil && !errors.Is(err, unix.EPIPE) {
		return nil, err // after EPIPE an answer may wait: all callers get it
	}
	buf := make([]byte, maxMessage)
	n, err := conn.Read(buf)
	if errors.Is(err, unix.ECONNRESET) { // said once, before what was sent to us
		n, err = conn.Read(buf)
	}
	if err != nil {
		return nil, err
	}
	m, err := decodeMessage(buf[:n])
	switch {
	case err != nil:
		return nil, err
	case m.Kind == kindBusy:
		return nil, ErrDaemonAlive
	case m.Kind != kindTaken:
		return nil, fmt.Errorf("it says %q", m.Kind)
	}
	return m.State, nil
}

// kill ends a guard that does not answer: it may be about to take addresses
// away that the caller is about to add.
func kill(path string) error {
	fd, err := dial(path)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", path, err)
	}
	defer unix.Close(fd)
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return fmt.Errorf("ask whose %s is: %w", path, err)
	}
	if int(cred.Pid) == os.Getpid() || cred.Pid <= 1 {
		return fmt.Errorf("%s does not answer and belongs to process %d", path, cred.Pid)
	}
	pidfd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return fmt.Errorf("find process %d of %s: %w", cred.Pid, path, err)
	}
	defer unix.Close(pidfd)
	if ended(fd) { // the number may be another's by now
		return fmt.Errorf("process %d of %s has ended", cred.Pid, path)
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("kill process %d of %s: %w", cred.Pid, path, err)
	}
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(p, int(killPatience.Milliseconds())); n != 1 {
		return fmt.Errorf("wait for the end of process %d of %s: %w", cred.Pid, path, errors.Join(err, os.ErrDeadlineExceeded))
	}
	os.Remove(path)
	return fmt.Errorf("process %d: %w", cred.Pid, ErrKilled)
}
