package vip

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/test/netlab"
)

// stranger is another machine at the far end of a cable.
type stranger struct {
	t   *testing.T
	pid int
}

func newStranger(t *testing.T, device string) *stranger {
	t.Helper()
	s := &stranger{t, netlab.Elsewhere(t)}
	netlab.Sh(t, fmt.Sprintf("ip link set far-%s address 02:00:00:00:00:09 netns %d", device, s.pid))
	s.sh("ip link set far-" + device + " name eth0; ip link set eth0 up; ip link add br0 type bridge; ip link set br0 up")
	return s
}

func (s *stranger) sh(line string) string {
	s.t.Helper()
	return netlab.Sh(s.t, fmt.Sprintf("nsenter -t %d -n sh -ec '%s'", s.pid, line))
}

// conflicts collects what a keeper tells.
type conflicts struct {
	t   *testing.T
	mu  sync.Mutex
	got []Conflict
}

func (c *conflicts) tell(one Conflict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, one)
}

func (c *conflicts) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, one := range c.got {
		what := "conflict"
		if one.Gone {
			what = "gone"
		}
		out = append(out, fmt.Sprintf("%s: %v on %s at %v", what, one.Address, one.Device, one.MAC))
	}
	return out
}

// within waits for the next line, and checks how long that took.
func (c *conflicts) within(limit time.Duration, want ...string) {
	c.t.Helper()
	begin := time.Now()
	for len(c.lines()) < len(want) && time.Since(begin) < limit+time.Second {
		time.Sleep(ms)
	}
	if diff := cmp.Diff(want, c.lines()); diff != "" {
		c.t.Fatalf("after %v: %s", time.Since(begin), diff)
	}
	c.t.Logf("%s after %v", want[len(want)-1], time.Since(begin).Round(ms))
	if took := time.Since(begin); took > limit {
		c.t.Errorf("told after %v, %v at most", took, limit)
	}
}

// packetSockets counts those of this process's namespace.
func packetSockets(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/net/packet")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n") - 1
}

func TestConflict(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	s := newStranger(t, "lan0")
	c := &conflicts{t: t}
	var sure atomic.Bool
	sure.Store(true)
	k := newKeeper(t, Config{Addresses: []Address{lan, lan2}, Timing: never, Conflict: c.tell, MayRepair: sure.Load})
	start(t, k)
	s.sh("ip addr add 192.168.77.1/24 dev eth0") // while we are backup it is none of our business
	time.Sleep(50 * ms)
	if n := packetSockets(t); n != 0 {
		t.Errorf("a backup has %d packet sockets", n)
	}
	s.sh("ip addr del 192.168.77.1/24 dev eth0")
	add(t, k)

	const at = ": 192.168.77.1/24 on lan0 at 02:00:00:00:00:09"
	want := []string{"conflict" + at}
	s.sh("ip addr add 192.168.77.1/24 dev eth0") // says nothing by itself
	c.within(2*time.Second+deafFor, want...)
	s.sh("ip addr del 192.168.77.1/24 dev eth0")
	want = append(want, "gone"+at)
	c.within(10*time.Second, want...)

	s.sh("sysctl -qw net.ipv4.conf.eth0.arp_notify=1; ip link set eth0 down; ip addr add 192.168.77.1/24 dev eth0; ip link set eth0 up") // announces
	k.LinkChanged("lan0")
	want = append(want, "conflict"+at)
	c.within(2*time.Second, want...)
	begin := time.Now()
	removeAll(t, k) // backup again: no conflict, no socket but the announcer's
	want = append(want, "gone"+at)
	c.within(time.Second, want...)
	eventually(t, "the ear is closed", func() bool { return packetSockets(t) == 1 })
	t.Logf("closed after %v", time.Since(begin))

	sure.Store(false) // not sure to be master: it asks nobody and believes nobody
	add(t, k)
	time.Sleep(deafFor + askEvery + confirmAfter + 100*ms)
	sure.Store(true)
	if diff := cmp.Diff(want, c.lines()); diff != "" {
		t.Error(diff)
	}
}

// TestProbes: who is sure to be master asks in nobody's name, others do not.
func TestProbes(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	w := tap(t, "far-lan0")
	var sure atomic.Bool
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: never, Conflict: func(c Conflict) { t.Errorf("%+v", c) }, MayRepair: sure.Load})
	start(t, k)
	add(t, k)
	time.Sleep(deafFor + askEvery)
	if diff := cmp.Diff(lanLines, w.lines()); diff != "" {
		t.Errorf("not sure: %s", diff)
	}
	w.reset()
	sure.Store(true)
	eventually(t, "two probes", func() bool { return w.count() >= 2 })
	if diff := cmp.Diff([]string{"request: 0.0.0.0 at 02:00:00:00:00:01, for 192.168.77.1 at 00:00:00:00:00:00"}, w.lines()); diff != "" {
		t.Error(diff)
	}
	removeAll(t, k)
	time.Sleep(10 * ms) // for what is on its way
	w.reset()
	time.Sleep(askEvery + 100*ms)
	if got := w.lines(); len(got) > 0 {
		t.Errorf("as backup: %v", got)
	}
}

// TestNoConflict: what is no conflict, all at once, for as long as it would
// take to find three.
func TestNoConflict(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	s := newStranger(t, "lan0")
	s.sh("ip addr add 192.168.77.20/24 dev eth0")
	// Another port of this machine in the same network, that answers too, since
	// arp_ignore is 0; the stranger is a switch between the two.
	netlab.Sh(t, fmt.Sprintf("ip link add lan1 type veth peer name far-lan1 netns %d; ip link set lan1 up", s.pid))
	s.sh("ip link set eth0 master br0; ip link set far-lan1 master br0; ip link set far-lan1 up")
	c := &conflicts{t: t}
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: Timing{Refresh: 100 * ms}, Conflict: c.tell})
	start(t, k)
	add(t, k)
	time.Sleep(deafFor + 100*ms)
	for _, mac := range []string{"02:00:00:00:00:02", "02:00:00:00:00:03", "02:00:00:00:00:01"} {
		netlab.Sh(t, "ip link set lan0 address "+mac)
		k.LinkChanged("lan0")
		time.Sleep(askEvery + confirmAfter + confirmWithin)
	}
	if got := c.lines(); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// TestConflictSocketFollows: a device that is made anew is listened on again.
func TestConflictSocketFollows(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	cable(t, "lan0")
	c := &conflicts{t: t}
	k := newKeeper(t, Config{Addresses: []Address{lan}, Timing: Timing{Refresh: time.Hour, Settle: 10 * ms}, Conflict: c.tell})
	start(t, k)
	add(t, k)
	netlab.Sh(t, "ip link del lan0")
	k.LinkChanged("lan0")
	cable(t, "lan0")
	s := newStranger(t, "lan0")
	k.LinkChanged("lan0")
	eventually(t, "the address is back", func() bool { return slices.Equal(isPresent(t, k), []bool{true}) })
	k.LinkChanged("lan0")
	s.sh("ip addr add 192.168.77.1/24 dev eth0")
	c.within(2*time.Second+deafFor, "conflict: 192.168.77.1/24 on lan0 at 02:00:00:00:00:09")
	if m, err := filepath.Glob("/sys/class/net/far-*"); err != nil || len(m) > 0 {
		t.Errorf("%v, %v", m, err)
	}
}
