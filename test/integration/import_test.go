package integration

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"harouter/test/netlab"
	"harouter/test/site"
)

// TestImported: the file that import makes of a balance.conf, on the router itself
// and as it stands, routes real packets; failover mode is what it was there.
func TestImported(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{Routers: 1, WANOwn: true, NoLANOwn: true}, site.Config)
	router := c.Router("r1")
	for _, line := range []string{
		"ip addr add 192.168.77.1/24 dev lan0", // the only address of such a router
		"ip route add default nexthop via 203.0.113.1 dev wan1 weight 2 nexthop via 203.0.113.129 dev wan2 weight 1",
	} {
		_, err := router.Exec(strings.Fields(line)...)
		must(t, err)
	}
	conf := filepath.Join(t.TempDir(), "balance.conf")
	imported := func(more string) []byte {
		t.Helper()
		must(t, os.WriteFile(conf, []byte("CABLE wan1 isp 198.51.100.1 2\nDSL wan2 isp 198.51.100.2 1 203.0.113.129\nLAN lan0 lan\n"+
			"interval_ms=200\ntimeout_ms=200\nmax_successive_pkts_lost=3\nmin_successive_pkts_rcvd=2\n"+more), 0o644))
		text, err := router.Exec(c.Binary, "import", conf, "--node", "r1")
		must(t, err)
		return []byte(text)
	}
	without := func(uplink string) {
		t.Helper()
		must(t, netlab.WaitFor("no slot of "+uplink, 3*time.Second, func() bool {
			out, err := router.Exec("nft", "list", "map", "inet", "harouter", "slots_default")
			return err == nil && !strings.Contains(out, "up_"+uplink)
		}))
	}
	must(t, os.WriteFile(c.ConfigFile("r1"), imported(""), 0o644))
	must(t, c.Run("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	must(t, c.Settled("r1", "r1", 10*time.Second))
	cable, dsl := netip.MustParseAddr("203.0.113.2"), netip.MustParseAddr("203.0.113.130")
	seen := works(t, "balanced", connect(t, c, "h1", echo(site.Server), 300))
	only(t, "balanced", seen, cable, dsl)
	if seen[dsl] < 60 || seen[dsl] > 140 { // a third is 100; five deviations
		t.Errorf("of 300 connections %d by dsl, want a third", seen[dsl])
	}

	must(t, os.WriteFile(c.ConfigFile("r1"), imported("mode=failover\n"), 0o644))
	_, err := c.Command("r1", "reload")
	must(t, err)
	without("dsl")
	only(t, "failover", works(t, "failover", connect(t, c, "h1", echo(site.Server), 60)), cable)
	must(t, c.Port("r1", "wan1").Unplug())
	without("cable")
	only(t, "cable is out", works(t, "cable is out", connect(t, c, "h1", echo(site.Server), 60)), dsl)
	noLeaks(t, c)
}
