package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// The times of the standard pair: A = 100 ms, the successor's priority is 150.
const (
	advertise = 100 * time.Millisecond
	skew      = 106 * advertise / 256
	noise     = 150 * time.Millisecond // what a noisy two-core machine adds at worst
)

// light is traffic that shows gaps and costs little: UDP flows, established
// TCP, fresh connections, and a ping of the gateway.
func light() netlab.Load {
	return netlab.Load{
		UDP:   []netlab.UDPFlows{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Flows: 8, Interval: 10 * time.Millisecond}},
		TCP:   []netlab.TCPFlows{{Server: netip.AddrPortFrom(site.Server2, netlab.EchoPort), Flows: 8, Interval: 50 * time.Millisecond}},
		Fresh: []netlab.Fresh{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Interval: 25 * time.Millisecond}},
		Ping:  []netlab.Ping{{Target: site.LANAddress, Interval: 2 * time.Millisecond}},
	}
}

func load(t *testing.T, c *site.Cluster) *netlab.Client {
	t.Helper()
	client, err := c.Load("h1", light())
	must(t, err)
	time.Sleep(400 * time.Millisecond) // traffic before the fault, part of what is measured
	return client
}

func report(t *testing.T, client *netlab.Client) *netlab.Report {
	t.Helper()
	r, err := client.Stop()
	must(t, err)
	t.Log("\n" + r.String())
	return r
}

// TestRow1Crash: the master loses power.
func TestRow1Crash(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before, err := c.Status("r2")
	must(t, err)
	client := load(t, c)
	crash := c.Mark("crash")
	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	must(t, c.Wait("r1 is shown dead", "r2", 2*time.Second, func(s ha.Status) bool {
		return !s.Nodes[0].Alive && s.Nodes[0].Role == ha.RoleUnknown
	}))
	dead := netlab.Now().Sub(crash)
	time.Sleep(500 * time.Millisecond)
	after, err := c.Status("r2")
	must(t, err)
	r := report(t, client)
	quietly(t, "silence seen by the host", r, r.PingGapSince("crash"), 3*advertise+skew+20*time.Millisecond+noise, "under 95 ms; 361 ms by the timers")
	atMost(t, "the dead node is shown as such", dead, 2*time.Second, "1.5 s")
	if after.PlanHash != before.PlanHash {
		t.Error("the takeover changed the plan hash")
	}
	again, ok := r.FreshAgain("crash")
	if !ok {
		t.Error("fresh connections do not work again")
	}
	quietly(t, "fresh connections work again", r, again, 3*advertise+skew+300*time.Millisecond, "361 ms")
	for _, a := range []netip.Addr{site.LANAddress, site.WAN1, site.WAN2} {
		if h := c.Holders(a); !slices.Equal(h, []string{"r2"}) {
			t.Errorf("%v is held by %v", a, h)
		}
	}
}

