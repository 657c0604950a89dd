package integration

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// virtualMACs are those of the standard file's links: two links with one VRID
// would have one MAC.
var virtualMACs = map[string]net.HardwareAddr{
	"lan0": {0, 0, 0x5e, 0, 1, 51}, "wan1": {0, 0, 0x5e, 0, 1, 52}, "wan2": {0, 0, 0x5e, 0, 1, 53},
	"lan0 over IPv6": {0, 0, 0x5e, 0, 2, 51},
}

func virtualMACFile() string {
	config := site.Replace(site.Config, "virtual_addresses: [192.168.77.1/24]", "virtual_addresses: [192.168.77.1/24, 2001:db8:77::1/64], virtual_mac: true")
	config = site.Replace(config, "name: cable\n", "name: cable\n    vrid: 52\n    virtual_mac: true\n")
	return site.Replace(config, "name: dsl\n", "name: dsl\n    vrid: 53\n    virtual_mac: true\n")
}

// neighbour is the MAC under which a node knows an address.
func neighbour(t *testing.T, c *site.Cluster, node string, a netip.Addr) string {
	t.Helper()
	out, err := c.Node(node).Exec("ip", "neigh", "show", a.String())
	must(t, err)
	_, mac, _ := strings.Cut(out, "lladdr ")
	mac, _, _ = strings.Cut(mac, " ")
	return mac
}

