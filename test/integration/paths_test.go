package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestTwoPaths: the nodes talk over the direct cable and over the lan, and
// nothing but an alarm comes of the loss of the cable. Then maintenance.
func TestTwoPaths(t *testing.T) {
	t.Parallel()
	config := site.Replace(patient(), "address: 192.0.2.1,", "addresses: [192.0.2.1, 192.168.77.2],")
	config = site.Replace(config, "address: 192.0.2.2,", "addresses: [192.0.2.2, 192.168.77.3],")
	config = site.Replace(config, "preempt_delay: 2s", "preempt_delay: 1s")
	c := pair(t, netlab.PairOptions{WANOwn: true}, config)
	both := func(what string, within time.Duration, ok func(ha.Status) bool) {
		t.Helper()
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Wait(what, r, within, ok))
		}
	}
	quiet := func(s ha.Status) bool { return len(s.Alarms) == 0 }
	both("no alarm", 3*time.Second, quiet)

	t.Run("row 16, wall clocks jump", func(t *testing.T) { jumps(t, c) }) // they stay wrong in what follows
	t.Run("the cable is cut", func(t *testing.T) {
		_, one := masterOf(t, c, "r1")
		_, two := masterOf(t, c, "r2")
		at := netlab.Now()
		must(t, c.Port("r1", "sync0").Unplug())
		both("the alarm", 3*time.Second, func(s ha.Status) bool { return hasAlarm(s, "one_witness") })
		atMost(t, "the alarm", netlab.Now().Sub(at), 2*time.Second+noise, "1.3 s")
		for end := at.Add(2500 * time.Millisecond); netlab.Now() < end; {
			for _, r := range []string{"r1", "r2"} {
				s, err := c.Status(r)
				must(t, err)
				for _, n := range s.Nodes {
					if !n.Alive || !s.Config.InSync {
						t.Fatalf("%s shows %+v, configuration %+v", r, n, s.Config)
					}
				}
				for _, a := range s.Alarms {
					if !strings.Contains(a.Text, "192.0.2.") || !strings.Contains(a.Text, "192.168.77.") {
						t.Errorf("the alarm names no path: %s", a.Text)
					}
				}
			}
		}
		if m, n := masterOf(t, c, "r1"); m != "r1" || n != one {
			t.Errorf("r1: %s is master, %d transitions before, %d after", m, one, n)
		}
		if _, n := masterOf(t, c, "r2"); n != two {
			t.Errorf("r2: %d transitions before, %d after", two, n)
		}
	})

	t.Run("commands over the lan", func(t *testing.T) {
		for _, step := range []struct{ on, to string }{{"r1", "r2"}, {"r1", "r1"}, {"r2", "r2"}, {"r2", "r1"}} { // from either side
			failover(t, c, step.on, step.to)
			must(t, c.WaitHolder(site.LANAddress, step.to, 2*time.Second))
		}
		write(t, c, site.Replace(config, "weight: 1", "weight: 3"), "r1", "r2")
		out, err := c.Command("r2", "reload")
		must(t, err)
		t.Log(out)
		sameRouting(t, c, "the new weight", 2*time.Second, func(s ha.Status) bool {
			return near(lineOf(s, "dsl").Share, 0.6) && s.Config.InSync && s.Config.Generation > 1
		})
		text, err := c.Command("r1", "status")
		must(t, err)
		if !strings.Contains(text, "in sync (generation ") {
			t.Errorf("the status names no generation:\n%s", text)
		}
	})

	t.Run("healed", func(t *testing.T) {
		at := netlab.Now()
		must(t, c.Port("r1", "sync0").Plug())
		both("no alarm", 10*time.Second, quiet)
		atMost(t, "the alarms are gone", netlab.Now().Sub(at), 10*time.Second, "0.5 s")
		_, err := c.Command("r1", "failover", "--auto")
		must(t, err)
		must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	})

	t.Run("maintenance", func(t *testing.T) { rests(t, c) })

	t.Run("maintenance without preemption", func(t *testing.T) {
		text, err := os.ReadFile(c.ConfigFile("r1"))
		must(t, err)
		write(t, c, site.Replace(string(text), "preempt_delay: 1s", "preempt_delay: 1s, preempt: false"), "r1", "r2")
		_, err = c.Command("r1", "reload")
		must(t, err)
		for _, step := range []struct{ router, word, master string }{
			{"r1", "on", "r2"}, {"r1", "off", "r2"}, {"r2", "on", "r1"}, {"r2", "off", "r1"},
		} {
			_, err := c.Command(step.router, "maintenance", step.word)
			must(t, err)
			if step.word == "off" && step.router == "r1" { // the better one; in the other case nobody would move anyhow
				time.Sleep(1500 * time.Millisecond) // preempt_delay
			}
			must(t, c.WaitHolder(site.LANAddress, step.master, time.Second))
		}
	})
}