// TestRow2DaemonKilled: the guard takes the addresses away, the peer is master
// in 50 ms + Skew, there are never two holders for longer, and connections go on.
func TestRow2DaemonKilled(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	for i, fault := range []struct {
		name string
		sig  syscall.Signal
	}{{"hanging", syscall.SIGSTOP}, {"killed", syscall.SIGKILL}} {
		t.Run(fault.name, func(t *testing.T) {
			client, err := c.Load("h1", manyFlows())
			must(t, err)
			inSync(t, c, "r1", "r2")
			time.Sleep(500 * time.Millisecond)
			w := c.Watch()
			at := c.Mark("fault")
			must(t, c.Daemons["r1"].Signal(fault.sig))
			must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
			time.Sleep(time.Second)
			hang := time.Duration(0)
			if fault.sig == syscall.SIGSTOP {
				hang = ha.Lease(advertise)
			}
			for _, a := range []netip.Addr{site.LANAddress, site.WAN1, site.WAN2} {
				if h := c.Holders(a); !slices.Equal(h, []string{"r2"}) {
					t.Errorf("%v is held by %v", a, h)
				}
				if o := w.Overlap(a, at); o > 0 {
					t.Errorf("%v had two holders for %v", a, o)
				}
				atMost(t, fmt.Sprintf("%v away from r1", a), lost(w, a, "r1", at), hang+50*time.Millisecond+noise/3, "5 ms after the hang is seen")
				atMost(t, fmt.Sprintf("%v on r2", a), gained(w, a, "r2", at), hang+50*time.Millisecond+noise/3, "10 ms after the hang is seen, without Skew")
			}
			if n := strings.Count(c.Log("r2"), "r1 was fenced"); n <= i {
				t.Errorf("r2 took over, but not on the word of r1's guard, which it heard %d times", n)
			}
			if fault.sig == syscall.SIGSTOP { // row 14: it goes on, listens, and is a backup that may come back
				at := netlab.Now()
				must(t, c.Daemons["r1"].Signal(syscall.SIGCONT))
				must(t, c.Wait("r1 is backup", "r1", time.Second, func(s ha.Status) bool { return s.Role == ha.RoleBackup }))
				must(t, c.WaitHolder(site.LANAddress, "r1", 10*time.Second)) // preemption
				if o := w.Overlap(site.LANAddress, at); o > 60*time.Millisecond {
					t.Errorf("two holders for %v", o)
				}
				inSync(t, c, "r1", "r2") // what it believed while it stood still ends no flow
				time.Sleep(300 * time.Millisecond)
			}
			must(t, client.Poke(5*time.Second))
			r := report(t, client)
			survived(t, c, r, "fault")
			quietly(t, "silence seen by the host", r, r.PingGapSince("fault"), hang+50*time.Millisecond+skew+noise, "hang + 50 ms")
		})
	}
}

// gained is when a router got an address, measured from since.
func gained(w *netlab.Watch, a netip.Addr, router string, since netlab.Instant) time.Duration {
	for _, ch := range w.Changes(a) {
		if ch.Router == router && ch.Held && ch.At > since {
			return ch.At.Sub(since)
		}
	}
	return time.Hour
}

// lost is when a router lost an address, measured from since.
func lost(w *netlab.Watch, a netip.Addr, router string, since netlab.Instant) time.Duration {
	for _, ch := range w.Changes(a) {
		if ch.Router == router && !ch.Held && ch.At > since {
			return ch.At.Sub(since)
		}
	}
	return time.Hour
}

// TestRow2Alone: nobody else lives: the addresses stay, traffic goes on, and
// they go when another node speaks up.
func TestRow2Alone(t *testing.T) {
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	must(t, c.Up("r1"))
	client := load(t, c)
	c.Mark("killed")
	must(t, c.Daemons["r1"].Kill())
	time.Sleep(time.Second)
	if h := c.Holders(site.LANAddress); !slices.Equal(h, []string{"r1"}) {
		t.Errorf("after the daemon's death the address is held by %v", h)
	}
	r := report(t, client)
	quietly(t, "silence seen by the host", r, r.PingGapSince("killed"), noise, "none")
	if n := r.FreshFailedSince("killed"); n > 0 {
		t.Errorf("%d fresh connections failed without a daemon", n)
	}

	t.Run("restart adopts", func(t *testing.T) {
		at := netlab.Now()
		must(t, c.Run("r1"))
		must(t, c.Settled("r1", "r1", 5*time.Second))
		if v := c.Watch().Vacant(site.LANAddress, at); v > 0 {
			t.Errorf("nobody held the address for %v", v)
		}
	})
	t.Run("another node ends it", func(t *testing.T) {
		must(t, c.Daemons["r1"].Kill())
		at := netlab.Now()
		must(t, c.Run("r2"))
		must(t, c.WaitHolder(site.LANAddress, "r2", 5*time.Second))
		atMost(t, "two holders", c.Watch().Overlap(site.LANAddress, at), 50*time.Millisecond+noise/3, "1 ms")
		ps, err := c.Router("r1").Processes()
		must(t, err)
		if err := netlab.WaitFor("the guard ends", time.Second, func() bool {
			ps, err = c.Router("r1").Processes()
			return err == nil && len(ps) == 0
		}); err != nil {
			t.Errorf("%v: %v", err, ps)
		}
	})
}

// hasty is the standard file for tests in which the better node returns.
func hasty() string { return site.Replace(site.Config, "preempt_delay: 2s", "preempt_delay: 1s") }

