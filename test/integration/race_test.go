package integration

import (
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
// race without an end costs no more than the hold; a daemon that hangs or dies costs
// a SYN that is repeated; and without one nobody waits. r2 is alone.
func heldResponse(t *testing.T, c *site.Cluster, cable, dsl *netlab.Emulator) {
	cable.Set(netlab.Line{Delay: 80 * time.Millisecond}, netlab.Line{})
	dsl.Set(netlab.Line{}, netlab.Line{})
	net, r2 := c.Node("net"), c.Router("r2")
	far := func(n byte) netip.AddrPort { return echo(netip.AddrFrom4([4]byte{198, 51, 100, n})) }
	// What begins at a router has one hop less behind it: the races to one of the
	// servers get no answer.
	for _, line := range []string{
		"for i in $(seq 11 25); do ip addr add 198.51.100.$i/32 dev lo; done",
		"nft 'add table ip mute; add chain ip mute in { type filter hook input priority 0; }; add rule ip mute in ip daddr 198.51.100.12 ip ttl 63 tcp flags & (syn | ack) == syn drop'",
	} {
		_, err := net.Exec("sh", "-ec", line)
		must(t, err)
	}
	var servers []netip.Addr
	for n := byte(11); n <= 25; n++ {
		servers = append(servers, far(n).Addr())
	}
	_, err := c.Serve("net", servers...)
	must(t, err)
	queued := func() string { // how many wait; "": nobody reads
		out, err := r2.Exec("cat", "/proc/net/netfilter/nfnetlink_queue")
		must(t, err)
		if f := strings.Fields(out); len(f) > 2 {
			return f[2]
		}
		return ""
	}
	must(t, c.Wait("r1 dead", "r2", 5*time.Second, func(s ha.Status) bool {
		return !slices.ContainsFunc(s.Nodes, func(n ha.NodeStatus) bool { return n.Name == "r1" && n.Alive })
	}))
	reloaded(t, c, measured("method: fastest-response, race: hold, weights: {cable: 255, dsl: 1}"), "r2")
	share(t, c, "by weights", 3*time.Second, "r2", func(cable, dsl float64) bool { return cable > 0.99 && dsl > 0 })
	must(t, netlab.WaitFor("the queue", 2*time.Second, func() bool { return queued() == "0" }))

	patient := func(n byte) *netlab.Client {
		t.Helper()
		client, err := c.Load("h1", netlab.Load{Drain: 10 * time.Millisecond, Fresh: []netlab.Fresh{{Server: far(n), Interval: time.Second, Count: 1, Timeout: 5 * time.Second}}})
		must(t, err)
		return client
	}
	opened := func(what string, client *netlab.Client) time.Duration {
		t.Helper()
		must(t, netlab.WaitFor(what, 6*time.Second, func() bool {
			s, err := client.Snapshot()
			return err != nil || s.FreshOK+s.FreshFailed == 1
		}))
		r, err := client.Stop()
		must(t, err)
		works(t, what, r.Fresh)
		return r.Fresh[0].Connect
	}
	// Where this machine stood still for longer than a SYN is held, the next
	// destination tells; by the weights all by dsl are 1 of 256 times.
	var won []netlab.Attempt
	tries := 0
	for n := byte(21); n <= 25; n++ {
		tries++
		won = connect(t, c, "h1", far(n), 20)
		if seen := works(t, "held", won); seen[site.WAN2] == len(won) {
			break
		}
	}
	if seen := works(t, "held", won); seen[site.WAN2] < len(won) {
		t.Errorf("each of %d should go by dsl, the first too, and they went %v", len(won), seen)
	}
	t.Logf("with a winner the first is open after %v, the last after %v (at the %d. destination)", won[0].Connect, won[19].Connect, tries)
	if d := opened("nobody won", patient(12)); d < 250*time.Millisecond {
		t.Errorf("without a winner it did not wait: open after %v", d)
	} else {
		t.Logf("without one it is open after %v", d)
	}

	must(t, c.Daemons["r2"].Signal(syscall.SIGSTOP))
	hung := opened("the first to a destination while the daemon hangs", patient(13))
	client := patient(14)
	must(t, netlab.WaitFor("one that waits", time.Second, func() bool { return queued() == "2" })) // and that of before
	must(t, c.Daemons["r2"].Kill())
	must(t, netlab.WaitFor("the end of the queue", time.Second, func() bool { return queued() == "" }))
	alone := connect(t, c, "h1", far(15), 20) // within 900 ms each, else they fail
	works(t, "without a daemon", alone)
	died := opened("the one that waited when the daemon died", client)
	t.Logf("open after %v while the daemon hangs; after %v where it dies meanwhile; after %v when it is dead", hung, died, alone[0].Connect)
}
