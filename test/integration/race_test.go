package integration

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// fastestResponse: the first connection to a destination goes by weights, those
// after it by who answered first; a takeover knows that too, and a winner that dies
// is followed by another.
func fastestResponse(t *testing.T, c *site.Cluster, cable, dsl *netlab.Emulator) {
	slow := netlab.Line{Delay: 40 * time.Millisecond}
	cable.Set(slow, netlab.Line{})
	dsl.Set(netlab.Line{}, netlab.Line{})
	reloaded(t, c, measured("method: fastest-response, weights: {cable: 255, dsl: 1}"), "r1", "r2")
	share(t, c, "by weights", 3*time.Second, "r1", func(cable, dsl float64) bool { return cable > 0.99 && dsl > 0 })

	works(t, "the first", connect(t, c, "h1", echo(site.Server), 1)) // by cable, 255 of 256 times
	began := time.Now()
	known := func(router, uplink string) bool {
		out, err := c.Router(router).Exec("nft", "list", "set", "inet", "harouter", "learned_default/"+uplink)
		return err == nil && strings.Contains(out, site.Server.String())
	}
	must(t, netlab.WaitFor("dsl as the winner", 2*time.Second, func() bool { return known("r1", "dsl") }))
	t.Logf("raced after %v", time.Since(began).Round(time.Millisecond))
	only(t, "those after it", works(t, "those after it", connect(t, c, "h1", echo(site.Server), 20)), site.WAN2)
	must(t, netlab.WaitFor("the winner on r2", 3*time.Second, func() bool { return known("r2", "dsl") }))
	routedAlike(t, c)

	// A new race would be won by cable.
	cable.Set(netlab.Line{}, netlab.Line{})
	dsl.Set(slow, netlab.Line{})
	_, err := c.Command("r1", "failover")
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r2", 2*time.Second))
	only(t, "after a takeover", works(t, "after a takeover", connect(t, c, "h1", echo(site.Server), 20)), site.WAN2)

	must(t, c.BlackholeBeyond("isp2"))
	must(t, c.Wait("dsl down", "r2", 4*time.Second, func(s ha.Status) bool { return s.Policies[0].Shares["cable"] == 1 }))
	only(t, "the winner is dead", works(t, "the winner is dead", connect(t, c, "h1", echo(site.Server), 10)), site.WAN1)
	must(t, c.Restore("isp2"))
	share(t, c, "dsl is back", 5*time.Second, "r2", func(_, dsl float64) bool { return dsl > 0 })
	works(t, "the first of a new race", connect(t, c, "h1", echo(site.Server), 1))
	must(t, netlab.WaitFor("cable as the winner", 2*time.Second, func() bool { return known("r2", "cable") && !known("r2", "dsl") }))
	_, err = c.Command("r2", "failover")
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r1", 2*time.Second))
	_, err = c.Command("r1", "failover", "--auto")
	must(t, err)
}

// heldResponse: with race: hold the very first connection goes the faster way; a
// race without an end costs no more than the hold; and without the daemon nobody
// waits. r2 is alone.
func heldResponse(t *testing.T, c *site.Cluster, cable, dsl *netlab.Emulator) {
	cable.Set(netlab.Line{Delay: 40 * time.Millisecond}, netlab.Line{})
	dsl.Set(netlab.Line{}, netlab.Line{})
	net, r2 := c.Node("net"), c.Router("r2")
	far := func(n byte) netip.AddrPort { return echo(netip.AddrFrom4([4]byte{198, 51, 100, n})) }
	// What begins at a router has one hop less behind it: to two of the servers its
	// races get no answer.
	for _, line := range []string{
		"for i in 11 12 13 14; do ip addr add 198.51.100.$i/32 dev lo; done",
		"nft 'add table ip mute; add chain ip mute in { type filter hook input priority 0; }; add rule ip mute in ip daddr { 198.51.100.12, 198.51.100.13 } ip ttl 63 tcp flags & (syn | ack) == syn drop'",
	} {
		_, err := net.Exec("sh", "-ec", line)
		must(t, err)
	}
	_, err := c.Serve("net", far(11).Addr(), far(12).Addr(), far(13).Addr(), far(14).Addr())
	must(t, err)
	queued := func() string { // how many wait; "": nobody reads
		out, err := r2.Exec("cat", "/proc/net/netfilter/nfnetlink_queue")
		must(t, err)
		if f := strings.Fields(out); len(f) > 2 {
			return f[2]
		}
		return ""
	}
	reloaded(t, c, measured("method: fastest-response, race: hold, weights: {cable: 255, dsl: 1}"), "r2")
	share(t, c, "by weights", 3*time.Second, "r2", func(cable, dsl float64) bool { return cable > 0.99 && dsl > 0 })
	must(t, netlab.WaitFor("the queue", 2*time.Second, func() bool { return queued() == "0" }))

	won := connect(t, c, "h1", far(11), 20)
	only(t, "each of them, the first too", works(t, "held", won), site.WAN2)
	slow := connect(t, c, "h1", far(12), 1)
	only(t, "nobody won", works(t, "nobody won", slow), site.WAN1) // 255 of 256 times
	t.Logf("with a winner the first is open after %v, the last after %v; without one after %v", won[0].Connect, won[19].Connect, slow[0].Connect)
	if d := slow[0].Connect; d < 250*time.Millisecond {
		t.Errorf("without a winner it did not wait: open after %v", d)
	}

	client, err := c.Load("h1", netlab.Load{Drain: 10 * time.Millisecond, Fresh: []netlab.Fresh{{Server: far(13), Count: 1, Timeout: 5 * time.Second}}})
	must(t, err)
	must(t, netlab.WaitFor("one that waits", time.Second, func() bool { return queued() == "1" }))
	must(t, c.Daemons["r2"].Kill())
	must(t, netlab.WaitFor("the end of the queue", time.Second, func() bool { return queued() == "" }))
	alone := connect(t, c, "h1", far(14), 20) // within 900 ms each, else they fail
	works(t, "without a daemon", alone)
	must(t, netlab.WaitFor("the one that waited", 6*time.Second, func() bool {
		s, err := client.Snapshot()
		return err != nil || s.FreshOK+s.FreshFailed == 1
	}))
	r, err := client.Stop()
	must(t, err)
	works(t, "the one that waited when the daemon died", r.Fresh)
	t.Logf("the daemon is dead: the one that waited is open after %v, a new one after %v", r.Fresh[0].Connect, alone[0].Connect)
}
