package netlab

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Stall is a time in which a processor of the machine ran nothing for us,
// although a thread with real-time priority was due: the hypervisor was
// elsewhere, or the kernel. Nothing in the site could move either.
type Stall struct {
	At  Instant
	For time.Duration
}

// stalls watches for them with a thread on each processor (8 at most) that
// sleeps a few milliseconds over and over: under half a percent of each.
type stalls struct {
	quit    atomic.Bool
	threads sync.WaitGroup
	mu      sync.Mutex
	found   []Stall
}

const (
	stallTick  = 4 * time.Millisecond
	stallWorth = 4 * time.Millisecond // shorter ones are not noted
)

func (s *stalls) start() {
	for cpu := range min(runtime.NumCPU(), 8) {
		s.threads.Add(1)
		go s.run(cpu)
	}
}

func (s *stalls) run(cpu int) {
	defer s.threads.Done()
	runtime.LockOSThread() // never unlocked: see Watch
	realtime(11)
	var only unix.CPUSet
	only.Set(cpu)
	_ = unix.SchedSetaffinity(0, &only) // a processor that is not ours: watch wherever we run
	tick := timespec(stallTick)
	for !s.quit.Load() {
		before := Now()
		_ = unix.Nanosleep(&tick, nil)
		if late := Now().Sub(before) - stallTick; late > stallWorth {
			s.mu.Lock()
			s.found = append(s.found, Stall{At: before.Add(stallTick), For: late})
			s.mu.Unlock()
		}
	}
}

func (s *stalls) stop() []Stall {
	s.quit.Store(true)
	s.threads.Wait()
	return s.found
}

// StallSince is the longest stall of the machine since the mark. A gap that is
// longer than it should be by no more than this is not the site's fault.
func (r *Report) StallSince(mark string) time.Duration {
	var longest time.Duration
	for _, s := range r.Stalls {
		if s.At.Add(s.For) > r.Mark(mark) {
			longest = max(longest, s.For)
		}
	}
	return longest
}
