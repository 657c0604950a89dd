package ha

import (
	"testing"
	"time"
)

// TestDouble: another machine runs as r1 too, with the cluster's key.
func TestDouble(t *testing.T) {
	for _, c := range []struct {
		name   string
		older  bool // than this one
		master string
	}{
		{"it came first", true, "r2"},
		{"it came second", false, "r1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeafSim(t, "", "h1")
			m := s.nodes["r1"].m
			greet := func() {
				life := m.life + 1
				if c.older {
					life = m.life - 1
				}
				s.nodes["r1"].handle(PeerTold{State: PeerState{Node: "r1", Life: life}, Lan: "office"})
			}
			for range 10 {
				greet()
				s.run(HelloEvery)
			}
			s.master(c.master)
			if got := s.nodes["r1"].alarms(); got != "address_conflict node r1" {
				t.Errorf("alarms %q", got)
			}
			if fault := m.Role() == RoleFault; fault != c.older {
				t.Errorf("r1 is %v", m.Role())
			}
			s.run(10 * time.Second) // it is gone: preempt_delay, and the role is back
			s.master("r1")
			if got := s.nodes["r1"].alarms(); got != "" {
				t.Errorf("alarms %q afterwards", got)
			}
		})
	}
}
