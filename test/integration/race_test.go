package integration

import (
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
