package integration

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// bulkMemory is what a flow may cost a daemon, in bytes of resident memory.
const bulkMemory = 1000

// TestManyFlows: a backup comes up beside a master with 100,000 connections and
// gets them all; then 20,000 new ones a second; then the master loses power.
func TestManyFlows(t *testing.T) {
	const many, rate, more = 100000, 20000, 60000
	c := installed(t, netlab.PairOptions{WANOwn: true}, site.Config)
	must(t, c.Up("r1"))
	_, empty, err := netlab.Usage(c.Daemons["r1"].PID)
	must(t, err)
	at := func(a netip.Addr) netip.AddrPort { return netip.AddrPortFrom(a, netlab.EchoPort) }
	client, err := c.Load("h1", netlab.Load{
		UDP:  []netlab.UDPFlows{{Server: at(site.Server), Flows: 8, Interval: 10 * time.Millisecond}},
		TCP:  []netlab.TCPFlows{{Server: at(site.Server2), Flows: 16, Interval: 50 * time.Millisecond}},
		Ping: []netlab.Ping{{Target: site.LANAddress, Interval: 5 * time.Millisecond}},
	})
	must(t, err)
	open := func(first, n, rate int) {
		t.Helper()
		done, err := c.Flood(netlab.Flood{From: "h1", To: "net", Target: site.Server, First: first, Flows: n, Rate: rate})
		must(t, err)
		t.Logf("opened %d connections in %v (%.0f/s), %d again", done.Answered, done.Took.Round(time.Millisecond), float64(n)/done.Took.Seconds(), done.Again)
		if done.Answered != n {
			t.Fatalf("only %d of %d connections were opened", done.Answered, n)
		}
	}
	memory := func(router string, flows int) {
		t.Helper()
		_, resident, err := netlab.Usage(c.Daemons[router].PID)
		must(t, err)
		each := float64(resident-empty) / float64(flows)
		t.Logf("%s: %.0f bytes of memory a flow (%.1f MB), at most %d, ideal 400", router, each, float64(resident)/1e6, bulkMemory)
		if each > bulkMemory {
			t.Errorf("%s: %.0f bytes of memory a flow, at most %d", router, each, bulkMemory)
		}
	}
	// agree waits until both say that they are in sync, with so many flows.
	agree := func(flows uint64, within time.Duration) {
		t.Helper()
		for _, r := range []string{"r1", "r2"} {
			must(t, c.Wait("flows are in sync", r, within, func(s ha.Status) bool {
				p := s.ConntrackSync.Peers[0]
				return p.State == ha.SyncSynced && p.FlowsHere != nil && *p.FlowsHere >= flows && *p.FlowsHere == *p.FlowsThere
			}))
		}
	}

	open(0, many, 0)
	memory("r1", many)
	began := netlab.Now()
	must(t, c.Run("r2"))
	agree(many, 20*time.Second)
	atMost(t, "a fresh backup is in sync", netlab.Now().Sub(began), 10*time.Second, "2 s")
	memory("r2", many)

	open(many, more, rate)
	last := netlab.Now()
	agree(many+more, 10*time.Second)
	atMost(t, "in sync after 20,000 new connections a second", netlab.Now().Sub(last), 5*time.Second, "0.1 s")
	want := bulkFlows(t, c, "r1")
	same(t, "in sync", want, bulkFlows(t, c, "r2"), many+more)
	memory("r1", many+more)
	memory("r2", many+more)
	for _, r := range []string{"r1", "r2"} {
		s, err := c.Status(r)
		must(t, err)
		p := s.ConntrackSync.Peers[0]
		t.Logf("%s: %d resyncs, dropped %v", r, p.Resyncs, p.Dropped)
	}

	must(t, c.Settled("r2", "r1", 10*time.Second))
	c.Mark("crash")
	must(t, c.PowerOff("r1"))
	must(t, c.WaitHolder(site.LANAddress, "r2", 3*time.Second))
	time.Sleep(time.Second)
	same(t, "after the takeover", want, bulkFlows(t, c, "r2"), many+more)
	r := report(t, client)
	if got := r.Survivors(); got != len(r.TCP) {
		t.Errorf("%d of %d TCP connections lived to the end", got, len(r.TCP))
	}
	if f := r.Renatted("crash"); len(f) > 0 {
		t.Errorf("%d UDP flows got another source: %v", len(f), f[0].Seen)
	}
	quietly(t, "silence of the UDP flows", r, r.GapSince("crash"), 3*advertise+skew+20*time.Millisecond+noise, "under 361 ms")
	must(t, c.Router("r2").FlushConnections())
	must(t, c.Wait("what ended is forgotten", "r2", 10*time.Second, func(s ha.Status) bool {
		p := s.ConntrackSync.Peers[0]
		return p.FlowsHere != nil && *p.FlowsHere < 100
	}))
	took := regexp.MustCompile(`flows are this node's" part=conntracksync flows=(\d+) .*took=(\S+)`).FindAllStringSubmatch(c.Log("r2"), -1)
	if len(took) == 0 {
		t.Fatal("r2 does not say that it took the flows")
	}
	final := took[len(took)-1]
	taken, err := time.ParseDuration(final[2])
	must(t, err)
	if n, _ := strconv.Atoi(final[1]); n < many+more {
		t.Errorf("r2 took %s flows of %d", final[1], many+more)
	}
	atMost(t, fmt.Sprint("to take ", final[1], " flows"), taken, 300*time.Millisecond+r.StallSince("crash"), "30 ms")
}

// bulkFlows are a router's flows, by the client's port and the server's, with
// how they are translated and marked.
func bulkFlows(t *testing.T, c *site.Cluster, router string) map[[2]uint16]netlab.Connection {
	t.Helper()
	all, err := c.Router(router).FloodFlows()
	must(t, err)
	found := make(map[[2]uint16]netlab.Connection, len(all))
	for _, f := range all {
		f.Timeout = 0
		found[[2]uint16{f.Src.Port(), f.Dst.Port()}] = f
	}
	return found
}

// same checks that a router has flows as another has them.
func same(t *testing.T, when string, want, got map[[2]uint16]netlab.Connection, n int) {
	t.Helper()
	missing, other := 0, 0
	for k, f := range want {
		if g, ok := got[k]; !ok {
			missing++
		} else if f != g {
			if other++; other == 1 {
				t.Logf("%s: want %+v, got %+v", when, f, g)
			}
		}
	}
	if len(want) != n || missing+other > 0 || len(got) != n {
		t.Errorf("%s: the master has %d flows of %d, the backup %d; it lacks %d, and %d are different", when, len(want), n, len(got), missing, other)
	}
}
