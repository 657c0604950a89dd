package ha

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// agreed checks that all running nodes run a file in a generation, and agree.
func (s *sim) agreed(file string, generation uint64) {
	s.t.Helper()
	for name, n := range s.nodes {
		if !n.running {
			continue
		}
		if got := string(n.m.cfg.Text); got != file || n.m.cfg.Generation != generation {
			s.t.Fatalf("%s runs %q in generation %d, want %q in %d\n%s", name, got, n.m.cfg.Generation, file, generation, strings.Join(s.log, "\n"))
		}
	}
}

func (s *sim) write(file string, names ...string) {
	for _, n := range names {
		s.nodes[n].disk = file
		s.nodes[n].seen()
	}
}

func (s *sim) reload(at string, want string) {
	s.t.Helper()
	answer := s.command(at, VerbReload, "")
	s.run(6 * time.Second)
	text, ok := answer()
	if !ok || want == "" && text != "" || !strings.Contains(text, want) {
		s.t.Fatalf("reload on %s: answered %v %q, want %q\n%s", at, ok, text, want, strings.Join(s.log, "\n"))
	}
}

const (
	file0 = "cable=2 nodes=r1,r2"
	file1 = "cable=5 nodes=r1,r2"
	file2 = "cable=7 only nodes=r1,r2"
	bad   = "cabel=5 nodes=r1,r2"
)

func TestReload(t *testing.T) {
	s := booted(t, "r1", "r2")
	for i, at := range []string{"r1", "r2"} {
		file := []string{file1, file2}[i]
		s.write(file, "r1", "r2")
		s.reload(at, "")
		s.agreed(file, uint64(i+1))
	}
	s.master("r1")
	if n := s.nodes["r1"].m.transitions; n != 1 {
		t.Errorf("r1 changed its role %d times", n)
	}
	if got := s.nodes["r1"].deleted; len(got) == 0 || got[0] != "dsl" {
		t.Errorf("the flows of the uplink that is gone from the file were not ended: %v", got)
	}
	if s.nodes["r1"].m.planHash != s.nodes["r2"].m.planHash {
		t.Error("the plans differ")
	}
}

// TestReloadWithAnotherLanMovesNoRole: each node looks at the new link in its own
// time, and tells of it in its own time.
func TestReloadWithAnotherLanMovesNoRole(t *testing.T) {
	for name, tc := range map[string]struct {
		r1, r2    time.Duration
		unplugged []string
		want      string
	}{
		"the master is slow":        {r1: 300 * time.Millisecond, r2: time.Millisecond, want: "r1"},
		"the backup is slow":        {r1: time.Millisecond, r2: 300 * time.Millisecond, want: "r1"},
		"dead for both":             {r1: time.Millisecond, r2: 300 * time.Millisecond, unplugged: []string{"r1", "r2"}, want: "r1"},
		"dead on the backup only":   {r1: time.Millisecond, r2: time.Millisecond, unplugged: []string{"r2"}, want: "r1"},
		"dead on the master: moves": {r1: time.Millisecond, r2: time.Millisecond, unplugged: []string{"r1"}, want: "r2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			s.nodes["r1"].looks, s.nodes["r2"].looks = tc.r1, tc.r2
			for _, n := range tc.unplugged {
				s.nodes[n].lab = true
			}
			more := "cable=2 lab nodes=r1,r2"
			s.write(more, "r1", "r2")
			s.reload("r1", "")
			s.agreed(more, 1)
			s.master(tc.want)
			if n := s.nodes["r1"].m.transitions; tc.want == "r1" && n != 1 {
				t.Errorf("r1 changed its role %d times\n%s", n, strings.Join(s.log, "\n"))
			}
			s.nodes["r1"].looks, s.nodes["r2"].looks = 0, 0
			s.write(file0, "r1", "r2") // and away again
			s.reload("r2", "")
			s.agreed(file0, 2)
			s.run(5 * time.Second)
			s.master("r1")
		})
	}
}

