package ha

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// syncing returns a cluster that replicates flows, with words more in its file;
// nothing runs yet.
func syncing(t *testing.T, words string, names ...string) *sim {
	s := newSim(t, names...)
	for _, n := range s.all() {
		n.disk = "sync=10s " + words + " cable=2 nodes=" + strings.Join(names, ",")
	}
	return s
}

// inSync returns one whose nodes are in sync, r1 is master.
func inSync(t *testing.T, words string, names ...string) *sim {
	s := syncing(t, words, names...)
	s.boot(names...)
	s.run(3 * time.Second)
	s.master("r1")
	for _, n := range s.all() {
		n.flows.story = nil
	}
	return s
}

// did compares what a node did with flows and addresses, in order.
func (s *sim) did(node string, want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.nodes[node].flows.story); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s\n%s", node, diff, strings.Join(s.log, "\n"))
	}
}

func (s *sim) alarms(node string) (out []string) {
	for _, a := range s.nodes[node].m.Status(s.now).Alarms {
		out = append(out, a.Code+" "+a.Subject)
	}
	return out
}

func (s *sim) logs(part string) bool {
	return slices.ContainsFunc(s.log, func(l string) bool { return strings.Contains(l, part) })
}

// answered fails the test unless a command ended so; "" means done.
func (s *sim) answered(answer func() (string, bool), want string) {
	s.t.Helper()
	if text, ok := answer(); !ok || want == "" && text != "" || !strings.Contains(text, want) {
		s.t.Errorf("answered %v %q, want %q\n%s", ok, text, want, strings.Join(s.log, "\n"))
	}
}

func TestFlowsAreTakenBeforeTheAddresses(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	before := s.nodes["r1"].flows.owned
	s.nodes["r2"].flows.takes = 50 * time.Millisecond
	at := s.now
	s.power("r1")
	s.run(time.Second)
	s.master("r2")
	s.did("r2", "take", "add")
	if n := s.nodes["r2"]; n.flows.owned <= before {
		t.Errorf("r2 took term %d after %d", n.flows.owned, before)
	}
	none, _ := s.coverage(at)
	within(t, "nobody holds the addresses", none, 400*time.Millisecond)
	if none < 300*time.Millisecond {
		t.Errorf("the addresses came after %v: before the flows", none)
	}
}

func TestHandoverTakesTheFlowsAlong(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	at := s.now
	answer := s.command("r2", VerbFailover, "r2")
	s.run(200 * time.Millisecond)
	s.answered(answer, "")
	s.master("r2")
	s.did("r1", "flush to r2", "handover", "remove", "yield")
	s.did("r2", "take", "add")
	a, b := s.nodes["r1"].m, s.nodes["r2"].m
	if yielded := s.nodes["r1"].flows.yielded; a.owned != 0 || b.owned == 0 || yielded != b.owned {
		t.Errorf("r1 owns %d and yielded to %d, r2 owns %d", a.owned, yielded, b.owned)
	}
	none, double := s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
	within(t, "two hold them", double, 10*time.Millisecond)
}

// TestSlowTake: the flows of a big table take a second. No third node may jump
// in, and a hand-over waits for it.
func TestSlowTake(t *testing.T) {
	t.Run("crash", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2", "r3")
		s.nodes["r2"].flows.takes = time.Second
		s.power("r1")
		s.run(5 * time.Second)
		s.master("r2")
		s.did("r2", "take", "add")
		s.did("r3")
	})
	t.Run("hand-over", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2", "r3")
		s.nodes["r2"].flows.takes = 1500 * time.Millisecond // and the machine is busy
		at := s.now
		answer := s.command("r1", VerbFailover, "r2")
		s.run(5 * time.Second)
		s.answered(answer, "")
		s.master("r2")
		s.did("r2", "take", "add")
		s.did("r3")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 10*time.Millisecond)
	})
	t.Run("the better node is back meanwhile", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.partition("r1", "r2", true)
		s.nodes["r2"].flows.takes = time.Second
		s.run(500 * time.Millisecond) // r2 takes the flows
		s.partition("r1", "r2", false)
		s.run(3 * time.Second)
		s.master("r1")
		s.did("r2", "take", "remove", "yield") // and no addresses
	})
}