// TestRow3Planned: SIGTERM and failover move the address without a gap.
func TestRow3Planned(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, hasty())
	client := load(t, c)
	w := c.Watch()
	moved := func(what string, at netlab.Instant, to string) {
		t.Helper()
		must(t, c.WaitHolder(site.LANAddress, to, 3*time.Second))
		if v := w.Vacant(site.LANAddress, at); v > time.Millisecond { // two threads' time stamps
			t.Errorf("%s: nobody held the address for %v", what, v)
		}
		atMost(t, what+": two holders", w.Overlap(site.LANAddress, at), 50*time.Millisecond, "2 ms")
	}
	at := c.Mark("failover")
	out, err := c.Command("r1", "failover")
	must(t, err)
	t.Log(out)
	moved("failover", at, "r2")
	time.Sleep(1500 * time.Millisecond) // longer than preempt_delay: it holds
	moved("hold", at, "r2")

	at = c.Mark("auto")
	_, err = c.Command("r1", "failover", "--auto") // asked on the other node
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r1", 6*time.Second))
	moved("failback", at, "r1")

	at = c.Mark("term")
	code, err := c.Daemons["r1"].Stop(10 * time.Second)
	must(t, err)
	if code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	moved("SIGTERM", at, "r2")
	rules, err := c.Router("r1").Exec("nft", "list", "table", "inet", "harouter")
	if err != nil || !strings.Contains(rules, "slots_default") {
		t.Errorf("after SIGTERM the table is gone: %v", err)
	}
	r := report(t, client)
	for _, mark := range []string{"failover", "auto", "term"} {
		quietly(t, mark+": silence seen by the host", r, r.PingGapSince(mark), 50*time.Millisecond+noise, "none")
	}
}

// TestRow5LANPort: the master's LAN port dies.
func TestRow5LANPort(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, hasty())
	client := load(t, c)
	w := c.Watch()
	at := c.Mark("unplugged")
	must(t, c.Port("r1", "lan0").Unplug())
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	got := time.Hour
	for _, ch := range w.Changes(site.LANAddress) {
		if ch.Router == "r2" && ch.Held {
			got = ch.At.Sub(at)
		}
	}
	atMost(t, "the peer holds the address", got, 50*time.Millisecond+noise, "20 ms")
	must(t, c.Wait("r1 is in fault", "r1", 2*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleFault }))
	time.Sleep(500 * time.Millisecond)
	r := report(t, client)
	quietly(t, "silence seen by the host", r, r.PingGapSince("unplugged"), 50*time.Millisecond+noise, "20 ms")
	must(t, c.Port("r1", "lan0").Plug())
	must(t, c.WaitHolder(site.LANAddress, "r1", 10*time.Second))
}

// TestRow7SilentISP and TestRow8Carrier: a dead ISP leaves the pool, its flows
// move, those of the healthy one feel nothing, and no role changes.
func TestRow7SilentISP(t *testing.T) {
	deadISP(t, func(c *site.Cluster) error { return c.BlackholeBeyond("isp2") },
		func(c *site.Cluster) error { return c.Restore("isp2") }, 800*time.Millisecond, time.Second)
}

func TestRow8Carrier(t *testing.T) {
	deadISP(t,
		func(c *site.Cluster) error { return c.ISP("isp2").Port("wan0").Unplug() }, // the ISP's end: see below
		func(c *site.Cluster) error { return c.ISP("isp2").Port("wan0").Plug() }, 800*time.Millisecond, time.Second)
	t.Run("own port", func(t *testing.T) {
		deadISP(t, func(c *site.Cluster) error {
			return errors.Join(c.ISP("isp2").Port("wan0").Unplug(), c.Port("r1", "wan2").Unplug(), c.Port("r2", "wan2").Unplug())
		}, func(c *site.Cluster) error {
			return errors.Join(c.ISP("isp2").Port("wan0").Plug(), c.Port("r1", "wan2").Plug(), c.Port("r2", "wan2").Plug())
		}, 100*time.Millisecond, 100*time.Millisecond)
	})
}

