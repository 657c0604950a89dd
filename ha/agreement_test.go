package ha

import (
	"strings"
	"testing"
	"time"
)

// strict is a booted cluster whose gossip refuses who is not in the file, as the
// real one does.
func strict(t *testing.T, names ...string) *sim {
	s := newSim(t, names...)
	newChaos(s, 0, menu{}).boot(names...)
	s.run(3 * time.Second)
	s.master("r1")
	return s
}

// TestForgottenNodeLeavesFirst: once the others run the file without it, no
// word reaches it any more.
func TestForgottenNodeLeavesFirst(t *testing.T) {
	for _, name := range []string{"r1", "r3"} {
		s := strict(t, "r1", "r2", "r3")
		at, n := s.now, s.nodes[name]
		answer := s.command(name, VerbForget, "")
		s.run(4 * time.Second)
		if text, ok := answer(); !ok || text != "" || n.running {
			t.Fatalf("forget %s: answered %v %q, runs %v\n%s", name, ok, text, n.running, strings.Join(s.log, "\n"))
		}
		rest := []string{"r2", "r3"}
		if name == "r3" {
			rest = []string{"r1", "r2"}
		}
		s.master(rest[0])
		s.agreed("cable=2 nodes="+strings.Join(rest, ","), 1)
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 10*time.Millisecond)
	}
}

// TestNodeThatDoesNotLeaveIsNotForgotten: it would be a second master.
func TestNodeThatDoesNotLeaveIsNotForgotten(t *testing.T) {
	s := strict(t, "r1", "r2", "r3")
	s.command("r1", VerbForget, "")
	s.nodes["r1"].lost["r2"] = true // the answer
	s.run(8500 * time.Millisecond)
	if !s.nodes["r1"].running {
		t.Fatal("r1 left without having been told")
	}
	s.master("r1")
	s.agreed("cable=2 nodes=r1,r2,r3", 0)
}

// TestNoSpinWhileTheEdgesAreBusy: what is due meanwhile has to wait, and must
// not keep the loop busy.
func TestNoSpinWhileTheEdgesAreBusy(t *testing.T) {
	s := booted(t, "r1", "r2")
	m := s.nodes["r1"].m
	for name, late := range map[string]func(){
		"offer":  func() { m.offer = &offer{committed: true, until: s.now, answer: func(string) {}} },
		"pledge": func() { m.pledge = &pledge{from: "r2", committed: true, until: s.now} },
		"trial":  func() { m.trial = &trial{until: s.now} },
		"move": func() {
			m.move = &move{to: "r2", due: s.now}
			m.handoff = &handoff{to: "r2", until: s.now.Add(time.Second)}
		},
	} {
		m.adopting = &adopting{done: func(string, time.Time) {}}
		late()
		m.Handle(Tick{}, s.now)
		if d := m.Deadline(s.now); !d.After(s.now) {
			t.Errorf("%s: the deadline of %v ago stays", name, s.now.Sub(d))
		}
		m.offer, m.pledge, m.trial, m.adopting, m.move, m.handoff = nil, nil, nil, nil, nil, nil
	}
}