func TestFlushThatDoesNotWork(t *testing.T) {
	for name, how := range map[string]flushing{"fails": flushFails, "hangs": flushHangs, "is never answered": flushMute} {
		t.Run("failover/"+name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			s.nodes["r1"].flows.flushs = how
			answer := s.command("r2", VerbFailover, "r2")
			s.run(wishLimit + flushLimit + flushGrace + 100*time.Millisecond)
			s.answered(answer, "did not confirm that it has all connections")
			s.answered(answer, "nothing changed")
			s.run(5 * time.Second)
			s.master("r1")
			tries := len(s.nodes["r1"].flows.story)
			if most := int(wishLimit/wishAgain) + 1; tries < 2 || tries > most {
				t.Errorf("tried %d times, at most %d", tries, most)
			}
			s.did("r2")
		})
		t.Run("failover in the end/"+name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			s.nodes["r1"].flows.flushs = how
			answer := s.command("r2", VerbFailover, "r2")
			s.run(time.Second)
			s.nodes["r1"].flows.flushs = flushWorks
			s.run(time.Second)
			s.answered(answer, "")
			s.master("r2")
		})
		t.Run("stop/"+name, func(t *testing.T) { // it cannot wait
			s := inSync(t, "", "r1", "r2")
			s.nodes["r1"].flows.flushs = how
			at := s.now
			s.command("r1", VerbStop, "")
			s.run(time.Second)
			s.master("r2")
			s.did("r1", "flush to r2", "handover", "remove", "yield")
			none, _ := s.coverage(at)
			within(t, "nobody holds the addresses", none, 0)
			if !s.logs("some may break") {
				t.Errorf("nobody was told:\n%s", strings.Join(s.log, "\n"))
			}
		})
		t.Run("failback/"+name, func(t *testing.T) { // it can wait for ever
			s := inSync(t, "", "r1", "r2")
			s.power("r1")
			s.run(time.Second)
			s.boot("r1")
			s.nodes["r2"].flows.flushs = how
			s.run(40 * time.Second)
			s.master("r2")
			if n := strings.Count(strings.Join(s.log, "\n"), "no hand-over to r1"); n < 2 || n > 5 {
				t.Errorf("tried %d times in 40 s", n)
			}
			s.nodes["r2"].flows.flushs = flushWorks
			s.run(12 * time.Second)
			s.master("r1")
		})
	}
	t.Run("the successor dies", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.nodes["r1"].flows.flushs = flushMute
		s.power("r2")
		s.run(1400 * time.Millisecond)
		s.nodes["r1"].m.sessions["r2"] = SyncSynced // that is noticed later
		s.command("r1", VerbStop, "")
		s.run(2 * time.Second)
		if e := s.nodes["r1"].exit; e == nil || !e.Keep {
			t.Errorf("exit %+v\n%s", e, strings.Join(s.log, "\n"))
		}
	})
}

// TestFailbackWaitsForTheFlows is DESIGN.md §5 row 4.
func TestFailbackWaitsForTheFlows(t *testing.T) {
	returned := func(t *testing.T, words string, syncs time.Duration) *sim {
		s := inSync(t, words, "r1", "r2")
		s.power("r1")
		s.run(5 * time.Second)
		s.nodes["r1"].flows.syncs = syncs
		s.boot("r1")
		return s
	}
	t.Run("until they are there", func(t *testing.T) {
		s := returned(t, "", 6*time.Second)
		s.run(5900 * time.Millisecond)
		s.master("r2")
		at := s.now
		s.run(2 * time.Second)
		s.master("r1")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 10*time.Millisecond)
		if a := s.alarms("r1"); a != nil {
			t.Errorf("alarms %v", a)
		}
	})
	t.Run("alarm", func(t *testing.T) {
		s := returned(t, "", 30*time.Second)
		s.run(9 * time.Second)
		if a := s.alarms("r1"); a != nil {
			t.Errorf("alarms %v before the time is over", a)
		}
		s.run(3 * time.Second)
		s.master("r2")
		for node, want := range map[string]string{"r1": "unsynced r2", "r2": "unsynced r1"} {
			if diff := cmp.Diff([]string{want}, s.alarms(node)); diff != "" {
				t.Errorf("%s: %s", node, diff)
			}
		}
		if !s.logs("r1 stays backup until they are") {
			t.Error("the alarm does not say why r1 is no master")
		}
		s.run(15 * time.Second)
		s.master("r2")
		s.run(5 * time.Second) // in sync
		s.master("r1")
		if a := append(s.alarms("r1"), s.alarms("r2")...); a != nil {
			t.Errorf("alarms %v", a)
		}
	})
	t.Run("preempt_unsynced", func(t *testing.T) {
		s := returned(t, "unsynced", time.Hour)
		s.run(9900 * time.Millisecond)
		s.master("r2")
		at := s.now
		s.run(3 * time.Second)
		s.master("r1")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 10*time.Millisecond)
	})
	t.Run("the master dies", func(t *testing.T) {
		s := returned(t, "", time.Hour)
		s.run(5 * time.Second)
		s.power("r2")
		s.run(time.Second)
		s.master("r1")
	})
}