func deadISP(t *testing.T, kill, mend func(*site.Cluster) error, detect, fresh time.Duration) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	before, err := c.Status("r1")
	must(t, err)
	client := load(t, c)
	at := c.Mark("dead")
	must(t, kill(c))
	must(t, c.Wait("dsl is down", "r1", 3*time.Second, func(s ha.Status) bool { return s.Uplinks[1].State.String() == "down" }))
	seen := netlab.Now().Sub(at)
	must(t, c.Wait("r2 agrees", "r2", time.Second, func(s ha.Status) bool {
		one, err := c.Status("r1")
		return err == nil && s.PlanHash == one.PlanHash && s.Uplinks[1].Share == 0
	}))
	time.Sleep(1500 * time.Millisecond) // all flows have found their new line, and nothing else came of it
	now, err := c.Status("r1")
	must(t, err)
	if now.Role != ha.RoleMaster || now.VRRP.Transitions != before.VRRP.Transitions {
		t.Errorf("the role changed: %v, %d transitions", now.Role, now.VRRP.Transitions)
	}
	if now.Uplinks[0].Share != 1 {
		t.Errorf("the healthy uplink has the share %v", now.Uplinks[0].Share)
	}
	left, err := c.Router("r1").Connections(2<<8, 0x3f00)
	must(t, err)
	for _, f := range left {
		if f.Protocol == 6 || f.Protocol == 17 {
			t.Errorf("a flow of the dead uplink is left: %+v", f)
		}
	}
	c.Mark("mended")
	must(t, mend(c))
	must(t, c.Settled("r1", "r1", 5*time.Second))
	time.Sleep(500 * time.Millisecond)
	r := report(t, client)
	quietly(t, "verdict", r, seen, detect+noise, detect.String()+" or less")
	again, ok := r.FreshAgain("dead")
	if !ok {
		t.Error("fresh connections do not work again")
	}
	quietly(t, "fresh connections work every time", r, again, fresh+noise, "under "+fresh.String())
	for _, f := range r.On("isp1", "dead") {
		gap := f.Gap(r.Mark("dead"), 0)
		if gap > noise+r.Lag {
			t.Errorf("flow %s on the healthy ISP was silent for %v", f.Name, gap)
		}
	}
	if len(r.On("isp1", "dead")) == 0 {
		t.Error("no flow was on the healthy ISP: the test shows nothing")
	}
	moved := 0
	for _, f := range r.On("isp2", "dead") {
		if f.Gap(r.Mark("dead"), r.Mark("mended")) < fresh+time.Second && c.ISPOf(f.Source().Addr()) == "isp1" {
			moved++
		}
	}
	if n := len(r.On("isp2", "dead")); moved < n {
		t.Errorf("%d of %d UDP flows of the dead ISP moved", moved, n)
	}
	for isp, name := range map[string]string{"isp1": "isp1", "isp2": "isp2"} {
		leak, err := c.Leaks(isp)
		must(t, err)
		if leak.Packets > 0 {
			t.Errorf("%s got %d packets that are not of its network: %v", name, leak.Packets, leak.Pairs)
		}
	}
}

// TestRow12Partition: cut apart, both are master; healed, exactly one is, soon,
// and it announces itself again.
func TestRow12Partition(t *testing.T) {
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	ports := []*netlab.Port{c.Port("r2", "lan0"), c.Port("r2", "wan1"), c.Port("r2", "wan2"), c.Port("r2", "sync0")}
	must(t, c.Cut(ports...))
	must(t, netlab.WaitFor("both are master", 3*time.Second, func() bool { return len(c.Holders(site.LANAddress)) == 2 }))
	time.Sleep(time.Second)
	capture, err := c.Port("r1", "lan0").Capture(nil)
	must(t, err)
	defer capture.Close()
	healed := netlab.Now()
	must(t, c.Pass(ports...))
	must(t, c.WaitHolder(site.LANAddress, "r1", 2*time.Second))
	atMost(t, "two masters after healing", lost(c.Watch(), site.LANAddress, "r2", healed), 2*advertise+noise/2, "100 ms")
	time.Sleep(500 * time.Millisecond)
	announced := false
	for _, a := range capture.GratuitousARPs() {
		announced = announced || a.Out && a.Sender == site.LANAddress && a.At > healed
	}
	if !announced {
		t.Error("the master that stays did not announce itself again")
	}
	for _, r := range []string{"r1", "r2"} {
		must(t, c.Settled(r, "r1", 5*time.Second))
	}
}
