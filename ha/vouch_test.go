package ha

import (
	"testing"
	"time"

	"harouter/balancer"
)

// TestVouched: a backup sees a line that the master fills as dead. It keeps the
// line when it takes over, and its flows, until its own rounds fail as master.
func TestVouched(t *testing.T) {
	const takeover = 500 * time.Millisecond // and one of fall × every is 600 ms
	for _, c := range []struct {
		name  string
		at    func(s *sim) // the end of r1's mastership
		then  func(n *simNode)
		early bool // the flows end within a moment
		late  bool // and at all
	}{
		{name: "it was full", then: func(n *simNode) { n.blind["cable"] = false }},
		{name: "it is full", then: func(n *simNode) { n.full["cable"] = true }},
		{name: "it is dead", then: func(*simNode) {}, late: true},
		{name: "handed over", at: func(s *sim) { s.command("r1", VerbFailover, "") }, then: func(n *simNode) { n.blind["cable"] = false }},
		{name: "its carrier goes", then: func(n *simNode) { n.carrier("wan1", false) }, early: true, late: true},
		{name: "without carrier", at: func(s *sim) { s.nodes["r2"].carrier("wan1", false); s.power("r1") }, then: func(*simNode) {}, early: true, late: true},
		{name: "dead by the last word too", at: func(s *sim) { s.kill("cable", true); s.run(time.Second); s.power("r1") }, then: func(*simNode) {}, early: true, late: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			n := s.nodes["r2"]
			n.blind["cable"] = true
			s.run(2 * time.Second)
			s.ended("r2")
			if v := n.m.health["cable"].Verdict(); v != balancer.Down {
				t.Fatalf("the backup sees the line %v", v)
			}
			if c.at == nil {
				s.power("r1")
			} else {
				c.at(s)
			}
			s.run(takeover)
			s.master("r2")
			c.then(n)
			s.run(20 * time.Millisecond)
			if got := len(n.deleted) > 0; got != c.early || n.m.pool["cable"] == c.early {
				t.Errorf("at the takeover: flows ended %v, in the pool %v", got, n.m.pool["cable"])
			}
			s.run(3 * time.Second)
			if got := len(n.deleted) > 0; got != c.late || n.m.pool["cable"] == c.late {
				t.Errorf("three seconds later: flows ended %v, in the pool %v", got, n.m.pool["cable"])
			}
		})
	}
}
