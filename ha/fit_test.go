package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRunsMakeAVerdict: rise and fall, and that only runs in a row count.
func TestRunsMakeAVerdict(t *testing.T) {
	for name, c := range map[string]struct {
		rise, fall int
		runs, want string // + good, - bad; after each: f fit, u unfit
	}{
		"unknown is fit":            {2, 3, "", ""},
		"bad from the start":        {2, 3, "---", "ffu"},
		"bad ones apart":            {2, 3, "--+--+", "ffffff"},
		"back again":                {2, 3, "---++", "ffuuf"},
		"good ones apart":           {2, 3, "---+-+-++", "ffuuuuuuf"},
		"at once":                   {1, 1, "-+-", "ufu"},
		"it counts anew after each": {2, 2, "--++-+--", "fuuffffu"},
	} {
		t.Run(name, func(t *testing.T) {
			var check checkup
			got, changes := "", 0
			for i, run := range c.runs {
				was := check.unfit
				if check.count(map[rune]string{'-': "exit code 1"}[run], CheckConfig{Rise: c.rise, Fall: c.fall}) {
					changes++
				}
				if check.unfit == "" {
					got += "f"
				} else {
					got += "u"
				}
				if (was == "") != (check.unfit == "") {
					changes--
				}
				if changes != 0 {
					t.Errorf("run %d: a change is told wrongly", i)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// checked is a pair, or more, whose file has a check; r1 is master.
func checked(t *testing.T, words string, names ...string) *sim {
	t.Helper()
	s := newSim(t, names...)
	for _, n := range s.nodes {
		n.disk += " check=fit " + words
	}
	s.boot(names...)
	s.run(6 * time.Second)
	s.master("r1")
	return s
}

// TestCheckFails: the role goes to a node whose check passes, whatever preempt
// says, nobody is without the addresses, and it comes back by the usual rules.
func TestCheckFails(t *testing.T) {
	for _, words := range []string{"", "preempt=off", "sync=5s", "one sync=5s"} {
		t.Run(words, func(t *testing.T) {
			s := checked(t, words, "r1", "r2")
			r1, r2 := s.nodes["r1"], s.nodes["r2"]
			at := s.now
			r1.ails = "exit code 1: no database"
			s.run(500 * time.Millisecond)
			s.master("r1") // two runs are no verdict
			s.run(200 * time.Millisecond)
			s.master("r2")
			s.run(3 * time.Second)
			none, double := s.coverage(at)
			within(t, "nobody holds the addresses", none, map[bool]time.Duration{true: 20 * time.Millisecond}[r1.cfg.OneHolder])
			within(t, "two hold them", double, map[bool]time.Duration{false: 10 * time.Millisecond}[r1.cfg.OneHolder])
			for _, n := range []*simNode{r1, r2} {
				st := n.m.Status(s.now)
				if st.Nodes[0].Unfit != r1.ails || st.Nodes[1].Unfit != "" || *st.Nodes[0].EffectivePriority != 149 {
					t.Errorf("%s shows %+v", n.name, st.Nodes)
				}
			}
			if log := strings.Join(s.log, "\n"); !strings.Contains(log, "r1 node r1 fit->unfit fit failed 3 times in a row, the last time with exit code 1: no database") {
				t.Error(log)
			}

			r1.ails = ""
			s.run(1500 * time.Millisecond)
			s.master("r2") // preempt_delay
			s.run(5 * time.Second)
			if words == "preempt=off" {
				s.master("r2")
			} else {
				s.master("r1")
			}
		})
	}
}

// TestCheckFailsEverywhere: all are alike then, and the role stays where it is,
// although the master is the first to notice; before and after it.
func TestCheckFailsEverywhere(t *testing.T) {
	for _, late := range []time.Duration{0, 150 * time.Millisecond, 350 * time.Millisecond} {
		s := checked(t, "delay=0s", "r1", "r2", "r3")
		s.nodes["r1"].ails = "exit code 1"
		s.run(late)
		s.nodes["r2"].ails, s.nodes["r3"].ails = "exit code 1", "exit code 1"
		s.run(20 * time.Second)
		s.master("r1")
		for _, name := range []string{"r2", "r1", "r3"} {
			s.nodes[name].ails = ""
			s.run(50 * time.Millisecond)
		}
		s.run(10 * time.Second)
		s.master("r1")
		if n := s.nodes["r1"].m.transitions; n != 1 {
			t.Errorf("%v apart: %d transitions of r1\n%s", late, n, strings.Join(s.log, "\n"))
		}
	}
}

// TestCheckComesFirst: before lans and uplinks, and after maintenance.
func TestCheckComesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(s *sim, r1, r2 *simNode)
		want string
	}{
		"a lan is dead on the fit one": {func(s *sim, r1, r2 *simNode) {
			r2.carrier("lan1", false)
			r1.ails = "exit code 1"
		}, "r2"},
		"a lan dies on the fit one": {func(s *sim, r1, r2 *simNode) {
			r1.ails = "exit code 1"
			s.run(5 * time.Second)
			r2.carrier("lan1", false)
		}, "r2"},
		"a lan is dead on the master, the other is unfit": {func(s *sim, r1, r2 *simNode) {
			r2.ails = "exit code 1"
			s.run(5 * time.Second)
			r1.carrier("lan1", false)
		}, "r1"},
		"a line is dead on the fit one": {func(s *sim, r1, r2 *simNode) {
			r2.blind["cable"] = true
			r1.ails = "exit code 1"
		}, "r2"},
		"a line is dead on the master, the other is unfit": {func(s *sim, r1, r2 *simNode) {
			r2.ails = "exit code 1"
			s.run(5 * time.Second)
			r1.blind["cable"] = true
		}, "r1"},
		"both are unfit, and a lan is dead": {func(s *sim, r1, r2 *simNode) {
			r1.ails, r2.ails = "exit code 1", "exit code 1"
			s.run(5 * time.Second)
			r1.carrier("lan1", false)
		}, "r2"},
		"the fit one is in maintenance": {func(s *sim, r1, r2 *simNode) {
			s.command("r2", VerbRest, "")
			s.run(time.Second)
			r1.ails = "exit code 1"
		}, "r1"},
		"the fit one dies": {func(s *sim, r1, r2 *simNode) {
			r1.ails = "exit code 1"
			s.run(5 * time.Second)
			s.power("r2")
		}, "r1"},
		"the unfit one starts anew": {func(s *sim, r1, r2 *simNode) {
			r1.ails = "exit code 1"
			s.run(5 * time.Second)
			s.power("r1")
			s.run(2 * time.Second)
			s.boot("r1")
			s.run(300 * time.Millisecond)
		}, "r2"},
		"the fit one leaves": {func(s *sim, r1, r2 *simNode) {
			r1.ails = "exit code 1"
			s.run(5 * time.Second)
			s.command("r2", VerbStop, "")
		}, "r1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := checked(t, "", "r1", "r2")
			c.do(s, s.nodes["r1"], s.nodes["r2"])
			s.run(8 * time.Second)
			s.master(c.want)
			before := s.nodes["r1"].m.transitions
			s.run(20 * time.Second)
			s.master(c.want)
			if n := s.nodes["r1"].m.transitions - before; n > 0 {
				t.Errorf("%d changes of the role\n%s", n, strings.Join(s.log, "\n"))
			}
		})
	}
}

// TestUnfitFromTheStart: a node whose check fails already does not reach for the
// role in the time that it takes to be sure of that.
func TestUnfitFromTheStart(t *testing.T) {
	s := checked(t, "delay=0s", "r1", "r2")
	r1 := s.nodes["r1"]
	r1.ails = "exit code 1"
	s.run(5 * time.Second)
	s.master("r2")
	s.power("r1")
	s.run(2 * time.Second)
	s.boot("r1")
	s.run(10 * time.Second)
	if n := s.nodes["r2"].m.transitions; n != 1 {
		t.Errorf("r2 changed its role %d times\n%s", n, strings.Join(s.log, "\n"))
	}
	r1.ails = ""
	s.run(time.Second)
	s.master("r1")
}

// TestOperatorAndCheck: a hand-over to an unfit node is refused, one that a node
// was given holds until its check fails.
func TestOperatorAndCheck(t *testing.T) {
	s := checked(t, "", "r1", "r2")
	r1, r2 := s.nodes["r1"], s.nodes["r2"]
	r2.ails = "exit code 7"
	s.run(2 * time.Second)
	answer := s.command("r1", VerbFailover, "r2")
	if text, _ := answer(); text != "the check of r2 fails (exit code 7): mend that first; nothing changed" {
		t.Errorf("answered %q", text)
	}
	if last := s.log[len(s.log)-1]; !strings.Contains(last, "operator failover") || !strings.Contains(last, "not done: the check of r2 fails") {
		t.Errorf("the last event is %s", last)
	}
	r2.ails = ""
	s.run(2 * time.Second)
	s.command("r1", VerbFailover, "r2")
	s.run(5 * time.Second)
	s.master("r2")
	for _, n := range []*simNode{r1, r2} {
		for _, other := range n.m.Status(s.now).Nodes {
			if other.Held != (other.Name == "r2") {
				t.Errorf("%s tells of %s: held %v", n.m.cfg.Node, other.Name, other.Held)
			}
		}
	}
	r2.ails = "exit code 7"
	s.run(3 * time.Second)
	s.master("r1")
	// Where both fail, an operator may choose, and the first that passes again
	// does not take the role away from where he put it.
	r1.ails = "exit code 7"
	s.run(3 * time.Second)
	s.command("r1", VerbFailover, "r1")
	r2.ails = ""
	s.run(10 * time.Second)
	s.master("r1")
}

// TestCheckOfANewFile: a reload brings, changes and removes the check.
func TestCheckOfANewFile(t *testing.T) {
	s := checked(t, "", "r1", "r2")
	r1 := s.nodes["r1"]
	reload := func(from, to string) {
		t.Helper()
		for _, n := range s.nodes {
			n.disk = strings.Replace(n.disk, from, to, 1)
			n.seen()
		}
		s.command("r1", VerbReload, "")
		s.run(150 * time.Millisecond) // one run
		if want := "hash of " + r1.disk; r1.m.cfg.Hash != want {
			t.Fatalf("r1 runs %q, want %q\n%s", r1.m.cfg.Hash, want, strings.Join(s.log, "\n"))
		}
	}
	r1.ails = "exit code 1"
	s.run(3 * time.Second)
	s.master("r2")
	reload("check=fit", "check=other")
	if r1.m.check.unfit == "" {
		t.Error("another command made r1 fit before it passed")
	}
	r1.handle(CheckRan{Command: []string{"fit"}}) // late
	if r1.m.check.good > 0 {
		t.Error("a run of the old command counts")
	}
	reload(" check=other", "")
	if got := r1.m.Status(s.now).Nodes[0].Unfit; got != "" {
		t.Errorf("unfit without a check: %q", got)
	}
	s.run(10 * time.Second)
	s.master("r1")
	m := r1.m
	m.adopting = &adopting{}
	m.onCheckRan(CheckRan{Command: []string{"third"}}, s.now)
	m.cfg.Check.Command, m.adopting = []string{"third"}, nil
	m.recheck(CheckConfig{}, s.now)
	if m.unsure() {
		t.Error("the first run, which came before the file was in use, is lost")
	}
	m.cfg.Check, m.check = CheckConfig{}, checkup{}
	reload("cable=2", "cable=2 check=third")
	s.run(5 * time.Second)
	s.master("r2")
}
