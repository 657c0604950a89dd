package guard

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Virtual machines stand still now and then, 100 ms at a time on the one this
// was written on, whatever priority a thread has. The meters see that, so that
// it is not taken for a slow guard: a thread on each processor that sleeps 5 ms
// at a time and notes when it was much more.

type stall struct {
	from, to time.Duration
	cpu      int
}

var stalls struct {
	sync.Mutex
	seen []stall
}

func startStallMeters() {
	for cpu := range runtime.NumCPU() {
		go func() {
			runtime.LockOSThread()
			var set unix.CPUSet
			set.Set(cpu)
			unix.SchedSetaffinity(0, &set)
			attr := rtAttr()
			attr.Priority = rtPriority + 10
			unix.SchedSetAttr(0, attr, 0)
			last := monotonic()
			for {
				ts := unix.NsecToTimespec(int64(5 * time.Millisecond))
				unix.Nanosleep(&ts, nil)
				now := monotonic()
				if now-last > 10*time.Millisecond {
					stalls.Lock()
					stalls.seen = append(stalls.seen, stall{last, now, cpu})
					stalls.Unlock()
				}
				last = now
			}
		}()
	}
}

// stalled says how long the machine stood still in that time, at most.
func stalled(from, to time.Duration) time.Duration {
	stalls.Lock()
	defer stalls.Unlock()
	perCPU := make([]time.Duration, runtime.NumCPU())
	var most time.Duration
	for _, s := range stalls.seen {
		if s.from < to && s.to > from {
			perCPU[s.cpu] += s.to - s.from
			most = max(most, perCPU[s.cpu])
		}
	}
	return most
}

// within fails when something was slow and the machine did not stand still.
func within(t *testing.T, what string, from, to, limit time.Duration) {
	t.Helper()
	stood := stalled(from, to)
	for late := time.Now().Add(50 * time.Millisecond); stood == 0 && to-from > limit && time.Now().Before(late); {
		stood = stalled(from, to) // the meters may have to note it yet
	}
	t.Logf("%s after %v, %v of it the machine stood still", what, (to - from).Round(10*time.Microsecond), stood)
	if stood > 0 {
		limit += stood + hang // the guard does not count that time, and may give the daemon one more H
	}
	if to-from > limit {
		t.Errorf("%s after %v, want %v at most", what, to-from, limit)
	}
}
