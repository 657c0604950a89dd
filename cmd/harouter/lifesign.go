package main

import (
	"context"
	"os"
	"strconv"
	"time"
)

// lifeSign tells systemd that the loop that decides still does (WatchdogSec=). The
// guard is quicker by far: it takes the addresses away. What systemd adds is
// that a daemon that hangs is ended and started again.
type lifeSign struct{ of *watchdog }

func (p lifeSign) String() string { return "life sign" }

func (p lifeSign) Run(ctx context.Context) error {
	every := lifeSignEvery(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid())
	if every == 0 {
		return nil
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if now := p.of.beats.Load(); now != last {
			last = now
			_ = notify("WATCHDOG=1") // where it does not come, systemd does what it is for
		}
	}
}

// lifeSignEvery is how often systemd is told, as sd_watchdog_enabled(3) says; 0: it
// does not ask this process.
func lifeSignEvery(usec, pid string, own int) time.Duration {
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) || pid != "" && pid != strconv.Itoa(own) {
		return 0
	}
	return time.Duration(n) * time.Microsecond / 3
}
