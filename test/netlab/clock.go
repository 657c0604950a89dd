package netlab

import (
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a reading of CLOCK_MONOTONIC in nanoseconds. Every process of the
// machine reads the same clock, so instants of agents, captures and marks
// compare, and a step of the wall clock does not touch them.
type Instant int64

// Now reads the clock.
func Now() Instant { return clock(unix.CLOCK_MONOTONIC) }

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

func clock(id int32) Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		panic(err) // both clocks that are asked for exist on every Linux
	}
	return Instant(ts.Nano())
}

// timespec is d for a system call; less than nothing is nothing.
func timespec(d time.Duration) unix.Timespec {
	return unix.NsecToTimespec(int64(max(d, 0)))
}
