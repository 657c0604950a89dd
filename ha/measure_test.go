package ha

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

// loaded has a node see this load for a while, Mbit/s from the ISPs.
func (s *sim) loaded(name string, d time.Duration, cable, dsl float64) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.run(500 * time.Millisecond)
		s.nodes[name].handle(Loads{Uplinks: map[string]balancer.Load{"cable": {Down: cable * 1e6}, "dsl": {Down: dsl * 1e6}}})
	}
	s.run(10 * time.Millisecond)
}

// split wants these shares of the default policy on nodes that route alike.
func (s *sim) split(what string, want map[string]float64, nodes ...string) {
	s.t.Helper()
	for _, name := range nodes {
		n := s.nodes[name]
		if d := cmp.Diff(want, n.lastPlan.Shares["default"]); d != "" {
			s.t.Errorf("%s, %s (-want +got):\n%s", what, name, d)
		}
		if hash := s.nodes[nodes[0]].m.planHash; n.m.planHash != hash {
			s.t.Errorf("%s: %s routes otherwise than %s", what, name, nodes[0])
		}
	}
}

// measuring is a pair whose default policy has this method.
func measuring(t *testing.T, method string) *sim {
	t.Helper()
	s := newSim(t, "r1", "r2")
	for _, n := range s.all() {
		n.disk += " method=" + method
	}
	s.boot("r1", "r2")
	s.run(3 * time.Second)
	s.master("r1")
	return s
}

func TestBackupFollowsTheMeasure(t *testing.T) {
	cable, dsl := map[string]float64{"cable": 1, "dsl": 0}, map[string]float64{"cable": 0, "dsl": 1}
	s := measuring(t, "overflow")
	s.split("at rest", cable, "r1", "r2")
	s.loaded("r1", 2*time.Second, 9.8, 0)
	s.split("full", dsl, "r1", "r2")
	s.loaded("r2", 2*time.Second, 0, 0) // what a backup sees is nobody's measure
	s.split("a backup sees no load", dsl, "r1", "r2")

	hash := s.nodes["r2"].m.planHash
	s.power("r1")
	s.run(time.Second)
	s.master("r2")
	if now := s.nodes["r2"].m.planHash; now != hash {
		t.Error("the takeover changed the plan hash")
	}
	s.loaded("r2", 3*time.Second, 8, 0)
	s.split("between the limits", dsl, "r2")
	s.boot("r1") // knows nothing, and is master again
	s.run(5 * time.Second)
	s.master("r1")
	s.split("after failback", dsl, "r1", "r2")
	s.loaded("r1", 9*time.Second, 0, 0)
	s.split("idle again", cable, "r1", "r2")
}

// TestRestartedMasterGoesOn: a daemon that comes back as master within moments
// goes on from the shares that its peer still has.
func TestRestartedMasterGoesOn(t *testing.T) {
	s := measuring(t, "overflow")
	s.loaded("r1", 2*time.Second, 9.8, 0)
	r1 := s.nodes["r1"]
	r1.running = false
	s.run(20 * time.Millisecond)
	s.boot("r1")
	s.run(3 * time.Second)
	s.split("after the restart", map[string]float64{"cable": 0, "dsl": 1}, "r1", "r2")
}

func TestMeasureAtAReload(t *testing.T) {
	s := measuring(t, "least-used")
	s.split("at rest", map[string]float64{"cable": 0.5, "dsl": 0.5}, "r1", "r2")
	s.loaded("r1", 30*time.Second, 9.9, 0)
	if share := s.nodes["r2"].lastPlan.Shares["default"]["cable"]; share > 0.2 {
		t.Errorf("cable is full and has a share of %v", share)
	}
	s.write("cable=2 nodes=r1,r2", "r1", "r2")
	s.reload("r1", "")
	s.run(time.Second)
	s.split("weighted", map[string]float64{"cable": 171. / 256, "dsl": 85. / 256}, "r1", "r2")
	s.write("cable=2 nodes=r1,r2 method=lowest-latency", "r1", "r2")
	s.reload("r1", "")
	s.run(time.Second)
	s.split("lowest latency", map[string]float64{"cable": 1, "dsl": 0}, "r1", "r2")
	s.kill("cable", true)
	s.run(time.Second)
	s.split("cable is dead", map[string]float64{"cable": 0, "dsl": 1}, "r1", "r2")
}
