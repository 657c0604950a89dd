package integration

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestFasterThanTheTimers: a machine that is dead on every path is taken over
// from at once; one that only looks so is not, whatever is lost or busy.
func TestFasterThanTheTimers(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Replace(site.Config, "advertise: 100ms", "advertise: 100ms, preempt: false"))
	must(t, c.Up("r1")) // the first one stays
	must(t, c.Run("r2"))
	must(t, c.Settled("r2", "r1", 10*time.Second))
	if !c.Node("h1").Reaches(site.LANAddress, 3*time.Second) {
		t.Fatal("the host does not reach the gateway")
	}
	time.Sleep(1200 * time.Millisecond) // the master has told its hosts, and answered on all wires
	stays := func(what string, from netlab.Instant) {
		t.Helper()
		if n := c.Watch().Moves(site.LANAddress, from); n > 0 || !slices.Equal(c.Holders(site.LANAddress), []string{"r1"}) {
			t.Errorf("%s: the address moved %d times, and is held by %v", what, n, c.Holders(site.LANAddress))
		}
	}
	ports := func(router string) (out []*netlab.Port) { return c.Router(router).Ports() }
	both := []string{"r1", "r2"}
	alone := func(master string) {
		t.Helper()
		for _, r := range both {
			must(t, c.Wait(master+" is master", r, 3*time.Second, func(s ha.Status) bool { return s.VRRP.Master == master }))
		}
		must(t, netlab.WaitFor("one holder", time.Second, func() bool { return slices.Equal(c.Holders(site.LANAddress), []string{master}) }))
	}

	takes := func(within time.Duration) { // beside the one that does not know
		t.Helper()
		must(t, netlab.WaitFor("r2 holds the address", within, func() bool { return slices.Contains(c.Holders(site.LANAddress), "r2") }))
	}

	at := netlab.Now()
	for _, p := range ports("r1") {
		must(t, p.Drop(netlab.Out, "ip protocol 112"))
	}
	time.Sleep(700 * time.Millisecond)
	stays("no advert arrives", at)
	must(t, c.Pass(ports("r1")...))

	at = netlab.Now()
	busy, err := c.Host("h1").Disturb(64)
	must(t, err)
	time.Sleep(1200 * time.Millisecond)
	for _, p := range busy {
		must(t, p.Kill())
	}
	stays("both processors are busy", at)

	// The machine of the master stands still, and comes back before the timers end.
	at = netlab.Now()
	must(t, c.Router("r1").Signal(syscall.SIGSTOP))
	must(t, c.Cut(ports("r1")...))
	dark := netlab.Now()
	takes(time.Second)
	must(t, c.Pass(ports("r1")...))
	must(t, c.Router("r1").Signal(syscall.SIGCONT))
	back := netlab.Now()
	t.Logf("a machine that stood still for %v was dark for %v", back.Sub(at), back.Sub(dark))
	must(t, netlab.WaitFor("one holder", 2*advertise+noise+time.Second, func() bool { return len(c.Holders(site.LANAddress)) == 1 }))
	master := c.Holders(site.LANAddress)[0]
	alone(master)
	if master == "r1" && back.Sub(at) < 200*time.Millisecond && !strings.Contains(c.Log("r2"), "only stood still") {
		t.Errorf("r2 does not say that it was too quick:\n%s", c.Log("r2"))
	}
	if master == "r2" {
		_, err = c.Command("r2", "failover", "--to", "r1")
		must(t, err)
		alone("r1")
	}

	// Nothing of the master runs but its kernel.
	at = netlab.Now()
	must(t, c.Router("r1").Signal(syscall.SIGSTOP))
	takes(3 * time.Second)
	if d := netlab.Now().Sub(at); d < 2*advertise {
		t.Errorf("r2 took over after %v from a master whose kernel answers", d)
	}
	must(t, c.Router("r1").Signal(syscall.SIGCONT))
	alone("r2")

	time.Sleep(1200 * time.Millisecond) // the new master has answered on all wires
	client := load(t, c)
	c.Mark("crash")
	must(t, c.PowerOff("r2"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 3*time.Second))
	time.Sleep(300 * time.Millisecond)
	r := report(t, client)
	quietly(t, "silence seen by the host", r, r.PingGapSince("crash"), 95*time.Millisecond+noise, "under 95 ms")
	if r.Lag < 20*time.Millisecond && r.StallSince("crash") < 20*time.Millisecond && !strings.Contains(c.Log("r1"), "answers nothing on any path") {
		t.Errorf("r1 waited for the timers:\n%s", c.Log("r1"))
	}
}