// TestVirtualMAC: hosts and ISPs know one MAC whoever is master, switches see it
// come from one node at a time, and routers without addresses of their own
// towards the ISPs work.
func TestVirtualMAC(t *testing.T) {
	t.Parallel()
	spec := netlab.Pair(netlab.PairOptions{})
	spec.ISPs[0].IgnoreGratuitous = true
	c := installedOn(t, spec, virtualMACFile())
	frames := map[string]map[string]*netlab.Capture{"r1": {}, "r2": {}}
	for router := range frames {
		for device, mac := range virtualMACs {
			var err error
			port, _, _ := strings.Cut(device, " ")
			frames[router][device], err = c.Port(router, port).Capture(func(p netlab.Packet) bool {
				return p.Out && len(p.Frame) > 14 && bytes.Equal(p.Frame[6:12], mac)
			})
			must(t, err)
		}
	}
	_, err := c.Node("h1").Exec("ip", "addr", "add", "2001:db8:77::100/64", "dev", "eth0", "nodad")
	must(t, err)
	must(t, c.Up("r1", "r2"))
	load := manyFlows()
	load.Ping = append(load.Ping, netlab.Ping{Target: lan6, Interval: 5 * time.Millisecond})
	client, err := c.Load("h1", load)
	must(t, err)
	inSync(t, c, "r1", "r2")
	_, err = c.Node("h1").Exec("bash", "-c", "echo > /dev/udp/192.168.77.2/9") // only to know its MAC
	must(t, err)

	settled := netlab.Now() // at the very start both may have been master for a moment
	time.Sleep(5 * advertise)
	known := func(when string) {
		t.Helper()
		for _, n := range []struct {
			node, device string
			a            netip.Addr
		}{{"h1", "lan0", site.LANAddress}, {"h1", "lan0 over IPv6", lan6}, {"isp1", "wan1", site.WAN1}, {"isp2", "wan2", site.WAN2}} {
			if mac := neighbour(t, c, n.node, n.a); mac != virtualMACs[n.device].String() {
				t.Errorf("%s: %s knows %v as %q, want %v", when, n.node, n.a, mac, virtualMACs[n.device])
			}
		}
	}
	known("at first")
	if mac := neighbour(t, c, "h1", netip.MustParseAddr("192.168.77.2")); mac == "" || mac == virtualMACs["lan0"].String() {
		t.Errorf("h1 knows r1's own address as %q", mac)
	}
	for device := range virtualMACs {
		for _, p := range frames["r2"][device].Packets() {
			if p.At > settled {
				t.Errorf("the backup sent a frame with the virtual MAC on %s: %x", device, p.Frame)
			}
		}
		adverts := frames["r1"][device].Adverts()
		if len(adverts) < 4 {
			t.Errorf("r1 sent %d adverts with the virtual MAC on %s, want 5 or more", len(adverts), device)
		}
		for _, a := range adverts {
			if a.VRID != virtualMACs[device][5] || a.TTL != 255 {
				t.Errorf("an advert on %s: %+v", device, a)
			}
		}
	}

	for _, r := range []string{"r1", "r2"} { // adverts on uplinks have senders that all know
		s, err := c.Status(r)
		must(t, err)
		if len(s.Alarms) > 0 || s.Drops.VRRP["sender"] > 10 {
			t.Errorf("%s: alarms %+v, drops %v", r, s.Alarms, s.Drops.VRRP)
		}
	}

	// turned checks that the old node was silent before the new one's first
	// frame, on each link.
	turned := func(from, to string, at netlab.Instant) {
		t.Helper()
		for device := range virtualMACs {
			var last, first netlab.Instant
			for _, p := range frames[from][device].Packets() {
				last = p.At
			}
			for _, p := range frames[to][device].Packets() {
				if p.At > at && (first == 0 || p.At < first) {
					first = p.At
				}
			}
			switch {
			case first == 0:
				t.Errorf("%s to %s: no frame of the successor on %s", from, to, device)
			case last >= first:
				t.Errorf("%s to %s: the old node sent %v after the successor's first frame on %s", from, to, last.Sub(first), device)
			default:
				t.Logf("%s to %s: %s was without its MAC for %v", from, to, device, first.Sub(last))
			}
		}
	}
	w := c.Watch()
	at := c.Mark("failover")
	_, err = c.Command("r1", "failover")
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	must(t, c.Settled("r1", "r2", 5*time.Second))
	time.Sleep(300 * time.Millisecond)
	turned("r1", "r2", at)
	for _, a := range []netip.Addr{site.LANAddress, site.WAN1, site.WAN2, lan6, link6} {
		if o := w.Overlap(a, at); o > time.Millisecond { // two threads' time stamps
			t.Errorf("%v had two holders for %v", a, o)
		}
		atMost(t, fmt.Sprintf("nobody held %v", a), w.Vacant(a, at), 20*time.Millisecond+noise, "5 ms")
	}
	known("after the hand-over")
	out, err := c.Router("r1").Exec("sh", "-c", "ip -br link show type macvlan")
	must(t, err)
	if strings.Count(out, "hrv-") != 3 || strings.Contains(out, ",UP") {
		t.Errorf("the backup's devices:\n%s", out)
	}

	c.Mark("handed over")
	time.Sleep(100 * time.Millisecond)

	// Row 15.
	for _, damage := range []string{"link del hrv-office", "link set hrv-cable down"} {
		at = c.Mark(damage)
		must(t, c.Router("r2").IP(damage))
		must(t, netlab.WaitFor("it is mended: "+damage, 2*time.Second, func() bool {
			out, err := c.Router("r2").Exec("sh", "-c", "ip -br link show type macvlan; ip route show table all dev hrv-cable")
			return err == nil && strings.Count(out, ",UP") == 4 && strings.Contains(out, "default via 203.0.113.1")
		}))
		atMost(t, "mended: "+damage, netlab.Now().Sub(at), 2*time.Second, "500 ms")
	}

	// Row 2: the guard.
	inSync(t, c, "r2", "r1")
	at = c.Mark("killed")
	must(t, c.Daemons["r2"].Kill())
	must(t, c.WaitHolder(site.LANAddress, "r1", 3*time.Second))
	time.Sleep(300 * time.Millisecond)
	turned("r2", "r1", at)
	for _, a := range []netip.Addr{site.LANAddress, site.WAN1, site.WAN2, lan6, link6} {
		if o := w.Overlap(a, at); o > time.Millisecond {
			t.Errorf("killed: %v had two holders for %v", a, o)
		}
	}
	known("after the daemon's death")
	c.Mark("fenced")
	must(t, c.Run("r2"))
	must(t, c.Settled("r2", "r1", 5*time.Second))

	inSync(t, c, "r1", "r2")
	at = c.Mark("crash")
	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	time.Sleep(500 * time.Millisecond)
	turned("r1", "r2", at)
	known("after the crash")
	must(t, client.Poke(5*time.Second))
	r := report(t, client)
	survived(t, c, r, "failover")
	quietly(t, "hand-over: silence of flows", r, r.GapBetween("failover", "handed over"), 20*time.Millisecond+noise, "20 ms")
	quietly(t, "killed: silence of flows", r, r.GapBetween("killed", "fenced"), 50*time.Millisecond+skew+noise, "50 ms")
	quietly(t, "crash: silence of flows", r, r.GapSince("crash"), 3*advertise+skew+20*time.Millisecond+noise, "under 361 ms")

	// A reload takes them away and makes them, of which flows feel little.
	must(t, c.Wait("r1 is shown dead", "r2", 3*time.Second, func(s ha.Status) bool { return !s.Nodes[0].Alive }))
	client, err = c.Load("h1", light())
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	for _, on := range []bool{false, true} {
		mark, config, device := "off", site.Replace(virtualMACFile(), "], virtual_mac: true", "]"), "lan0"
		if on {
			mark, config, device = "on", virtualMACFile(), "hrv-office"
		}
		must(t, os.WriteFile(c.ConfigFile("r2"), []byte(config), 0o644))
		c.Mark(mark)
		_, err = c.Command("r2", "reload")
		must(t, err)
		must(t, netlab.WaitFor("the address on "+device, 2*time.Second, func() bool {
			have, err := c.Router("r2").Addresses()
			_, made := have["hrv-office"]
			return err == nil && slices.Contains(have[device], netip.MustParsePrefix("192.168.77.1/24")) && made == on
		}))
		time.Sleep(300 * time.Millisecond)
	}
	r = report(t, client)
	quietly(t, "reload: silence of flows", r, r.GapSince("off"), 20*time.Millisecond+noise, "12 ms")
	known("after the reloads")

	// Without a daemon the guard listens, also to what comes with the MAC that is
	// here: the kernel shows it to that device alone, and there is no cable.
	must(t, c.Port("r2", "sync0").Unplug())
	must(t, c.Daemons["r2"].Kill())
	must(t, c.PowerOn("r1"))
	at = netlab.Now()
	must(t, c.Run("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r1", 5*time.Second))
	atMost(t, "two holders, one of them a guard", w.Overlap(site.LANAddress, at), 50*time.Millisecond+noise/3, "1 ms")
	must(t, netlab.WaitFor("the devices of r2 are off", time.Second, func() bool {
		out, err := c.Router("r2").Exec("ip", "-br", "link", "show", "type", "macvlan")
		return err == nil && strings.Count(out, "hrv-") == 3 && !strings.Contains(out, ",UP")
	}))
	_, err = c.Command("r1", "stop", "--clean")
	must(t, err)
	must(t, netlab.WaitFor("all is removed", 3*time.Second, func() bool {
		out, err := c.Router("r1").Exec("ip", "-br", "link", "show", "type", "macvlan")
		return err == nil && !strings.Contains(out, "hrv-")
	}))
	noLeaks(t, c)
}
