package soak

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// inward is the port of both uplinks that leads to the LAN's host.
const inward = 8443

// moves are how many planned moves TestMoves makes, with other planned things in
// between.
const moves = 80

// TestMoves: the role moves as fast as it can, the backup is restarted, weights
// change, while a thousand connections a second begin, most of them from a port
// that another one had a moment ago. None ends but by its own will, and no packet
// leaves with a source that is not its ISP's.
func TestMoves(t *testing.T) {
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{WANOwn: true}))
	for _, h := range []string{"net", "h1"} {
		_, err := s.Serve(h)
		must(t, err)
		must(t, s.Node(h).Sysctl("net.ipv4.ip_local_port_range", "32768 36767"))
	}
	file := site.Config + fmt.Sprintf("firewall: {syn_limit: 9000/s, forward: [{port: %d, protocol: [tcp, udp], to: \"192.168.77.100:%d\"}]}\n", inward, netlab.EchoPort)
	c, err := site.Install(s, file)
	must(t, err)
	must(t, c.Up("r1", "r2"))
	load := func(host string, servers ...netip.AddrPort) *netlab.Client {
		t.Helper()
		var l netlab.Load
		for _, to := range servers {
			l.Fresh = append(l.Fresh, netlab.Fresh{Server: to, Interval: 4 * time.Millisecond, Timeout: 8 * time.Second})
			l.UDP = append(l.UDP, netlab.UDPFlows{Server: to, Flows: 4, Interval: 10 * time.Millisecond})
			l.TCP = append(l.TCP, netlab.TCPFlows{Server: to, Flows: 8, Interval: 50 * time.Millisecond}, netlab.TCPFlows{Server: to, Flows: 4})
		}
		client, err := c.Load(host, l)
		must(t, err)
		return client
	}
	clients := map[string]*netlab.Client{
		"out": load("h1", netip.AddrPortFrom(site.Server, netlab.EchoPort), netip.AddrPortFrom(site.Server2, netlab.EchoPort)),
		"in":  load("net", netip.AddrPortFrom(site.WAN1, inward), netip.AddrPortFrom(site.WAN2, inward)),
	}
	c.Mark("moves")
	master, backup := "r1", "r2"
	for n := range moves {
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Wait("flows are in sync", r, 30*time.Second, func(s ha.Status) bool {
				return s.ConntrackSync.Peers[0].State == ha.SyncSynced
			}))
		}
		now, err := c.Status(backup)
		must(t, err)
		if now.VRRP.Master == backup { // this machine stood still, and the guard acted
			master, backup = backup, master
		}
		must(t, c.Settled(backup, master, 30*time.Second))
		switch n % 8 {
		case 5:
			_, err := c.Daemons[backup].Stop(10 * time.Second)
			must(t, err)
			must(t, c.Run(backup))
			continue
		case 7:
			file = reweighted(file)
			for _, r := range []string{"r1", "r2"} {
				must(t, os.WriteFile(c.ConfigFile(r), []byte(file), 0o644))
			}
			must(t, insisted(c, master, "reload"))
			continue
		}
		must(t, insisted(c, master, "failover"))
		must(t, c.WaitHolder(site.LANAddress, backup, 5*time.Second))
		master, backup = backup, master
	}
	time.Sleep(time.Second)
	for name, client := range clients {
		r, err := client.Stop()
		must(t, err)
		t.Logf("%s: %d new connections, the client was late by %v", name, len(r.Fresh), r.Lag)
		for _, a := range r.Fresh {
			if !a.OK {
				t.Errorf("%s: a new connection: %s after %v", name, a.Err, a.Took)
			}
		}
		if got := r.Survivors(); got != len(r.TCP) {
			t.Errorf("%s: %d of %d connections lived to the end", name, got, len(r.TCP))
		}
		if f := r.Renatted("moves"); len(f) > 0 {
			t.Errorf("%s: %d flows got another source: %v", name, len(f), f[0].Seen)
		}
	}
	for _, isp := range []string{"isp1", "isp2"} {
		leak, err := c.Leaks(isp)
		must(t, err)
		if leak.Packets > 0 {
			t.Errorf("%s got %d packets that are not of its network: %v", isp, leak.Packets, leak.Pairs)
		}
	}
}

// insisted gives a command again while it is refused, for a few seconds: the other
// node may not know yet what was just agreed.
func insisted(c *site.Cluster, router string, args ...string) (err error) {
	_ = netlab.WaitFor(args[0], 5*time.Second, func() bool {
		_, err = c.Command(router, args...)
		return err == nil
	})
	return err
}

// reweighted is the file with the other weight of the first uplink.
func reweighted(file string) string {
	if strings.Contains(file, "weight: 2") {
		return strings.Replace(file, "weight: 2", "weight: 3", 1)
	}
	return strings.Replace(file, "weight: 3", "weight: 2", 1)
}
