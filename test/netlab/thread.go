package netlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// thread is one OS thread that enters namespaces on behalf of a site: to open
// sockets, write sysctls and start programs there. It is never handed back to
// the Go pool; it ends with the site. Jobs run one after the other, so they
// must be short.
type thread struct {
	jobs chan job
	quit chan struct{}
	done chan struct{}
}

type job struct {
	namespace *os.File
	do        func() error
	result    chan error
}

func newThread() *thread {
	t := &thread{jobs: make(chan job), quit: make(chan struct{}), done: make(chan struct{})}
	locked := make(chan struct{})
	go t.run(locked)
	<-locked
	return t
}

func (t *thread) run(locked chan<- struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread's namespace is what /proc/self shows: leave it alone.
		// It is held here until another goroutine has locked another thread.
		other := make(chan struct{})
		go t.run(other)
		<-other
		runtime.UnlockOSThread()
		close(locked)
		return
	}
	defer close(t.done)
	close(locked)
	for {
		select {
		case <-t.quit:
			return // no UnlockOSThread: the thread dies with this goroutine
		case j := <-t.jobs:
			if err := unix.Setns(int(j.namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				j.result <- fmt.Errorf("enter namespace %s: %w", j.namespace.Name(), err)
				continue
			}
			j.result <- j.do()
		}
	}
}

// in runs do with the thread inside the namespace and returns its error.
func (t *thread) in(namespace *os.File, do func() error) error {
	if namespace == nil {
		return errors.New("the node is powered off")
	}
	j := job{namespace: namespace, do: do, result: make(chan error, 1)}
	select {
	case t.jobs <- j:
		return <-j.result
	case <-t.done:
		return errors.New("the site is closed")
	}
}

// close ends the thread and waits for it.
func (t *thread) close() {
	close(t.quit)
	<-t.done
}

// realtime gives the calling, locked thread a real-time priority, so that what
// it measures is the site and not its own waiting for a processor. Where the
// right to do so is missing it goes on without.
func realtime(priority uint32) {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: priority}
	_ = unix.SchedSetAttr(0, &attr, 0)
}
