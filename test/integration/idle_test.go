package integration

import (
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// TestIdleIsCheap: daemon and guard at the default timers with two uplinks.
func TestIdleIsCheap(t *testing.T) {
	config := site.Replace(site.Config, "interval: 200ms, timeout: 200ms, fall: 3, rise: 5", "interval: 1s")
	c := pair(t, netlab.PairOptions{WANOwn: true}, config)
	time.Sleep(time.Second)
	const watch = 6 * time.Second
	processes, cpu := map[string][]netlab.Running{}, map[int]time.Duration{}
	for _, r := range []string{"r1", "r2"} {
		running, err := c.Router(r).Processes()
		must(t, err)
		for _, p := range running {
			used, _, err := netlab.Usage(p.PID)
			must(t, err)
			cpu[p.PID] = used
		}
		processes[r] = running
	}
	time.Sleep(watch)
	for r, running := range processes {
		var total time.Duration
		var memory int64
		for _, p := range running {
			used, resident, err := netlab.Usage(p.PID)
			must(t, err)
			t.Logf("%s: %.2f %% of a core, %.1f MB: %.60s", r, 100*float64(used-cpu[p.PID])/float64(watch), float64(resident)/1e6, p.Args)
			total += used - cpu[p.PID]
			memory += resident
		}
		if len(running) != 2 {
			t.Errorf("%s runs %d processes, want daemon and guard: %v", r, len(running), running)
		}
		share := 100 * float64(total) / float64(watch)
		t.Logf("%s: daemon and guard use %.2f %% of a core (aim: 1.5) and %.1f MB (aim: 40)", r, share, float64(memory)/1e6)
		if share > 4 || memory > 60e6 {
			t.Errorf("%s: daemon and guard use %.2f %% of a core and %.1f MB", r, share, float64(memory)/1e6)
		}
	}
	out, err := c.Command("r2", "status")
	must(t, err)
	t.Log("\n" + out)
	for line := range strings.Lines(out) {
		if len([]rune(strings.TrimRight(line, "\n"))) > 80 {
			t.Errorf("a line of the status is wider than 80 columns: %q", line)
		}
	}
}
