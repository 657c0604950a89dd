package netlab

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// live are the sites of this process that a signal has to take down.
var live = struct {
	sync.Mutex
	sites map[*Site]bool
	watch sync.Once
}{sites: map[*Site]bool{}}

// enlist has the site closed when the process is told to end. The one
// goroutine that waits for the signal lives as long as the process.
func enlist(s *Site) {
	live.Lock()
	live.sites[s] = true
	live.Unlock()
	live.watch.Do(func() {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
		go func() {
			sig := (<-signals).(syscall.Signal)
			for _, s := range enlisted() {
				_ = s.Close() // nobody is left to hear of an error; Sweep has another go
			}
			signal.Reset(sig)
			_ = unix.Kill(os.Getpid(), sig)
		}()
	})
}

func discharge(s *Site) {
	live.Lock()
	defer live.Unlock()
	delete(live.sites, s)
}

func enlisted() []*Site {
	live.Lock()
	defer live.Unlock()
	var sites []*Site
	for s := range live.sites {
		sites = append(sites, s)
	}
	return sites
}
