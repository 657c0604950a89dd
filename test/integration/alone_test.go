package integration

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// TestAloneNoMore: a cluster of one node listens to no connections. Those that
// began then are told to a node that comes by reload, and once more, where a pair
// became one node again, to a node that joins: they outlive both who knew them.
func TestAloneNoMore(t *testing.T) {
	t.Parallel()
	c := installed(t, netlab.PairOptions{Routers: 3}, site.Config)
	write := func(router, text string) {
		t.Helper()
		must(t, os.WriteFile(c.ConfigFile(router), []byte(text), 0o644))
	}
	without := func(router string) string {
		var lines []string
		for line := range strings.Lines(site.Config) {
			if !strings.HasPrefix(line, "  "+router+": ") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	begin := func() *netlab.Client {
		t.Helper()
		client, err := c.Load("h1", netlab.Load{
			UDP: []netlab.UDPFlows{{Server: netip.AddrPortFrom(site.Server, netlab.EchoPort), Flows: 8, Interval: 20 * time.Millisecond}},
			TCP: []netlab.TCPFlows{{Server: netip.AddrPortFrom(site.Server2, netlab.EchoPort), Flows: 8, Interval: 50 * time.Millisecond}},
		})
		must(t, err)
		time.Sleep(300 * time.Millisecond) // established, in a table that nobody listens to
		return client
	}
	told := func(from, to string, flows uint64) {
		t.Helper()
		must(t, c.Wait("the connections are told to "+to, from, 8*time.Second, func(s ha.Status) bool {
			for _, p := range s.ConntrackSync.Peers {
				if p.Name == to {
					return p.State == ha.SyncSynced && p.FlowsThere != nil && *p.FlowsThere >= flows
				}
			}
			return false
		}))
	}
	command := func(router string, args ...string) string {
		t.Helper()
		out, err := c.Command(router, args...)
		must(t, err)
		return out
	}
	dies := func(router, heir string) {
		t.Helper()
		must(t, c.PowerOff(router))
		must(t, c.WaitHolder(site.LANAddress, heir, 3*time.Second))
	}

	write("r1", without("r2"))
	must(t, c.Up("r1"))
	one := begin()
	c.Mark("told")
	write("r1", site.Config)
	command("r1", "reload")
	must(t, c.Run("r2"))
	told("r1", "r2", 16)
	dies("r1", "r2")

	must(t, c.Wait("r1 is shown dead", "r2", 8*time.Second, func(s ha.Status) bool {
		return !s.Nodes[0].Alive && s.Nodes[0].Role == ha.RoleUnknown
	}))
	write("r2", without("r1"))
	command("r2", "reload")
	two := begin()
	must(t, os.RemoveAll(c.Router("r3").ConfigDir()))
	command("r3", append(strings.Fields(command("r2", "token"))[1:], "--address", "192.0.2.3")...)
	must(t, c.Run("r3"))
	told("r2", "r3", 32)
	dies("r2", "r3")
	time.Sleep(300 * time.Millisecond) // packets of each connection

	for _, client := range []*netlab.Client{one, two} {
		r := report(t, client)
		if n := r.Survivors(); n != len(r.TCP) {
			t.Errorf("%d of %d connections survived", n, len(r.TCP))
		}
		for _, f := range r.Renatted("told") {
			t.Errorf("flow %s got another source", f.Name)
		}
	}
}
