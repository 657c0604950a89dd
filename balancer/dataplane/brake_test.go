package dataplane

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestBrake: a burst over an uplink sends new flows of overflow to the next one
// before anybody has measured it, running ones stay, and it is over by itself.
func TestBrake(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	client, _, server := world(t)
	k, c, in := master(t)
	overflows(&c)
	plan := build(t, c, in)
	must(t, k.Apply(t.Context(), plan))
	before := netlab.Sh(t, "nft -a list ruleset")
	must(t, k.Apply(t.Context(), plan))
	if d := cmp.Diff(before, netlab.Sh(t, "nft -a list ruleset")); d != "" {
		t.Errorf("the second time it changed:\n%s", d)
	}
	server.serve(80)
	if seen := client.seen(serverAddr+":80", 40); seen[cableAddr] != 40 {
		t.Errorf("at rest: %v", seen)
	}
	conn, from, err := client.dial(serverAddr+":80", time.Second)
	must(t, err)
	if from != cableAddr {
		t.Fatalf("the flow is on %s", from)
	}
	client.do(func() { // 1.4 MB at once
		burst, err := net.ListenPacket("udp4", clientAddr+":0")
		if err != nil {
			t.Error(err)
			return
		}
		defer burst.Close()
		for range 1000 {
			_, _ = burst.WriteTo(make([]byte, 1400), &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: 9})
		}
	})
	if seen := client.seen(serverAddr+":80", 20); seen[dslAddr] != 20 {
		t.Errorf("just after a burst: %v\n%s", seen, netlab.Sh(t, "nft list table inet harouter"))
	}
	must(t, echo(conn, 2*time.Second)) // stays
	if err := netlab.WaitFor("cable takes new flows again", 4*time.Second, func() bool {
		return client.seen(serverAddr+":80", 5)[cableAddr] == 5
	}); err != nil {
		t.Error(err)
	}
}

// TestBrakeInTheScript: it means what is applied.
func TestBrakeInTheScript(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	devices(t)
	k := open(t)
	c, in := twoUplinks()
	overflows(&c)
	plan := build(t, c, in)
	must(t, k.Apply(t.Context(), plan))
	ours := quiet(state(t))
	must(t, k.Cleanup(t.Context()))
	netlab.Sh(t, "sh -s <<'SCRIPT'\n"+plan.String()+"SCRIPT")
	if d := cmp.Diff(ours, quiet(state(t))); d != "" {
		t.Errorf("-applied +script:\n%s", d)
	}
}

// overflows has all go by overflow, over lines of 10 Mbit/s.
func overflows(c *balancer.Config) {
	c.Policies = []balancer.Policy{{Name: "default", Method: balancer.Overflow, Overflow: balancer.OverflowLimits{Enter: 0.9, Leave: 0.75}}}
	for i := range c.Uplinks {
		c.Uplinks[i].Speed = balancer.Load{Down: 10e6, Up: 10e6}
	}
}
