package guard

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// rtPriority is above the daemon's advert thread: a fence comes before an advert.
const rtPriority = 60

// harden makes this process as sure to run at once as the machine allows. All
// of it is best effort; what could not be had is returned in words.
func harden() (lacking []string) {
	// The loop, the remover and the sender shall never wait for each other's
	// processor of the Go runtime, nor for the watchman, not on a machine with one
	// core either.
	runtime.GOMAXPROCS(8)
	// Garbage is collected by hand at a quiet moment (tidy); the limit is for
	// the years of listening alone.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(24 << 20)
	debug.FreeOSMemory() // what the program's start left behind

	spareThreads(spares)
	if err := LockMemory(); err != nil {
		lacking = append(lacking, err.Error())
	}
	reserve()
	// The kernel must not end the guard to save memory: when it ends the
	// daemon for that, the guard is what is needed. Down to what the service
	// manager has set (-1000 in our unit) it takes no right; below that
	// CAP_SYS_RESOURCE, which the daemon does not ask for: no news if it fails.
	os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	if err := hurry(); err != nil {
		lacking = append(lacking, fmt.Sprintf("real-time priority: %v", err))
	}
	_ = Relax(rtPriority) // it only saves processor time
	return lacking
}

// reserved is more than the guard needs besides what it has: for a fence, and
// until garbage is collected next.
const reserved = 4 << 20 // bytes

// reserve has the pages that the heap will need next: where memory is short, or
// the whole unit has used up its limit, a fence must not wait for one. What was
// touched is locked, and what is free again is taken before any other.
func reserve() {
	b := make([]byte, reserved)
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	runtime.KeepAlive(b)
	runtime.GC()
}

// spares are more threads than a fence needs at once.
const spares = 8

// spareThreads has that many threads wait for work from now on. The runtime
// starts another only when none waits, so no thread of the guard has the
// watchman's priority, and a fence does not wait for one to be made.
func spareThreads(n int) {
	var there, gone sync.WaitGroup
	leave := make(chan struct{})
	there.Add(n)
	for range n {
		gone.Go(func() {
			runtime.LockOSThread() // each has one of its own
			defer runtime.UnlockOSThread()
			there.Done()
			<-leave
		})
	}
	there.Wait()
	close(leave)
	gone.Wait()
}

// LockMemory keeps in memory what this process has touched and will touch.
// Without MCL_ONFAULT the kernel would fill in the Go runtime's whole
// reservations. It takes CAP_IPC_LOCK, or a limit that is none: under a limit
// the reservations count, and the runtime would die of the next one.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_MEMLOCK, nil, &limit); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	if limit.Cur != unix.RLIM_INFINITY {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var caps [2]unix.CapUserData
		if err := unix.Capget(&hdr, &caps[0]); err != nil || caps[0].Effective&(1<<unix.CAP_IPC_LOCK) == 0 {
			return fmt.Errorf("lock memory: neither CAP_IPC_LOCK nor an unlimited RLIMIT_MEMLOCK")
		}
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}

// hurry gives every thread SCHED_RR, or else nice -20.
func hurry() error {
	err := Hurry(rtPriority)
	if err == nil {
		return nil
	}
	if niceErr := Nice(-20); niceErr != nil {
		return fmt.Errorf("%v, nor nice -20: %w", err, niceErr)
	}
	return fmt.Errorf("%w, only nice -20", err)
}

func rtAttr() *unix.SchedAttr {
	return &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: rtPriority}
}

// Hurry gives every thread of this process, those to come too, that real-time
// priority (SCHED_RR, 1…99). One that has any keeps it. The daemon wants it at
// short intervals: nice -20 is not enough where others have that too. Processes
// that it starts inherit it, as with Nice.
func Hurry(priority uint32) error {
	err := eachThread(func(tid int) error {
		if has, err := unix.SchedGetAttr(tid, 0); err == nil && (has.Policy == unix.SCHED_RR || has.Policy == unix.SCHED_FIFO) {
			return nil
		}
		attr := rtAttr()
		attr.Priority = priority
		return unix.SchedSetAttr(tid, attr, 0)
	})
	if err != nil {
		return fmt.Errorf("set real-time priority %d: %w", priority, err)
	}
	return nil
}

// MayHurry tells why this process may have no real-time priority, by giving it
// to a thread for a moment.
func MayHurry() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	was, err := unix.SchedGetAttr(0, 0)
	if err == nil {
		attr := rtAttr()
		attr.Priority, attr.Flags = 1, unix.SCHED_FLAG_RESET_ON_FORK
		if err = unix.SchedSetAttr(0, attr, 0); err == nil {
			err = unix.SchedSetAttr(0, was, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("set real-time priority: %w", err)
	}
	return nil
}

// Nice gives every thread of this process that nice level, those to come too.
// The daemon wants -20: on a busy machine a deciding loop that waits for a
// processor for H is a hang. Processes that it starts inherit the level: hooks
// must be set back.
func Nice(level int) error {
	err := eachThread(func(tid int) error { return unix.Setpriority(unix.PRIO_PROCESS, tid, level) })
	if err != nil {
		return fmt.Errorf("set nice %d: %w", level, err)
	}
	return nil
}

// eachThread calls f for every thread until none is new: what f sets is
// inherited from the thread that starts another. It returns the first error.
func eachThread(f func(tid int) error) error {
	var failure error
	done := map[int]bool{}
	for fresh := true; fresh; {
		fresh = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], fresh = true, true
			if err := f(tid); err != nil && !errors.Is(err, unix.ESRCH) && failure == nil {
				failure = err
			}
		}
	}
	return failure
}