func TestFailoverToANodeOutOfSync(t *testing.T) {
	t.Run("in a moment", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSyncing})
		answer := s.command("r2", VerbFailover, "")
		s.run(time.Second)
		s.master("r1")
		second := s.command("r2", VerbFailover, "")
		s.run(100 * time.Millisecond)
		s.answered(second, "is under way")
		s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSynced})
		s.run(200 * time.Millisecond)
		s.answered(answer, "")
		s.master("r2")
	})
	t.Run("in a moment, for maintenance", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSyncing})
		answer := s.command("r1", VerbRest, "")
		s.run(time.Second)
		s.master("r1")
		second := s.command("r1", VerbRest, "")
		s.run(100 * time.Millisecond)
		s.answered(second, "is under way")
		s.command("r1", VerbAuto, "") // has nothing to do with it
		s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSynced})
		s.run(200 * time.Millisecond)
		s.answered(answer, "")
		s.master("r2")
		if n := s.nodes["r1"]; !n.m.maintenance || !n.rests {
			t.Errorf("in force %v, remembered %v", n.m.maintenance, n.rests)
		}
	})
	t.Run("maintenance off before that", func(t *testing.T) {
		s := inSync(t, "", "r1", "r2")
		s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSyncing})
		on := s.command("r1", VerbRest, "")
		s.run(time.Second)
		off := s.command("r1", VerbServe, "")
		s.run(100 * time.Millisecond)
		s.answered(on, "maintenance off was asked for")
		s.answered(off, "")
		s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSynced})
		s.run(5 * time.Second)
		s.master("r1")
		if n := s.nodes["r1"]; n.m.maintenance || n.rests {
			t.Errorf("in force %v, remembered %v", n.m.maintenance, n.rests)
		}
	})
	for name, ends := range map[string]struct {
		do   func(s *sim)
		want string
	}{
		"the master leaves":       {func(s *sim) { s.command("r1", VerbStop, "") }, "is master no more"},
		"the other one dies":      {func(s *sim) { s.power("r2") }, "is not heard any more"},
		"the operator forgoes it": {func(s *sim) { s.command("r1", VerbAuto, "") }, "follow the priorities"},
	} {
		t.Run(name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			s.nodes["r1"].handle(Synced{Node: "r2", State: SyncSyncing})
			answer := s.command("r1", VerbFailover, "")
			ends.do(s)
			s.run(2 * time.Second)
			s.answered(answer, ends.want)
		})
	}
	for state, want := range map[SyncState]string{SyncSyncing: "has not received all connections yet", SyncStale: "", SyncConnecting: "", SyncOff: ""} {
		t.Run(string(state), func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			s.nodes["r1"].handle(Synced{Node: "r2", State: state})
			for _, verb := range []Verb{VerbFailover, VerbRest} {
				answer := s.command("r1", verb, "")
				s.run(200 * time.Millisecond)
				if want != "" { // it waits first
					s.run(wishLimit)
				}
				s.answered(answer, want)
				if want != "" {
					s.answered(answer, "nothing changed")
					s.master("r1")
					continue
				}
				s.master("r2")
				s.did("r1", "handover", "remove", "yield")
				if !s.logs("although the connections are not in sync") {
					t.Error("there is no record of it")
				}
				return
			}
		})
	}
}

