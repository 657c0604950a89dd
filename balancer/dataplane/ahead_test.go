package dataplane

import (
	"testing"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestAhead: the chain of a new policy is there, by a transaction of its own, before
// anything leads to it. What needs no new chain is one transaction.
func TestAhead(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	world(t)
	k, c, in := master(t)
	transactions := func() uint32 {
		t.Helper()
		before, err := k.generation()
		must(t, err)
		must(t, k.Apply(t.Context(), build(t, c, in)))
		after, err := k.generation()
		must(t, err)
		return after - before
	}
	if n := transactions(); n != 0 {
		t.Errorf("%d transactions for nothing", n)
	}
	c.Policies = []balancer.Policy{
		{Name: "mail", Uplinks: []string{"dsl"}, Match: balancer.Match{balancer.MatchDestination: networks("198.51.100.2/32")}},
		{Name: "default"},
	}
	if n := transactions(); n != 2 {
		t.Errorf("%d transactions for a new policy, want 2", n)
	}
	if n := transactions(); n != 0 {
		t.Errorf("%d transactions for what is there", n)
	}
	in.Usable = map[string]bool{"cable": true}
	in.Verdicts["dsl"] = balancer.Down
	if n := transactions(); n != 1 {
		t.Errorf("%d transactions for an uplink that died, want 1", n)
	}
}