// TestReloadEndsFlows: those that the new file leaves no way for, and no others.
func TestReloadEndsFlows(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		want []uint32 // marks, in order
	}{
		"a weight":            {"cable=5 nodes=r1,r2", nil},
		"an uplink less":      {"only nodes=r1,r2", []uint32{0x200, 0x200}},
		"another address":     {"nat=203.0.113.141/25 nodes=r1,r2", []uint32{0x200}},
		"another prefix":      {"nat=203.0.113.140/32 nodes=r1,r2", nil},
		"another name":        {"name=adsl nodes=r1,r2", nil},
		"a name and address":  {"nat=203.0.113.141/25 name=adsl nodes=r1,r2", []uint32{0x200}},
		"another id, cold":    {"id=9 nodes=r1,r2", []uint32{0x200}},
		"another mask, cold":  {"mask=0xff0000 nodes=r1,r2", []uint32{0x100, 0x200}},
		"a mask as good":      {"mask=0x7f00 nodes=r1,r2", nil},
		"a mask and one less": {"only mask=0x7f00 nodes=r1,r2", []uint32{0x200, 0x200}},
	} {
		t.Run(name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			s.write(tc.file, "r1", "r2")
			s.reload("r2", "")
			s.agreed(tc.file, 1)
			for _, n := range []string{"r1", "r2"} {
				if got := s.nodes[n].marks; !slices.Equal(got, tc.want) {
					t.Errorf("%s ended the flows with the marks %#x, want %#x", n, got, tc.want)
				}
			}
			s.master("r1")
		})
	}
}

// TestReloadWithAPeerThatHangs: the answer comes when the other node counts as
// dead, and what it reads once it goes on binds it to nothing.
func TestReloadWithAPeerThatHangs(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	s.nodes["r2"].stop()
	answer := s.command("r1", VerbReload, "")
	s.run(2500 * time.Millisecond)
	if text, ok := answer(); !ok || !strings.Contains(text, "r2 did not answer; nothing changed") {
		t.Fatalf("answered %v %q", ok, text)
	}
	s.nodes["r2"].resume()
	s.run(2 * time.Second)
	s.agreed(file0, 0)
	s.reload("r2", "")
	s.agreed(file1, 1)
}

// TestReloadWithALostAnswer: what the other node tells of itself is as good.
func TestReloadWithALostAnswer(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.noDone = true
	s.write(file1, "r1", "r2")
	answer := s.command("r1", VerbReload, "")
	s.run(time.Second)
	if text, ok := answer(); !ok || text != "" {
		t.Errorf("answered %v %q", ok, text)
	}
	s.agreed(file1, 1)
}

func TestReloadThatMayNotBe(t *testing.T) {
	for name, tc := range map[string]struct{ r1, r2, want string }{
		"bad here":        {bad, file1, `"cabel" is no key; nothing changed`},
		"bad there":       {file1, bad, `nothing changed anywhere: on r2: "cabel" is no key`},
		"different":       {file1, file2, "the file on r2 is another one"},
		"names this not":  {"cable=2 nodes=r2", "cable=2 nodes=r2", "no node r1"},
		"names that not":  {"cable=2 nodes=r1", "cable=2 nodes=r1", "no node r2"},
		"nobody told me":  {file1, file0, "the file on r2 is another one"},
		"both bad":        {bad, bad, "is no key; nothing changed"},
		"there unchanged": {file0, file1, "the file on r2 is another one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			s.write(tc.r1, "r1")
			s.write(tc.r2, "r2")
			s.reload("r1", tc.want)
			s.agreed(file0, 0)
			for _, n := range []string{"r1", "r2"} {
				found := false
				for _, a := range s.nodes[n].m.Status(s.now).Alarms {
					found = found || a.Code == AlarmConfigDiffers && strings.Contains(a.Text, short("hash of "+file0))
				}
				if !found {
					t.Errorf("%s raised no alarm: %+v", n, s.nodes[n].m.Status(s.now).Alarms)
				}
			}
			s.write(file1, "r1", "r2")
			s.reload("r2", "")
			s.agreed(file1, 1)
			for _, n := range []string{"r1", "r2"} {
				if st := s.nodes[n].m.Status(s.now); len(st.Alarms) > 0 || !st.Config.InSync {
					t.Errorf("%s still has %+v", n, st.Alarms)
				}
			}
		})
	}
}

