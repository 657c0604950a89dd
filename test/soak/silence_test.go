package soak

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

func TestMain(m *testing.M) {
	netlab.Main()
	os.Exit(m.Run())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// silence is longer than the minute of issue 4, and shorter than the 120 s after
// which the kernel forgets a flow of UDP that went on for 2 s.
const silence = 75 * time.Second

// TestSilentConnections: TCP connections without a packet, and flows of UDP with
// one every 75 s, go on after a crash, and after a planned move and the return of
// the better node, with more than a minute of silence before and after each.
func TestSilentConnections(t *testing.T) {
	s := netlab.ForTest(t, netlab.Pair(netlab.PairOptions{WANOwn: true}))
	_, err := s.Serve("net")
	must(t, err)
	c, err := site.Install(s, site.Config)
	must(t, err)
	for _, r := range []string{"r1", "r2"} {
		// These flows never go on for 2 s at a time.
		must(t, c.Router(r).Sysctl("net.netfilter.nf_conntrack_udp_timeout", "120"))
	}
	must(t, c.Up("r1", "r2"))
	echo := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, netlab.EchoPort) }
	client, err := c.Load("h1", netlab.Load{
		UDP: []netlab.UDPFlows{{Server: echo(site.Server), Flows: 32, Interval: silence}},
		TCP: []netlab.TCPFlows{{Server: echo(site.Server2), Flows: 32}},
	})
	must(t, err)
	inSync := func() {
		t.Helper()
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Wait("flows are in sync", r, 10*time.Second, func(s ha.Status) bool {
				return s.ConntrackSync.Peers[0].State == ha.SyncSynced
			}))
		}
	}
	// wait is until a moment, in seconds after the flows began: they speak every 75.
	began := netlab.Now()
	wait := func(seconds int) { time.Sleep(began.Add(time.Duration(seconds) * time.Second).Sub(netlab.Now())) }
	poke := func(when string) {
		t.Helper()
		if err := client.Poke(10 * time.Second); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}

	wait(70) // the flows of UDP have said one word, 70 s ago
	inSync()
	c.Mark("failover")
	_, err = c.Command("r1", "failover")
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	_, err = c.Command("r2", "failover", "--auto") // and back, by itself
	must(t, err)
	must(t, c.WaitHolder(site.LANAddress, "r1", 15*time.Second))
	wait(140)
	poke("70 s after the moves")
	wait(220) // r2 holds entries that are 80 s old, and 220 s since they were told
	inSync()
	c.Mark("crash")
	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	wait(290)
	poke("70 s after the crash")
	time.Sleep(15 * time.Second) // 300: the flows of UDP speak
	r, err := client.Stop()
	must(t, err)
	t.Log("\n" + r.String())
	if n := r.Survivors(); n != len(r.TCP) {
		t.Errorf("%d of %d TCP connections lived to the end", n, len(r.TCP))
	}
	for _, mark := range []string{"failover", "crash"} {
		if f := r.Renatted(mark); len(f) > 0 {
			t.Errorf("%s: %d UDP flows got another source: %v", mark, len(f), f[0].Seen)
		}
	}
	if n := r.LostSince("failover"); n > 0 {
		t.Errorf("%d UDP packets were lost", n)
	}
	for _, isp := range []string{"isp1", "isp2"} {
		leak, err := c.Leaks(isp)
		must(t, err)
		if leak.Packets > 0 {
			t.Errorf("%s got %d packets that are not of its network: %v", isp, leak.Packets, leak.Pairs)
		}
	}
}
