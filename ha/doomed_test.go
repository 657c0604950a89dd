package ha

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

// ended compares the uplinks whose flows a node ended, each once.
func (s *sim) ended(node string, want ...string) {
	s.t.Helper()
	var got []string
	for _, u := range s.nodes[node].deleted {
		if len(got) == 0 || got[len(got)-1] != u {
			got = append(got, u)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s ended the flows of (-want +got):\n%s", node, diff)
	}
}

// TestWhoseVerdictEndsFlows: the master's. A backup that has the master's flows
// keeps them through its own bad view, or they would be lost at a takeover by a
// node that is well again.
func TestWhoseVerdictEndsFlows(t *testing.T) {
	// Of r1 only its adverts come to r2, whose cable dies.
	advertsOnly := func(t *testing.T, sync bool) *sim {
		s := inSync(t, "", "r1", "r2")
		n := s.nodes["r2"]
		n.flows.apart = sync
		n.lost["r1"] = true
		s.run(10 * time.Millisecond) // what is on its way
		n.handle(PeerLost{Node: "r1"})
		n.blind["cable"] = true
		s.run(6 * time.Second)
		s.master("r1")
		return s
	}
	t.Run("backup in sync", func(t *testing.T) {
		s := advertsOnly(t, true)
		s.ended("r2")
		s.power("r1")
		s.run(time.Second)
		s.master("r2")
		s.ended("r2", "cable") // now its own verdict counts
	})
	t.Run("backup in sync, well again", func(t *testing.T) {
		s := advertsOnly(t, true)
		s.nodes["r2"].blind["cable"] = false
		s.run(2 * time.Second)
		s.power("r1")
		s.run(2 * time.Second)
		s.master("r2")
		s.ended("r2")
	})
	t.Run("backup out of sync", func(t *testing.T) {
		advertsOnly(t, false).ended("r2", "cable")
	})
	t.Run("by the master's word", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.kill("cable", true)
		s.run(3 * time.Second)
		s.ended("r1", "cable")
		s.ended("r2", "cable")
	})
	t.Run("restarted backup", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.nodes["r2"].blind["cable"] = true
		s.power("r2")
		s.run(3 * time.Second)
		s.boot("r2")
		s.run(5 * time.Second)
		s.master("r1")
		s.ended("r1")
		s.ended("r2")
	})
}

// TestAllLinesDieTogether: a node that was cut off from everything has not seen
// one ISP die. Its uplinks do so within a moment of each other, and it ends no
// flows, which the others go on with.
func TestAllLinesDieTogether(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	s.partition("r1", "r2", true)
	s.nodes["r2"].blind["cable"] = true
	s.run(100 * time.Millisecond)
	s.nodes["r2"].blind["dsl"] = true
	s.run(3 * time.Second)
	s.master("r1+r2")
	s.ended("r2")
	s.partition("r1", "r2", false)
	clear(s.nodes["r2"].blind)
	s.run(5 * time.Second)
	s.master("r1")
	s.ended("r1")
	s.ended("r2")

	s.kill("cable", true) // and one that dies alone ends them at once
	s.run(3 * time.Second)
	s.ended("r1", "cable")
}

// TestSecondLineIsBackFirst: all died, one returns; the flows of the other end.
func TestSecondLineIsBackFirst(t *testing.T) {
	s := inSync(t, "", "r1")
	s.kill("cable", true)
	s.kill("dsl", true)
	s.run(3 * time.Second)
	s.ended("r1")
	s.kill("dsl", false)
	s.run(2 * time.Second)
	s.ended("r1", "cable")
}

// TestFlowsMoveBack: where a policy wants its flows back, the master ends those
// that are elsewhere once the uplink has returned and new flows go there; where
// none does, nobody looks.
func TestFlowsMoveBack(t *testing.T) {
	for recovery, want := range map[string]int{"keep": 0, "move": 1} {
		t.Run(recovery, func(t *testing.T) {
			s := newSim(t, "r1", "r2")
			for _, n := range s.nodes {
				n.disk += " back=" + recovery
			}
			s.boot("r1", "r2")
			s.run(3 * time.Second)
			s.master("r1")
			s.nodes["r1"].moved, s.nodes["r2"].moved = 0, 0 // at the start all uplinks are new
			s.kill("cable", true)
			s.run(3 * time.Second)
			if n := s.nodes["r1"].moved + s.nodes["r2"].moved; n != 0 {
				t.Errorf("flows were moved %d times at a death", n)
			}
			s.kill("cable", false)
			s.run(10 * time.Second)
			if got := s.nodes["r1"].moved; got != want || s.nodes["r2"].moved != 0 {
				t.Errorf("the master moved flows %d times, the backup %d; want %d and 0", got, s.nodes["r2"].moved, want)
			}
		})
	}
}

// TestFlowsMoveBackFromDegraded: an uplink that was bad and is well again has
// returned, too.
func TestFlowsMoveBackFromDegraded(t *testing.T) {
	s := newSim(t, "r1", "r2")
	for _, n := range s.nodes {
		n.disk += " back=move latency=100ms"
	}
	s.boot("r1", "r2")
	s.run(3 * time.Second)
	s.master("r1")
	s.nodes["r1"].moved = 0
	for _, slow := range []bool{true, false} {
		s.slow["cable"] = slow
		s.run(time.Minute)
		want, moved := balancer.Up, 1
		if slow {
			want, moved = balancer.Degraded, 0
		}
		if v, n := s.nodes["r1"].m.verdicts["cable"], s.nodes["r1"].moved; v != want || n != moved {
			t.Errorf("cable is %v and flows were moved %d times, want %v and %d", v, n, want, moved)
		}
	}
	if n := s.nodes["r2"].moved; n != 0 {
		t.Errorf("the backup moved flows %d times", n)
	}
}