// TestUplinkMovesTheRoleToANodeInSync is DESIGN.md §5 row 6.
func TestUplinkMovesTheRoleToANodeInSync(t *testing.T) {
	for name, c := range map[string]struct {
		state SyncState
		dead  []string
		want  string
	}{
		"in sync":                  {SyncSynced, []string{"dsl"}, "r2"},
		"not in sync":              {SyncSyncing, []string{"dsl"}, "r1"},
		"not in sync, all uplinks": {SyncSyncing, []string{"dsl", "cable"}, "r2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			for _, n := range s.all() { // nobody tells of a change any more
				for o := range n.flows.states {
					n.flows.states[o] = SyncSynced
				}
			}
			s.nodes["r1"].handle(Synced{Node: "r2", State: c.state})
			s.nodes["r2"].handle(Synced{Node: "r1", State: c.state})
			for _, u := range c.dead {
				s.nodes["r1"].blind[u] = true
			}
			s.run(6 * time.Second)
			s.master(c.want)
		})
	}
}

// TestNodesThatDoNotSync: one of an older version, or with the switch off, says
// nothing of flows; all is as it was before there was a replication.
func TestNodesThatDoNotSync(t *testing.T) {
	for _, old := range []string{"r1", "r2"} {
		t.Run(old, func(t *testing.T) {
			s := syncing(t, "", "r1", "r2")
			s.nodes[old].disk = "cable=2 nodes=r1,r2"
			s.boot("r1", "r2")
			s.run(3 * time.Second)
			s.master("r1")
			answer := s.command("r1", VerbFailover, "r2")
			s.run(100 * time.Millisecond)
			s.answered(answer, "")
			s.master("r2")
			answer = s.command("r1", VerbAuto, "")
			s.run(5 * time.Second)
			s.answered(answer, "")
			s.master("r1")
			s.power("r1")
			s.run(time.Second)
			s.master("r2")
			s.boot("r1")
			s.run(4 * time.Second)
			s.master("r1")
			s.run(15 * time.Second)
			if a := s.alarms("r1"); slices.Contains(a, "unsynced r2") {
				t.Errorf("alarms %v", a)
			}
			if s.nodes[old].flows.story != nil {
				t.Errorf("%s, which replicates nothing, did %v", old, s.nodes[old].flows.story)
			}
		})
	}
}

// TestTwoMastersMeet: the flows go with the one that stays, whose term is the
// highest then, also where the other one took over later.
func TestTwoMastersMeet(t *testing.T) {
	s := inSync(t, "", "r1", "r2", "r3")
	s.partition("r1", "r2", true)
	s.partition("r1", "r3", true)
	s.run(3 * time.Second)
	s.master("r1+r2")
	if a, b := s.nodes["r1"].m.owned, s.nodes["r2"].m.owned; b <= a {
		t.Errorf("terms %d and %d", a, b)
	}
	for _, n := range s.all() {
		clear(n.lost)
		n.deaf = false
	}
	healed := s.now
	s.run(3 * time.Second)
	s.master("r1")
	if s.nodes["r1"].graced.Before(healed) {
		t.Error("no grace for TCP that went through the other one until now")
	}
	s.did("r2", "take", "add", "remove", "yield")
	s.did("r1", "take")
	for _, n := range s.all() {
		if n.m.term != s.nodes["r1"].m.owned {
			t.Errorf("%s knows of term %d, r1 owns %d", n.name, n.m.term, s.nodes["r1"].m.owned)
		}
	}
}

// TestGaveWay is the word of a master that gave way, ahead of its state.
func TestGaveWay(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	m := s.nodes["r1"].m
	other := m.owned + 5
	s.nodes["r1"].handle(Told{From: "r2", Message: Message{Kind: KindGaveWay, Term: other}})
	s.did("r1", "take")
	if m.owned != other+1 {
		t.Errorf("owns term %d, the other one had %d", m.owned, other)
	}
}

// TestEqualTerms: another node took the flows in the same term while they were apart,
// and has given way.
func TestEqualTerms(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	m := s.nodes["r1"].m
	state, both := m.peers["r2"].state, m.owned
	state.Term = both
	s.nodes["r1"].handle(PeerTold{State: state})
	s.did("r1", "take")
	if m.owned <= both {
		t.Errorf("owns term %d, the other one had %d too", m.owned, both)
	}
}

