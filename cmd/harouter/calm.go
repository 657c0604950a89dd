package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"harouter/ha/guard"
)

const (
	// rtPriority is below the advert thread's and the guard's.
	rtPriority = 10
	// hurried is from where down the whole daemon has real-time priority. A
	// backup that waits 30 ms for a processor, as others at nice -20 make it do,
	// would miss the adverts of 10 ms and less than a third of those of 100 ms.
	hurried = 40 * time.Millisecond
)

// ballast is never touched, so it takes no memory; it only counts. Without it a
// node with few connections, whose heap is 2 MB, collects garbage three times a
// second.
var ballast []byte

// calm makes this process as sure to run in time as the machine and its own
// rights allow, and returns in words what could not be had. It touches only the
// calling process, so that doctor can ask it too.
func calm(s *settings) (lacking []string) {
	// A thread that comes back from the kernel shall not wait for another one
	// that has a processor of the Go runtime, and none of the machine; nor for the
	// watchman to take one away from a thread that is in the kernel: measured with
	// six of them and two more than the machine has, the loop was late by 18 ms
	// one time in a hundred.
	runtime.GOMAXPROCS(runtime.NumCPU() + 8)
	debug.SetGCPercent(50) // a large table shall not cost twice its size
	if ballast == nil {
		ballast = make([]byte, 8<<20)
	}
	// The kernel ends others first to save memory, but this one before its
	// guard. Without the right to it the service manager has to set it.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0)
	// An idle node has 20 MB with it and without; but what a full table once
	// needed is then not given back.
	if err := guard.LockMemory(); err != nil {
		lacking = append(lacking, err.Error())
	}
	if err := guard.Nice(-20); err != nil {
		lacking = append(lacking, err.Error())
	}
	if err := hasten(s); err != nil {
		lacking = append(lacking, err.Error())
	}
	return lacking
}

// hasten gives this process real-time priority if its interval is short, and
// else looks whether the advert thread will have it. A process that has it
// keeps it until it ends.
func hasten(s *settings) error {
	defer func() { _ = guard.Relax(priority(s)) }() // it only saves processor time
	if priority(s) == 0 {
		return guard.MayHurry()
	}
	if err := guard.Hurry(rtPriority); err != nil {
		return fmt.Errorf("at an interval of %v: %w", s.file.VRRP.Advertise, err)
	}
	return nil
}

// priority is that of the threads, 0 none.
func priority(s *settings) uint32 {
	if s.file.VRRP.Advertise >= hurried {
		return 0
	}
	return rtPriority
}

// threads looks after those that the Go runtime has started since.
type threads struct{ d *daemon }

func (t threads) String() string { return "threads" }

const threadsEvery = 3 * time.Second

func (t threads) Run(ctx context.Context) error {
	look := time.NewTicker(threadsEvery)
	defer look.Stop()
	var before []int
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			now, err := guard.Threads()
			if err == nil && slices.Equal(now, before) { // each was put right, and stays so
				continue
			}
			before = now
			_ = guard.Relax(priority(t.d.settings())) // said at the start if it cannot
		}
	}
}
