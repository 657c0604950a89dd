package wire

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

// namespace is a second network namespace, of a goroutine that keeps its thread.
type namespace struct {
	t    *testing.T
	tid  int
	jobs chan func()
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t, jobs: make(chan func())}
	ready := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		defer close(done)
		if unix.Gettid() == os.Getpid() {
			// Keep the main thread as it is: another goroutine takes over.
			go func() {
				runtime.LockOSThread()
				n.serve(ready)
			}()
			<-done
			return
		}
		n.serve(ready)
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.jobs) })
	return n
}

func (n *namespace) serve(ready chan<- error) {
	err := unix.Unshare(unix.CLONE_NEWNET)
	n.tid = unix.Gettid()
	ready <- err
	for job := range n.jobs {
		job()
	}
}

// do runs f with the thread inside and waits for it.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.jobs <- func() { defer close(done); f() }
	<-done
}

// sh runs a shell line inside; %s stands for nothing special.
func (n *namespace) sh(line string) string {
	n.t.Helper()
	return netlab.Sh(n.t, fmt.Sprintf("nsenter --net=/proc/%d/task/%d/ns/net sh -ec '%s'", os.Getpid(), n.tid, strings.ReplaceAll(line, "'", `'\''`)))
}

// cable joins a device of this namespace with one of the other.
func (n *namespace) cable(here, there string) {
	n.t.Helper()
	netlab.Sh(n.t, fmt.Sprintf("ip link add %s type veth peer name peer0 && ip link set peer0 netns %d", here, n.tid))
	n.sh("ip link set peer0 name " + there + " && ip link set " + there + " up")
	netlab.Sh(n.t, "ip link set "+here+" up")
}
