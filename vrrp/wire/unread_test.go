package wire

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/test/netlab"
)

// TestUnread: a receiver that is held up leaves adverts in its socket.
func TestUnread(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	ns := pair(t)
	b := start(t, ns, one)
	b.ready(t, 1)
	var got atomic.Int64
	hold := make(chan struct{})
	a := start(t, nil, func(c *Config) {
		c.Links = []Link{office}
		c.Receive = func(Received) { got.Add(1); <-hold }
	})
	a.ready(t, 1)
	if a.Unread() {
		t.Error("unread before anything was sent")
	}
	b.Advertise(200, 10*ms)
	eventually(t, "one is being handed over, others wait", func() bool { return got.Load() > 0 && a.Unread() })
	b.Silence()
	close(hold)
	eventually(t, "all are read", func() bool { return !a.Unread() })
}

// TestAdvertThreadHasPriority looks for the one thread that sends, and that
// nothing that it starts inherits this.
func TestAdvertThreadHasPriority(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	pair(t)
	a := start(t, nil, one)
	a.ready(t, 1)
	eventually(t, "a thread with real-time priority", func() bool {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				t.Fatal(err)
			}
			attr, err := unix.SchedGetAttr(tid, 0)
			if err == nil && attr.Policy == unix.SCHED_RR && attr.Priority == rtPriority && attr.Flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
				n++
			}
		}
		return n == 1
	})
}

// TestSenderAllocatesNothing: at short intervals the advert thread touches no
// memory that is new, for whatever happens beside it.
func TestSenderAllocatesNothing(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	pair(t)
	a := start(t, nil, one)
	a.ready(t, 1)
	a.Advertise(200, 10*ms)
	a.Renew()
	if n := testing.AllocsPerRun(3, func() { time.Sleep(100 * ms) }); n > 8 { // the sleep's and the keeper's own; 10 adverts
		t.Errorf("%v allocations in 100 ms of adverts", n)
	}
	if s := a.log.String(); strings.Contains(s, "send to") {
		t.Errorf("adverts did not go out: %s", s)
	}
}