func TestNodeThatWasOffFetchesWhatItMissed(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.command("r2", VerbStop, "")
	s.run(3 * time.Second)
	for i, file := range []string{file1, file2, file1} {
		s.write(file, "r1")
		s.reload("r1", "")
		s.agreed(file, uint64(i+1))
	}
	s.boot("r2")
	s.run(5 * time.Second)
	s.agreed(file1, 3)
	if n := s.nodes["r2"]; n.disk != file1 || n.accepted != file1 || n.gen != 3 {
		t.Errorf("on the disk of r2: %q, accepted %q %d", n.disk, n.accepted, n.gen)
	}
	s.run(10 * time.Second)
	if st := s.nodes["r1"].m.Status(s.now); len(st.Alarms) > 0 {
		t.Errorf("alarms: %+v", st.Alarms)
	}
}

// TestHandEditedFileDoesNotRun: a file that somebody edited while the node was
// off is an alarm, what was agreed on runs.
func TestHandEditedFileDoesNotRun(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	s.reload("r1", "")
	s.power("r2")
	s.write(file2, "r2")
	s.boot("r2")
	s.run(5 * time.Second)
	s.agreed(file1, 1)
	for _, n := range []string{"r1", "r2"} {
		st := s.nodes[n].m.Status(s.now)
		if st.Config.InSync || len(st.Alarms) != 1 || !strings.Contains(st.Alarms[0].Text, short("hash of "+file2)) {
			t.Errorf("%s: in sync %v, alarms %+v", n, st.Config.InSync, st.Alarms)
		}
	}
	if s.nodes["r2"].disk != file2 {
		t.Error("the edited file was overwritten")
	}
}

func TestTrial(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		s := booted(t, "r1", "r2")
		s.write(file1, "r1", "r2")
		s.seq++
		id := uint64(s.seq)
		n := s.nodes["r2"]
		n.handle(Command{ID: id, Verb: VerbReload, Args: Args{Trial: 10 * time.Second}})
		s.run(time.Second)
		if text, ok := n.answers[id]; !ok || text != "" {
			t.Fatalf("answered %v %q", ok, text)
		}
		s.agreed(file1, 1)
		if keeps {
			s.reload("r1", "")
		}
		s.run(15 * time.Second)
		generation := uint64(2)
		if keeps {
			generation = 3
			s.agreed(file1, 3)
		} else {
			s.agreed(file0, 2)
			if s.nodes["r1"].disk != file0 {
				t.Error("the file on disk did not follow")
			}
		}
		if a, b := s.nodes["r1"], s.nodes["r2"]; a.accepted != b.accepted || a.gen != generation || b.gen != generation {
			t.Errorf("accepted: %q %d, %q %d", a.accepted, a.gen, b.accepted, b.gen)
		}
	}
}

// TestTrialIsNotFetched: a node that died in a trial does not take the file on
// trial from the others, not even when their trial is about to end.
func TestTrialIsNotFetched(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	s.nodes["r2"].handle(Command{ID: 1, Verb: VerbReload, Args: Args{Trial: 10 * time.Second}})
	s.run(time.Second)
	s.agreed(file1, 1)
	s.power("r1")
	s.run(3 * time.Second)
	s.boot("r1")
	s.run(10 * time.Second)
	s.agreed(file0, 2)
	if got := s.nodes["r1"].ran; slices.Contains(got, file1) {
		t.Errorf("r1 took %q\n%s", got, strings.Join(s.log, "\n"))
	}
}

