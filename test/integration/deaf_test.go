package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// part breaks the switch of the office between two groups of its ports.
func part(t *testing.T, c *site.Cluster, one, other []*netlab.Port) {
	t.Helper()
	must(t, c.Pass(slices.Concat(one, other)...))
	from := func(ports []*netlab.Port) string {
		var macs []string
		for _, p := range ports {
			macs = append(macs, p.MAC.String())
		}
		return fmt.Sprintf("ether saddr { %s }", strings.Join(macs, ", "))
	}
	for _, p := range one {
		must(t, p.Drop(netlab.In, from(other)))
	}
	for _, p := range other {
		must(t, p.Drop(netlab.In, from(one)))
	}
}

func deafOffice(s ha.Status) bool {
	return slices.ContainsFunc(s.Alarms, func(a ha.Alarm) bool { return a.Code == ha.AlarmDeaf && a.Subject == "office" })
}

// TestRow11Deaf: adverts are lost on the LAN while the nodes hear each other over
// the cable. There is never a second master; who still reaches hosts serves.
func TestRow11Deaf(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{WANOwn: true, Hosts: 2}, site.Replace(site.Config, "advertise: 100ms", "advertise: 100ms, preempt: false"))
	must(t, c.Up("r1")) // the first one stays
	must(t, c.Run("r2"))
	must(t, c.Settled("r2", "r1", 10*time.Second))
	r1, r2 := c.Router("r1").Port("lan0"), c.Router("r2").Port("lan0")
	h1, h2 := c.Node("h1").Port("eth0"), c.Node("h2").Port("eth0")
	for _, h := range []string{"h1", "h2"} { // the master knows them, as it does any host that works
		if !c.Node(h).Reaches(site.LANAddress, 3*time.Second) {
			t.Fatalf("%s does not reach the gateway", h)
		}
	}
	alarms := func(on bool, within time.Duration) {
		t.Helper()
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Wait(fmt.Sprintf("alarm deaf: %t", on), r, within, func(s ha.Status) bool { return deafOffice(s) == on }))
		}
	}
	stays := func(router string, from netlab.Instant) {
		t.Helper()
		if n := c.Watch().Moves(site.LANAddress, from); n > 0 || !slices.Equal(c.Holders(site.LANAddress), []string{router}) {
			t.Errorf("the address moved %d times, and is held by %v, want %s", n, c.Holders(site.LANAddress), router)
		}
	}
	moves := func(router string, from netlab.Instant) {
		t.Helper()
		must(t, c.WaitHolder(site.LANAddress, router, 5*time.Second))
		atMost(t, "who reaches the hosts is master", netlab.Now().Sub(from), 4*time.Second, "2.5 s")
		must(t, c.Wait("alone", router, 2*time.Second, func(s ha.Status) bool { return s.VRRP.Master == router }))
		if o := c.Watch().Overlap(site.LANAddress, from); o > 20*time.Millisecond {
			t.Errorf("two held the address for %v", o)
		}
	}
	if s, err := c.Status("r1"); err != nil || deafOffice(s) {
		t.Fatalf("alarms before anything happened: %v %v", s.Alarms, err)
	}
	time.Sleep(3200 * time.Millisecond) // it has told its hosts to the backup

	at := netlab.Now()
	must(t, r1.Drop(netlab.Out, "ip daddr 224.0.0.18"))
	alarms(true, 2*time.Second+noise)
	out, err := c.Command("r2", "status")
	must(t, err)
	if !strings.Contains(out, "multicast") {
		t.Errorf("filtered multicast is not named:\n%s", out)
	}

	part(t, c, []*netlab.Port{r1, h1}, []*netlab.Port{r2, h2})
	time.Sleep(2500 * time.Millisecond) // each reaches one
	alarms(true, 0)
	stays("r1", at)

	at = netlab.Now()
	part(t, c, []*netlab.Port{r1}, []*netlab.Port{r2, h1, h2})
	moves("r2", at)
	for _, h := range []string{"h1", "h2"} {
		if !c.Node(h).Reaches(site.LANAddress, time.Second) {
			t.Errorf("%s does not reach the new master", h)
		}
	}

	must(t, c.Pass(r1, r2, h1, h2))
	at = netlab.Now()
	alarms(false, 10*time.Second+noise)
	atMost(t, "the alarm is gone", netlab.Now().Sub(at), 10*time.Second+noise, "3.5 s")
	stays("r2", at)

	at = netlab.Now()
	must(t, r2.Drop(netlab.Out, "")) // it hears all and is not heard
	moves("r1", at)
	stays("r1", netlab.Now())

	t.Run("another machine runs as r1 too", func(t *testing.T) {
		must(t, c.Daemons["r2"].Kill())
		must(t, c.WaitHolder(site.LANAddress, "r1", time.Second))
		must(t, c.Pass(r2))
		at := netlab.Now()
		args := c.Args("r2", "run")
		args[slices.Index(args, "r2")] = "r1"
		_, err := c.Router("r2").Start("double", args...)
		must(t, err)
		must(t, c.Wait("it is told", "r1", 3*time.Second, func(s ha.Status) bool {
			return slices.ContainsFunc(s.Alarms, func(a ha.Alarm) bool {
				return a.Code == ha.AlarmAddressConflict && a.Subject == "node r1" && strings.Contains(a.Text, "another machine runs as node r1")
			})
		}))
		must(t, c.Wait("the second one does not serve", "r2", 3*time.Second, func(s ha.Status) bool { return s.Role == ha.RoleFault && s.Node == "r1" }))
		must(t, c.WaitHolder(site.LANAddress, "r1", time.Second))
		if o := c.Watch().Overlap(site.LANAddress, at); o > 0 {
			t.Errorf("two held the address for %v", o)
		}
	})
}