// TestTermsGrow over lives of the nodes, none of which remembers.
func TestTermsGrow(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	last := s.nodes["r1"].flows.owned
	for _, turn := range []struct{ off, on string }{{"r1", "r2"}, {"r2", "r1"}, {"r1", "r2"}} {
		s.boot(turn.on)
		s.run(20 * time.Second)
		s.power(turn.off)
		s.run(time.Second)
		s.master(turn.on)
		if got := s.nodes[turn.on].flows.owned; got <= last {
			t.Errorf("term %d after %d", got, last)
		}
		last = s.nodes[turn.on].flows.owned
	}
	s.nodes["r2"].handle(Told{From: "r1", Message: Message{Kind: KindGaveWay, Term: 1<<64 - 1}})
	if got := s.nodes["r2"].m.term; got != last {
		t.Errorf("term %d at the word of a node that is out of its mind", got)
	}
}

// TestReloadTurnsSyncOnAndOff while the roles stay.
func TestReloadTurnsSyncOnAndOff(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	reload := func(text string) {
		for _, n := range s.all() {
			n.disk = text
			n.seen()
		}
		answer := s.command("r1", VerbReload, "")
		s.run(3 * time.Second)
		s.answered(answer, "")
		s.master("r1")
	}
	reload("cable=2 nodes=r1,r2")
	if m := s.nodes["r1"].m; m.owned != 0 || m.state(s.now).Sync {
		t.Errorf("off: owns term %d, tells %v", m.owned, m.state(s.now).Sync)
	}
	s.did("r1")
	reload("sync=10s cable=2 nodes=r1,r2")
	s.did("r1", "take")
	if diff := cmp.Diff(SyncSynced, s.nodes["r1"].m.Status(s.now).ConntrackSync.Peers[0].State); diff != "" {
		t.Error(diff)
	}
}

// TestShortPartition: too short for anybody to be taken for dead, so that the
// sessions go on, and still long enough for the backup to take over. The one
// that stays is right about the flows too, whoever took them last.
func TestShortPartition(t *testing.T) {
	for _, names := range [][]string{{"r1", "r2"}, {"r1", "r2", "r3"}} {
		for _, master := range []string{"r1", "r2"} {
			for d := 100 * time.Millisecond; d <= 2*time.Second; d += 150 * time.Millisecond {
				t.Run(fmt.Sprint(len(names), " nodes, ", master, " is master, ", d), func(t *testing.T) {
					s := inSync(t, "", names...)
					if master != "r1" {
						s.command("r1", VerbFailover, master)
						s.run(time.Second)
						s.master(master)
					}
					for _, n := range s.all() {
						n.flows.apart = true
						if n.name != master {
							s.partition(master, n.name, true)
						}
					}
					s.run(d)
					for _, n := range s.all() {
						clear(n.lost)
						n.deaf = false
					}
					healed := s.now
					s.run(1200 * time.Millisecond)
					var owner *simNode
					for _, n := range s.all() {
						if n.m.Role() == RoleMaster {
							if owner != nil {
								t.Fatalf("both %s and %s are master\n%s", owner.name, n.name, strings.Join(s.log, "\n"))
							}
							owner = n
						}
					}
					if owner == nil {
						t.Fatalf("nobody is master\n%s", strings.Join(s.log, "\n"))
					}
					for _, n := range s.all() {
						f := &n.flows
						switch {
						case n == owner && (f.owned == 0 || f.owned != n.m.owned):
							t.Errorf("%s, the master, owns the flows in term %d, it thinks %d", n.name, f.owned, n.m.owned)
						case n != owner && f.owned != 0:
							t.Errorf("%s, a backup, owns the flows in term %d", n.name, f.owned)
						case n.m.term > owner.flows.owned:
							t.Errorf("%s knows of term %d, %s owns %d", n.name, n.m.term, owner.name, owner.flows.owned)
						case n != owner && f.yielded > owner.flows.owned:
							t.Errorf("%s yielded to term %d, %s owns %d", n.name, f.yielded, owner.name, owner.flows.owned)
						}
					}
					if t.Failed() {
						t.Logf("healed at %v\n%s", healed.Sub(s.start), strings.Join(s.log, "\n"))
					}
				})
			}
		}
	}
}