// TestTrialEndsWithAPowerCut: what nobody kept does not survive.
func TestTrialEndsWithAPowerCut(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	s.nodes["r1"].handle(Command{ID: 1, Verb: VerbReload, Args: Args{Trial: 30 * time.Second}})
	s.run(time.Second)
	s.agreed(file1, 1)
	s.power("r1")
	s.power("r2")
	s.boot("r1", "r2")
	s.run(3 * time.Second)
	s.agreed(file0, 0)
}

func TestReloadOnBothAtOnce(t *testing.T) {
	for gap := time.Duration(0); gap < 8*time.Millisecond; gap += 250 * time.Microsecond {
		s := booted(t, "r1", "r2")
		s.write(file1, "r1", "r2")
		one := s.command("r1", VerbReload, "")
		s.run(gap)
		two := s.command("r2", VerbReload, "")
		s.run(10 * time.Second)
		a, okA := one()
		b, okB := two()
		if !okA || !okB {
			t.Fatalf("gap %v: answers %q %v, %q %v", gap, a, okA, b, okB)
		}
		done := 0
		for _, text := range []string{a, b} {
			if text == "" {
				done++
			} else if !strings.Contains(text, "nothing changed") {
				t.Fatalf("gap %v: answers %q, %q", gap, a, b)
			}
		}
		if done == 0 {
			s.agreed(file0, 0)
		} else {
			s.agreed(file1, s.nodes["r1"].m.cfg.Generation)
		}
		s.reload("r1", "")
	}
}

func TestReloadWithANodeThatDies(t *testing.T) {
	for gap := time.Duration(0); gap < 10*time.Millisecond; gap += 250 * time.Microsecond {
		s := booted(t, "r1", "r2")
		s.write(file1, "r1", "r2")
		answer := s.command("r1", VerbReload, "")
		s.run(gap)
		s.power("r2")
		s.run(10 * time.Second)
		text, ok := answer()
		if !ok {
			t.Fatalf("gap %v: no answer", gap)
		}
		if strings.Contains(text, "nothing changed") {
			s.agreed(file0, 0)
			s.reload("r1", "")
		}
		s.agreed(file1, 1)
		s.boot("r2")
		s.run(5 * time.Second)
		s.agreed(file1, 1)
	}
}

func TestReloadNeedsAWordOfEveryLiveNode(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	for _, pair := range [][2]string{{"r1", "r2"}, {"r2", "r1"}} {
		n := s.nodes[pair[0]]
		n.lost[pair[1]] = true
		n.handle(PeerLost{Node: pair[1]})
	}
	s.run(5 * time.Second)
	s.reload("r2", "r1 is alive but not heard over gossip") // its adverts are
	s.agreed(file0, 0)
}

// TestNodesComeAndGo adds a third node, which then runs, and takes one out.
func TestNodesComeAndGo(t *testing.T) {
	s := booted(t, "r1", "r2")
	third := newSim(t, "r1", "r2", "r3").nodes["r3"]
	third.s, s.nodes["r3"] = s, third
	s.nodes["r1"].handle(Command{ID: 1, Verb: VerbAddNode, Args: Args{Add: &Joiner{Name: "r3"}}})
	s.run(time.Second)
	if text, ok := s.nodes["r1"].answers[1]; !ok || text != "" {
		t.Fatalf("answered %v %q", ok, text)
	}
	both := file0 + ",r3"
	s.agreed(both, 1)
	if s.nodes["r2"].disk != both || s.nodes["r1"].disk != both {
		t.Errorf("on disk: %q, %q", s.nodes["r1"].disk, s.nodes["r2"].disk)
	}
	third.disk, third.gen = both, 1
	s.boot("r3")
	s.run(3 * time.Second)
	s.agreed(both, 1)
	s.power("r1")
	s.power("r2")
	s.run(3 * time.Second)
	s.master("r3")
	s.boot("r1", "r2")
	s.run(10 * time.Second)
	s.master("r1")

	at := s.now
	s.nodes["r1"].handle(Command{ID: 2, Verb: VerbForget})
	s.run(5 * time.Second)
	if text, ok := s.nodes["r1"].answers[2]; !ok || text != "" || s.nodes["r1"].exit == nil {
		t.Fatalf("answered %v %q, exit %v\n%s", ok, text, s.nodes["r1"].exit, strings.Join(s.log, "\n"))
	}
	s.master("r2")
	s.agreed("cable=2 nodes=r2,r3", 2)
	none, double := s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
	within(t, "two hold them", double, 10*time.Millisecond)
}

