package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
)

// turn enables or disables an uplink by hand and wants this answer; "" done.
func (s *sim) turn(at, uplink string, off bool, want string) {
	s.t.Helper()
	verb := VerbEnable
	if off {
		verb = VerbDisable
	}
	n := s.nodes[at]
	s.seq++
	id := uint64(s.seq)
	n.handle(Command{ID: id, Verb: verb, Args: Args{Uplink: uplink}})
	s.run(3 * time.Second)
	if text, ok := n.answers[id]; !ok || want == "" && text != "" || !strings.Contains(text, want) {
		s.t.Errorf("%s %v at %s: answered %v %q, want %q", uplink, off, at, ok, text, want)
	}
}

// verdicts wants both nodes to route by these, and alike.
func (s *sim) verdicts(cable, dsl balancer.Verdict, nodes ...string) {
	s.t.Helper()
	hashes := map[string]bool{}
	for _, name := range nodes {
		m := s.nodes[name].m
		if d := cmp.Diff(map[string]balancer.Verdict{"cable": cable, "dsl": dsl}, m.verdicts); d != "" {
			s.t.Errorf("%s (-want +got):\n%s", name, d)
		}
		hashes[m.planHash] = true
	}
	if len(hashes) != 1 {
		s.t.Errorf("%v route differently", nodes)
	}
}

func TestDisableByHand(t *testing.T) {
	const up, disabled = balancer.Up, balancer.Disabled
	s := booted(t, "r1", "r2")
	s.turn("r2", "cable", true, "") // asked on the backup
	s.verdicts(disabled, up, "r1", "r2")
	if share := s.nodes["r1"].lastPlan.Shares["default"]; share["cable"] != 0 || share["dsl"] != 1 {
		t.Errorf("shares %v", share)
	}
	s.run(5 * time.Second)
	s.ended("r1")
	s.ended("r2") // its flows go on
	s.turn("r1", "cable", true, "")
	s.turn("r1", "dsl", true, "last uplink that is enabled")
	s.turn("r1", "cabel", true, "no uplink is called")

	// A node that is off meanwhile follows, and what it knew does not come back.
	s.power("r2")
	s.run(3 * time.Second)
	s.turn("r1", "cable", false, "")
	s.turn("r1", "dsl", true, "")
	s.boot("r2")
	s.run(5 * time.Second)
	s.verdicts(up, disabled, "r1", "r2")

	// All remember, also when all were off.
	s.power("r1")
	s.power("r2")
	s.run(time.Second)
	s.boot("r1", "r2")
	s.run(5 * time.Second)
	s.master("r1")
	s.verdicts(up, disabled, "r1", "r2")

	// It is no reason for a hand-over when it dies, nor for one that it lives.
	s.nodes["r1"].blind["dsl"] = true
	s.run(10 * time.Second)
	s.master("r1")
	s.verdicts(up, disabled, "r1", "r2")
	s.nodes["r1"].blind["dsl"] = false
	s.run(time.Second)
	s.turn("r1", "dsl", false, "")
	s.verdicts(up, up, "r1", "r2")
	if share := s.nodes["r1"].lastPlan.Shares["default"]; share["cable"] != 171./256 {
		t.Errorf("shares %v", share)
	}
	if !s.logs("operator uplink dsl disabled->enabled") || !s.logs("uplink dsl disabled->up by hand") {
		t.Errorf("not in the events:\n%s", strings.Join(s.log, "\n"))
	}
}

// TestDisabledUplinkDies: flows that were left on it end with it, on both nodes.
func TestDisabledUplinkDies(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.turn("r1", "cable", true, "")
	s.kill("cable", true)
	s.run(3 * time.Second)
	s.ended("r1", "cable")
	s.ended("r2", "cable")
	times := len(s.nodes["r1"].deleted)
	s.kill("cable", false)
	s.run(3 * time.Second)
	s.kill("cable", true) // nothing runs on it any more
	s.run(3 * time.Second)
	if n := len(s.nodes["r1"].deleted); n != times {
		t.Errorf("flows were ended %d times", n)
	}
}

// TestDisableTheLastThatWorks: an operator may.
func TestDisableTheLastThatWorks(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.kill("dsl", true)
	s.run(3 * time.Second)
	s.turn("r1", "cable", true, "")
	s.verdicts(balancer.Disabled, balancer.Down, "r1", "r2")
	if share := s.nodes["r1"].lastPlan.Shares["default"]; share["dsl"] != 1 {
		t.Errorf("shares %v", share)
	}
	s.kill("dsl", false)
	s.run(3 * time.Second)
	s.verdicts(balancer.Disabled, balancer.Up, "r1", "r2")
}

func TestDisableThatCannotBeKept(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.nodes["r1"].noRoom = true
	s.turn("r1", "cable", true, "no space left on device; nothing changed")
	s.verdicts(balancer.Up, balancer.Up, "r1", "r2")
	s.turn("r2", "cable", true, "") // r1 follows all the same
	s.verdicts(balancer.Disabled, balancer.Up, "r1", "r2")

	s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = true, true // adverts are heard
	s.turn("r2", "cable", false, "r1 did not confirm it")
	s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = false, false
	s.run(3 * time.Second)
	s.verdicts(balancer.Up, balancer.Up, "r1", "r2")
}

// TestSwitchOrder: all nodes end with the same one, whatever they heard first.
func TestSwitchOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Switch
		want bool // a is after b
	}{
		{"later", Switch{Number: 3, By: "r1"}, Switch{Number: 2, By: "r2"}, true},
		{"sooner", Switch{Number: 1, By: "r2"}, Switch{Number: 2, By: "r1"}, false},
		{"at the same time", Switch{Number: 2, By: "r2"}, Switch{Number: 2, By: "r1"}, true},
		{"the same", Switch{Number: 2, By: "r1"}, Switch{Number: 2, By: "r1"}, false},
	} {
		if got := c.a.after(c.b); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
