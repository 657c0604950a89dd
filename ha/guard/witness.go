package guard

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A killed process closes its files only after each of its threads has had a
// processor once more: up to 150 ms on a busy machine, and a thread that is in
// the middle of a long system call takes as long as that. So one thread of the
// daemon does nothing but wait to die, with real-time priority. The kernel marks
// a robust futex the moment its owner dies (set_robust_list(2)) and wakes the
// guard. The end of the socket still tells that all threads are gone.

const (
	futexWaiters   = 0x80000000 // the owner's end wakes a waiter
	futexOwnerDied = 0x40000000
	futexWait      = 0
)

// robustList is struct robust_list_head of the kernel, its one entry, which
// points back to the head, and the futex that it is about. It lies in the
// shared page.
type robustList struct {
	first   uintptr
	offset  uintptr // from an entry to its futex
	pending uintptr

	entry uintptr
	futex atomic.Uint32 // thread id of the owner and flags, 0 = no witness
}

// startWitness provides the thread that dies at once. It ends with ended.
func (p *page) startWitness(ended <-chan struct{}) {
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread() // never unlocked: this thread must not outlive the goroutine
		if unix.SchedSetAttr(0, rtAttr(), 0) != nil {
			unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
		}
		l := p.witness
		head := uintptr(unsafe.Pointer(l))
		l.entry, l.first = head, head+unsafe.Offsetof(l.entry)
		l.offset = unsafe.Offsetof(l.futex) - unsafe.Offsetof(l.entry)
		_, _, errno := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, head, unsafe.Offsetof(l.entry), 0)
		if errno == 0 {
			l.futex.Store(uint32(unix.Gettid()) | futexWaiters)
		} // else the end of the socket must do
		close(ready)
		<-ended
		l.futex.Store(0)
		unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, 0, unsafe.Offsetof(l.entry), 0)
	}()
	<-ready
}

// awaitDeath returns true when the witness has died, and false when there is
// none. It blocks its thread.
func (p *page) awaitDeath() bool {
	for {
		v := p.witness.futex.Load()
		switch {
		case v == 0:
			return false
		case v&futexOwnerDied != 0:
			return true
		}
		unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&p.witness.futex)), futexWait, uintptr(v), 0, 0, 0)
	}
}