// TestReloadAfterLeave: a node that left in good order is not waited for.
func TestReloadAfterLeave(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.nodes["r2"].handle(Command{ID: 1, Verb: VerbStop})
	s.run(100 * time.Millisecond)
	s.write(file1, "r1")
	s.nodes["r1"].handle(Command{ID: 2, Verb: VerbReload})
	s.run(100 * time.Millisecond)
	if text, ok := s.nodes["r1"].answers[2]; !ok || text != "" {
		t.Errorf("answered %v %q", ok, text)
	}
}

// TestColdStart: a cluster that starts with another file than it ended with
// runs that one, unless somebody still runs the old.
func TestColdStart(t *testing.T) {
	for name, tc := range map[string]struct {
		r1, r2 string
		start  []string
		want   string
	}{
		"one alone":   {file1, file0, []string{"r1"}, file1},
		"both":        {file1, file1, []string{"r1", "r2"}, file1},
		"they differ": {file1, file2, []string{"r1", "r2"}, file0},
		"one edited":  {file1, file0, []string{"r1", "r2"}, file0},
		"bad":         {bad, bad, []string{"r1", "r2"}, file0},
	} {
		t.Run(name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			s.power("r1")
			s.power("r2")
			s.write(tc.r1, "r1")
			s.write(tc.r2, "r2")
			s.boot(tc.start...)
			s.run(10 * time.Second)
			want := uint64(0)
			if tc.want != file0 {
				want = 1
			}
			s.agreed(tc.want, want)
		})
	}
	s := booted(t, "r1", "r2")
	s.power("r2")
	s.run(time.Second)
	s.boot("r2")
	s.run(time.Second)
	s.write(file1, "r1", "r2") // while it starts
	s.run(10 * time.Second)
	s.agreed(file0, 0)
}

func TestNamed(t *testing.T) {
	for _, tc := range []struct{ node, text, want string }{
		{"r2", "the file on r2 (12) is another one", "the file on r2 (12) is another one"},
		{"r2", "r2 is leaving", "r2 is leaving"},
		{"r2", "a generation is on trial on r2", "a generation is on trial on r2"},
		{"r1", "r10 is leaving", "on r1: r10 is leaving"},
		{"router", "write /etc/harouter/harouter.yaml: no space", "on router: write /etc/harouter/harouter.yaml: no space"},
	} {
		if got := named(tc.node, tc.text); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// TestReloadThatMutesAdverts changes what the adverts look like: for a moment the
// nodes do not understand each other's, and know over gossip why.
func TestReloadThatMutesAdverts(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	answer := s.command("r1", VerbReload, "")
	s.run(3 * time.Millisecond) // all are about to adopt
	s.nodes["r2"].muffled = true
	s.run(700 * time.Millisecond)
	s.nodes["r2"].muffled = false
	s.run(2 * time.Second)
	if text, ok := answer(); !ok || text != "" {
		t.Fatalf("answered %v %q", ok, text)
	}
	s.agreed(file1, 1)
	s.master("r1")
	if n := s.nodes["r2"].m.transitions; n != 0 {
		t.Errorf("r2 changed its role %d times\n%s", n, strings.Join(s.log, "\n"))
	}

	at := s.now // a master that dies then is missed no later than gossip is silent
	s.write(file2, "r1", "r2")
	s.command("r1", VerbReload, "")
	s.run(20 * time.Millisecond)
	s.power("r1")
	s.run(3 * time.Second)
	s.master("r2")
	none, _ := s.coverage(at)
	within(t, "nobody holds the addresses", none, wordFresh+400*time.Millisecond)
}
