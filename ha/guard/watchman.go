package guard

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The Go runtime has a thread that looks after the others (sysmon). While any
// goroutine runs, or waits in a system call for less than 10 ms, it sleeps 20 µs
// at a time: most of what an idle daemon would do. To be punctual is of use only
// where more goroutines are at work, or stuck in system calls, than the runtime
// has processors: whoever relaxes it gives the runtime enough of those.
const (
	relaxedSlack = 2_000_000 // how late the kernel may wake it, nanoseconds
	usualSlack   = 50_000
)

// Relax lets the kernel wake the runtime's watchman two milliseconds late, for
// which that has to be without real-time priority. The threads that it starts
// inherit both, so each call puts those right: usual timers, and that real-time
// priority unless it is 0 (Hurry). It needs CAP_SYS_NICE.
func Relax(priority uint32) error {
	watchman, err := watchman()
	if err != nil {
		return fmt.Errorf("relax the runtime's watchman: %w", err)
	}
	err = eachThread(func(tid int) error {
		attr, err := unix.SchedGetAttr(tid, 0)
		if err != nil {
			return err
		}
		hurried := attr.Policy == unix.SCHED_RR || attr.Policy == unix.SCHED_FIFO
		switch {
		case tid == watchman:
			if hurried {
				err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: -20}, 0)
			}
			return errors.Join(err, setSlack(tid, relaxedSlack))
		case hurried: // its timers are exact
			return nil
		case priority > 0:
			attr := rtAttr()
			attr.Priority = priority
			return unix.SchedSetAttr(tid, attr, 0)
		}
		return setSlack(tid, usualSlack)
	})
	if err != nil {
		return fmt.Errorf("relax the runtime's watchman: %w", err)
	}
	return nil
}

// setSlack sets how late the timers of a thread may be, nanoseconds.
func setSlack(tid, slack int) error {
	path, want := fmt.Sprintf("/proc/%d/timerslack_ns", tid), strconv.Itoa(slack)
	have, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(have)) != want {
		err = os.WriteFile(path, []byte(want), 0)
	}
	if errors.Is(err, os.ErrNotExist) { // it has ended
		return nil
	}
	return err
}

// Threads are the ids of this process's threads, in order.
func Threads() ([]int, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list the threads: %w", err)
	}
	var tids []int
	for _, t := range tasks {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	slices.Sort(tids)
	return tids, nil
}

// watchman finds the thread: the runtime starts it before any other.
func watchman() (int, error) {
	tids, err := Threads()
	if err != nil {
		return 0, err
	}
	tid, ok := second(os.Getpid(), tids)
	if !ok {
		return 0, errors.New("this process has one thread")
	}
	return tid, nil
}

// second is the thread that a process started first: the kernel counts ids up,
// and from the highest on to small ones.
func second(pid int, tids []int) (tid int, ok bool) {
	after := func(tid int) int64 {
		if tid > pid {
			return int64(tid - pid)
		}
		return int64(tid) + math.MaxInt32
	}
	for _, t := range tids {
		if t != pid && (!ok || after(t) < after(tid)) {
			tid, ok = t, true
		}
	}
	return tid, ok
}
