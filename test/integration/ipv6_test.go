package integration

import (
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

var (
	lan6  = netip.MustParseAddr("2001:db8:77::1")
	link6 = netip.MustParseAddr("fe80::200:5eff:fe00:233") // that harouter adds
)

// sixFile is the standard file with an IPv6 address on the lan, and nodes that
// speak with each other over IPv6 only.
func sixFile() string {
	config := site.Replace(site.Config, "virtual_addresses: [192.168.77.1/24]", "virtual_addresses: [192.168.77.1/24, 2001:db8:77::1/64]")
	config = site.Replace(config, "address: 192.0.2.1,", "address: fd00:7::1,")
	return site.Replace(config, "address: 192.0.2.2,", "address: fd00:7::2,")
}

// TestIPv6: hosts have an IPv6 gateway address too, through repair, planned
// hand-over and crash, in a cluster whose nodes know each other by IPv6.
func TestIPv6(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{}, sixFile())
	for node, line := range map[string]string{
		"r1": "fd00:7::1/64 dev sync0", "r2": "fd00:7::2/64 dev sync0", "h1": "2001:db8:77::100/64 dev eth0",
	} {
		_, err := c.Node(node).Exec("sh", "-c", "ip addr add nodad "+line)
		must(t, err)
	}
	must(t, c.Up("r1", "r2"))
	inSync(t, c, "r1", "r2")

	lists := func(router string, there bool) {
		t.Helper()
		must(t, c.Wait("the addresses are shown", router, 2*time.Second, func(s ha.Status) bool {
			var shown []string
			for _, a := range s.VirtualAddresses {
				if a.Device == "lan0" && a.Present == there {
					shown = append(shown, a.Address.String())
				}
			}
			return slices.Equal(shown, []string{"192.168.77.1/24", "2001:db8:77::1/64", "fe80::200:5eff:fe00:233/64"})
		}))
	}
	lists("r1", true)
	lists("r2", false)
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		if len(s.Alarms) > 0 || s.Drops.VRRP["sender"] > 10 || s.Nodes[1].Address != netip.MustParseAddr("fd00:7::2") || !s.Nodes[0].Alive || !s.Nodes[1].Alive {
			t.Errorf("%s: alarms %+v, drops %v, nodes %+v", r, s.Alarms, s.Drops.VRRP, s.Nodes)
		}
	}
	load := manyFlows()
	load.Ping = append(load.Ping, netlab.Ping{Target: lan6, Interval: 2 * time.Millisecond})
	client, err := c.Load("h1", load)
	must(t, err)
	time.Sleep(500 * time.Millisecond)

	_, err = c.Node("r1").Exec("ip", "addr", "del", "2001:db8:77::1/64", "dev", "lan0")
	must(t, err)
	removed := c.Mark("removed")
	must(t, c.Wait("it is put back and counted", "r1", 2*time.Second, func(s ha.Status) bool { return s.Repairs.Address == 1 })) // ideal 400 ms
	t.Logf("put back after %v", gained(c.Watch(), lan6, "r1", removed))
	lists("r1", true)
	time.Sleep(200 * time.Millisecond)

	planned := c.Mark("planned")
	must(t, asked(c, "r1", "failover"))
	must(t, c.Settled("r1", "r2", 5*time.Second))
	lists("r2", true)
	lists("r1", false)
	inSync(t, c, "r1", "r2")
	time.Sleep(300 * time.Millisecond)

	crash := c.Mark("crash")
	must(t, c.PowerOff("r2"))
	must(t, c.WaitHolder(lan6, "r1", 3*time.Second))
	lists("r1", true)
	time.Sleep(500 * time.Millisecond)
	r := report(t, client)
	for _, f := range r.Ping {
		if f.Target.Addr() != lan6 {
			continue
		}
		if n := f.Lost(planned, crash); n > 0 {
			t.Errorf("the planned hand-over cost %d pings", n)
		}
		quietly(t, "silence of the IPv6 gateway after the crash", r, f.Gap(crash, 0), 3*advertise+56*advertise/256+20*time.Millisecond+noise, "342 ms")
	}
	for _, a := range []netip.Addr{lan6, link6} {
		if o := c.Watch().Overlap(a, planned); o > 50*time.Millisecond+noise/3 {
			t.Errorf("%v had two holders for %v", a, o)
		}
	}
	survived(t, c, r, "planned", "crash")

	// A reload takes IPv6 off the lan and puts it back.
	must(t, c.Wait("r2 is shown dead", "r1", 3*time.Second, func(s ha.Status) bool { return !s.Nodes[1].Alive }))
	for _, config := range []string{site.Replace(sixFile(), ", 2001:db8:77::1/64]", "]"), sixFile()} {
		must(t, os.WriteFile(c.ConfigFile("r1"), []byte(config), 0o644))
		_, err = c.Command("r1", "reload")
		must(t, err)
		if config == sixFile() {
			lists("r1", true)
			continue
		}
		must(t, netlab.WaitFor("IPv6 is off the lan", 2*time.Second, func() bool { return len(c.Holders(lan6))+len(c.Holders(link6)) == 0 }))
	}
}
