package integration

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"harouter/test/netlab"
	"harouter/test/site"
)

func init() {
	netlab.Role("spin", spin)
	netlab.Role("dirty", dirty)
}

// spin keeps one processor busy: args are the processor and the nice level.
func spin(_ context.Context, args []string) error {
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	nice, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice); err != nil {
		return err
	}
	for {
	}
}

// dirty writes args[0] MiB of memory again and again.
func dirty(_ context.Context, args []string) error {
	mib, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for {
		b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		if err := unix.Munmap(b); err != nil {
			return err
		}
	}
}

// disturb keeps every processor busy, at normal priority and at nice -20, and
// has a hog dirty memory beside it, until the end of the test.
func disturb(t *testing.T, c *site.Cluster) {
	t.Helper()
	for cpu := range runtime.NumCPU() {
		for _, nice := range []int{0, -20} {
			_, err := c.Host("h1").StartRole(fmt.Sprintf("spin%d%+d", cpu, nice), "spin", strconv.Itoa(cpu), strconv.Itoa(nice))
			must(t, err)
		}
	}
	_, err := c.Host("h1").StartRole("dirty", "dirty", "1024")
	must(t, err)
}

// advertGap is the longest time between two adverts on the LAN, and their number.
func advertGap(adverts []netlab.Advert) (gap time.Duration, n int) {
	for i := 1; i < len(adverts); i++ {
		gap = max(gap, adverts[i].At.Sub(adverts[i-1].At))
	}
	return gap, len(adverts)
}

// TestCalm: adverts every 10 ms while everybody wants the processors: no role
// changes.
func TestCalm(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Replace(site.Config, "advertise: 100ms", "advertise: 10ms"))
	disturb(t, c)
	calm(t, c, 6*time.Second)
}

// calm watches a pair for a while and fails when a role moves.
func calm(t *testing.T, c *site.Cluster, d time.Duration) {
	t.Helper()
	before := map[string]uint64{}
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		before[r] = s.VRRP.Transitions
	}
	capture, err := c.Port("r1", "lan0").Capture(nil)
	must(t, err)
	time.Sleep(d)
	capture.Close()
	gap, n := advertGap(capture.Adverts())
	t.Logf("%d adverts in %v, the longest gap between two was %v", n, d, gap)
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		if s.VRRP.Master != "r1" || s.VRRP.Transitions != before[r] {
			t.Errorf("%s: master is %s after %d more transitions", r, s.VRRP.Master, s.VRRP.Transitions-before[r])
		}
	}
	if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r1"}) {
		t.Errorf("held by %v", h)
	}
}