// jumps sets the clocks of both nodes far apart: nothing happens, and nothing is
// told but the time.
func jumps(t *testing.T, c *site.Cluster) {
	state := func() (all []string) {
		t.Helper()
		for _, r := range []string{"r1", "r2"} {
			s, err := c.Status(r)
			must(t, err)
			all = append(all, fmt.Sprintf("%s: role %s, %d transitions, plan %s, sync %v, configuration %+v, alarms %v", r, s.Role, s.VRRP.Transitions, s.PlanHash, s.ConntrackSync.Peers[0].State, s.Config, s.Alarms))
			for _, u := range s.Uplinks {
				all = append(all, fmt.Sprintf("%s: %s %v %v", r, u.Name, u.State, u.Views))
			}
			for _, n := range s.Nodes {
				all = append(all, fmt.Sprintf("%s: %s alive %v, %v", r, n.Name, n.Alive, n.Role))
			}
		}
		return all
	}
	for try := 1; ; try++ {
		must(t, c.Settled("r1", "r1", 15*time.Second))
		must(t, c.Settled("r2", "r1", 15*time.Second))
		inSync(t, c, "r1", "r2")
		client, err := c.Load("h1", light())
		must(t, err)
		before := state()
		var wrong []string
		w, at := c.Watch(), c.Mark("jumps")
		late := lateness(func() {
			for _, jump := range []struct {
				router string
				by     time.Duration
			}{{"r1", -time.Hour}, {"r2", -365 * 24 * time.Hour}, {"r1", 100 * 24 * time.Hour}} {
				must(t, c.Router(jump.router).JumpClock(jump.by))
				time.Sleep(400 * time.Millisecond) // more than 3A + Skew
				if diff := cmp.Diff(before, state()); diff != "" {
					wrong = append(wrong, fmt.Sprintf("the clock of %s jumped by %v (-before +after):\n%s", jump.router, jump.by, diff))
				}
			}
		})
		r, err := client.Stop()
		must(t, err)
		if n := w.Moves(site.LANAddress, at); n > 0 {
			wrong = append(wrong, fmt.Sprintf("the address moved %d times", n))
		}
		if r.Survivors() != len(r.TCP) || r.FreshFailedSince("jumps") > 0 {
			wrong = append(wrong, "connections suffered:\n"+r.String())
		}
		if len(wrong) == 0 {
			break
		}
		text := strings.Join(wrong, "\n")
		if late < advertise/2 {
			t.Fatal(text)
		}
		t.Logf("others had the processors for %v: once more\n%s", late, text)
		if try == 3 {
			t.Log("again and again: nothing can be said")
			break
		}
	}
	_, err := c.Command("r2", "uplink", "disable", "dsl") // an event that r2 tells
	must(t, err)
	_, err = c.Command("r2", "uplink", "enable", "dsl")
	must(t, err)
	events, err := c.Command("r2", "events", "--json")
	must(t, err)
	if year := time.Now().Add(-365 * 24 * time.Hour).Format(`"time":"2006-`); !strings.Contains(events, year) {
		t.Errorf("no event of the last year: the clock did not jump\n%s", events)
	}
	both := func(s ha.Status) bool { return lineOf(s, "dsl").State.String() == "up" && lineOf(s, "dsl").Share > 0 }
	sameRouting(t, c, "dsl is back", 3*time.Second, both)
}

// lateness is by how much a process without priority was late while something was
// done: an idle wait of ten milliseconds, over and over.
func lateness(do func()) (worst time.Duration) {
	quit, done := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		for tick := 10 * time.Millisecond; ; {
			at := time.Now()
			select {
			case <-quit:
				done <- worst
				return
			case <-time.After(tick):
				worst = max(worst, time.Since(at)-tick)
			}
		}
	}()
	do()
	close(quit)
	return <-done
}

// rests puts nodes in and out of maintenance.
func rests(t *testing.T, c *site.Cluster) {
	w := c.Watch()
	order := func(router, word string) netlab.Instant {
		t.Helper()
		at := netlab.Now()
		_, err := c.Command(router, "maintenance", word)
		must(t, err)
		return at
	}
	smooth := func(what string, at netlab.Instant) {
		t.Helper()
		if v := w.Vacant(site.LANAddress, at); v > time.Millisecond {
			t.Errorf("%s: nobody held the address for %v", what, v)
		}
		atMost(t, what+": two holders", w.Overlap(site.LANAddress, at), 50*time.Millisecond+noise/3, "2 ms")
	}

	at := order("r1", "on") // the master
	must(t, c.WaitHolder(site.LANAddress, "r2", time.Second))
	smooth("on, on the master", at)
	must(t, c.Wait("both know", "r2", 2*time.Second, func(s ha.Status) bool {
		return s.Nodes[0].Maintenance && s.Nodes[0].EffectivePriority != nil && *s.Nodes[0].EffectivePriority == 1
	}))
	text, err := c.Command("r2", "status")
	must(t, err)
	if !strings.Contains(text, "200, maintenance") {
		t.Errorf("the status does not show it:\n%s", text)
	}
	if _, err := c.Command("r2", "failover"); err == nil || !strings.Contains(err.Error(), "maintenance") {
		t.Errorf("failover to a node in maintenance: %v", err)
	}

	// Remembered over a restart, and not preferred after it.
	_, err = c.Daemons["r1"].Stop(5 * time.Second)
	must(t, err)
	must(t, c.Run("r1"))
	must(t, c.Wait("r1 rests after a restart", "r2", 5*time.Second, func(s ha.Status) bool {
		return s.Nodes[0].Alive && s.Nodes[0].Role == ha.RoleBackup && s.Nodes[0].Maintenance
	}))
	time.Sleep(1500 * time.Millisecond) // preempt_delay
	must(t, c.WaitHolder(site.LANAddress, "r2", 0))

	// Alone it serves, until somebody comes.
	must(t, c.PowerOff("r2"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 3*time.Second))
	must(t, c.PowerOn("r2"))
	at = netlab.Now()
	must(t, c.Run("r2"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 8*time.Second))
	smooth("somebody came", at)

	at = order("r1", "off")
	must(t, c.WaitHolder(site.LANAddress, "r1", 6*time.Second)) // preemption
	smooth("off", at)

	order("r2", "on") // the backup: nothing moves
	must(t, c.WaitHolder(site.LANAddress, "r1", 0))
	order("r2", "off")
	must(t, c.Wait("nobody rests", "r1", 2*time.Second, func(s ha.Status) bool { return !s.Nodes[1].Maintenance }))
	if o := w.Moves(site.LANAddress, at); o != 1 {
		t.Errorf("%d moves, want one", o)
	}
}
