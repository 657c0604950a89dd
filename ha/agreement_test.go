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

// try begins a trial of file1.
func (s *sim) try(at string, d time.Duration) {
	s.t.Helper()
	n := s.nodes[at]
	s.write(file1, "r1", "r2")
	n.handle(Command{ID: 77, Verb: VerbReload, Args: Args{Trial: d}})
	s.run(time.Second)
	if text, ok := n.answers[77]; !ok || text != "" {
		s.t.Fatalf("reload on trial: answered %v %q", ok, text)
	}
	s.agreed(file1, 1)
}

func (s *sim) cut(a, b string, on bool) {
	s.nodes[a].lost[b], s.nodes[b].lost[a] = on, on
}

// TestKeptByOneOnly: a node that did not hear that a trial is kept goes back,
// and then learns better.
func TestKeptByOneOnly(t *testing.T) {
	s := strict(t, "r1", "r2")
	s.try("r1", 5*time.Second)
	s.cut("r1", "r2", true)
	s.reload("r1", "")
	if got := string(s.nodes["r2"].m.cfg.Text); got != file0 {
		t.Fatalf("r2 runs %q after the trial", got)
	}
	s.cut("r1", "r2", false)
	s.run(5 * time.Second)
	s.agreed(file1, 3)
}

// TestTrialThatCannotGoBackTriesAgain: a full disk does not make a file on trial
// one that stays.
func TestTrialThatCannotGoBackTriesAgain(t *testing.T) {
	s := strict(t, "r1")
	n := s.nodes["r1"]
	s.write(file1, "r1")
	n.handle(Command{ID: 1, Verb: VerbReload, Args: Args{Trial: 3 * time.Second}})
	s.run(time.Second)
	n.strain.full = 2
	s.run(5 * time.Second)
	s.agreed(file1, 1)
	s.run(10 * time.Second)
	s.agreed("cable=2 nodes=r1", 2)
}

// TestTrialIsNotKeptByTheWay: a change of the nodes does not keep it, nor does a
// node that fetches what it missed.
func TestTrialIsNotKeptByTheWay(t *testing.T) {
	s := strict(t, "r1", "r2")
	s.try("r1", 5*time.Second)
	s.power("r2")
	s.run(2 * time.Second)
	n := s.nodes["r1"]
	n.handle(Command{ID: 1, Verb: VerbAddNode, Args: Args{Add: &Joiner{Name: "r3"}}})
	s.run(time.Second)
	if text, ok := n.answers[1]; !ok || !strings.Contains(text, "on trial") {
		t.Errorf("answered %v %q", ok, text)
	}
	for _, a := range n.m.Handle(Told{From: "r2", Message: Message{Kind: KindFetch, ID: 9}}, s.now) {
		if send, ok := a.(Send); ok {
			t.Errorf("a file on trial is given away: %+v", send.Message)
		}
	}
	s.run(5 * time.Second)
	s.agreed(file0, 2)
}

// TestAgreementIsNotDisturbed: neither by a fetch that comes back in the middle
// of it, nor by one who knows less.
func TestAgreementIsNotDisturbed(t *testing.T) {
	s := strict(t, "r1", "r2")
	m := s.nodes["r1"].m
	m.fetch = &fetch{from: "r2", id: 5, generation: 9, until: s.now.Add(time.Second)}
	m.pledge = &pledge{from: "r2", until: s.now.Add(time.Second)}
	for _, a := range m.Handle(Checked{ID: 5, Text: []byte(file2), Hash: "hash of " + file2}, s.now) {
		if adopt, ok := a.(Adopt); ok {
			t.Errorf("during an agreement: %+v", adopt)
		}
	}
	m.pledge, m.fetch, m.cfg.Generation = nil, nil, 4
	refused := false
	for _, a := range m.Handle(Told{From: "r2", Message: Message{Kind: KindPrepare, ID: 9, Generation: 4, Hash: "x"}}, s.now) {
		send, ok := a.(Send)
		refused = refused || ok && send.Message.Kind == KindPrepared && strings.Contains(send.Message.Error, "generation 4")
	}
	if !refused || m.pledge != nil {
		t.Errorf("refused %v, pledge %+v", refused, m.pledge)
	}
}

// TestNodeThatComesInTheMiddle has promised nothing: it is not waited for, and
// fetches the file.
func TestNodeThatComesInTheMiddle(t *testing.T) {
	s := newSim(t, "r1", "r2", "r3")
	c := newChaos(s, 0, menu{})
	c.boot("r1", "r2")
	s.run(3 * time.Second)
	three := "cable=5 nodes=r1,r2,r3"
	s.write(three, "r1", "r2", "r3")
	answer := s.command("r1", VerbReload, "")
	s.run(simWork + 3*simDelay)
	c.boot("r3")
	s.nodes["r3"].accepted = "cable=2 nodes=r1,r2,r3"
	s.run(simDelay)
	s.nodes["r1"].m.onPeerTold(s.nodes["r3"].m.state(s.now), "", s.now)
	s.run(100 * time.Millisecond)
	if text, ok := answer(); !ok || text != "" {
		t.Fatalf("answered %v %q\n%s", ok, text, strings.Join(s.log, "\n"))
	}
}

// TestSameNumberOfTwoFiles: after both sides of a partition changed the file it is
// an alarm, until somebody reloads.
func TestSameNumberOfTwoFiles(t *testing.T) {
	s := strict(t, "r1", "r2")
	s.partition("r1", "r2", true)
	for _, n := range []string{"r1", "r2"} {
		s.nodes[n].strain.deaf[map[string]string{"r1": "r2", "r2": "r1"}[n]] = true
	}
	s.run(4 * time.Second)
	s.write(file1, "r1")
	s.write(file2, "r2")
	s.reload("r1", "")
	s.reload("r2", "")
	s.partition("r1", "r2", false)
	clear(s.nodes["r1"].strain.deaf)
	clear(s.nodes["r2"].strain.deaf)
	s.run(40 * time.Second)
	s.master("r1")
	for name, n := range s.nodes {
		if st := n.m.Status(s.now); st.Config.InSync || st.Config.Generation != 1 || len(st.Alarms) != 1 || st.Alarms[0].Code != AlarmConfigDiffers {
			t.Errorf("%s: %+v, alarms %+v", name, st.Config, st.Alarms)
		}
	}
	s.write(file2, "r1", "r2")
	s.reload("r1", "")
	s.agreed(file2, 2)
	for name, n := range s.nodes {
		if st := n.m.Status(s.now); !st.Config.InSync || len(st.Alarms) > 0 {
			t.Errorf("%s: %+v, alarms %+v", name, st.Config, st.Alarms)
		}
	}
}
