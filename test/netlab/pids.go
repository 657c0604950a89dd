package netlab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Running is a process that lives in a node's namespace.
type Running struct {
	PID  int
	Args string // its command line
}

// Processes lists what runs in the node now, in the order of pids.
func (n *Node) Processes() ([]Running, error) {
	if !n.on() {
		return nil, nil
	}
	pids, err := pidsIn(n.namespacePath())
	if err != nil {
		return nil, err
	}
	var running []Running
	for _, pid := range pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it has just ended
		}
		args := strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		running = append(running, Running{PID: pid, Args: args})
	}
	return running, nil
}

// Signal sends a signal to every process in the node: SIGSTOP and SIGCONT are
// the freezing of a virtual machine.
func (n *Node) Signal(sig syscall.Signal) error {
	running, err := n.Processes()
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range running {
		if err := unix.Kill(r.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("send %s to %d in %s: %w", sig, r.PID, n.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Usage reads what a process has used so far: processor time, and the memory
// it holds now in bytes.
func Usage(pid int) (cpu time.Duration, resident int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return 0, 0, fmt.Errorf("parse /proc/%d/stat: %d fields after the name", pid, len(fields))
	}
	pages, err := strconv.ParseInt(string(fields[21]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("parse /proc/%d/stat: %w", pid, err)
	}
	// The process's own clock counts nanoseconds; /proc/PID/stat only samples
	// ticks, and is wrong by half for who wakes up often and briefly.
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil { // CPUCLOCK_SCHED of linux/posix-timers.h
		return 0, 0, fmt.Errorf("read the processor clock of %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), pages * int64(os.Getpagesize()), nil
}

// pidsIn lists the processes in a namespace, without this one.
func pidsIn(namespace string) ([]int, error) {
	var want, have unix.Stat_t
	if err := unix.Stat(namespace, &want); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if unix.Stat("/proc/"+e.Name()+"/ns/net", &have) == nil && have.Ino == want.Ino && have.Dev == want.Dev {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killAllIn ends every process in a namespace, also those that are born
// meanwhile, and returns when none is left.
func killAllIn(namespace string) error {
	deadline := Now().Add(2 * time.Second)
	for {
		pids, err := pidsIn(namespace)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // ESRCH: it was faster
		}
		if Now() > deadline {
			return fmt.Errorf("kill processes in %s: %v still live", namespace, pids)
		}
		time.Sleep(time.Millisecond)
	}
}
