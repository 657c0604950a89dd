package ha

import (
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/balancer"
	"harouter/vrrp"
)

func adv(priority uint8) vrrp.Advert {
	return vrrp.Advert{VRID: 51, Priority: priority, Interval: 100 * time.Millisecond}
}

func booted(t *testing.T, names ...string) *sim {
	s := newSim(t, names...)
	s.boot(names...)
	s.run(3 * time.Second)
	s.master("r1")
	return s
}

func within(t *testing.T, what string, got, limit time.Duration) {
	t.Helper()
	if got > limit {
		t.Errorf("%s: %v, at most %v", what, got, limit)
	}
}

func TestLoneNodeBecomesMaster(t *testing.T) {
	s := newSim(t, "r1", "r2")
	s.boot("r2")
	s.run(seekFor)
	s.master("") // it looks for r1 first
	s.run(3*100*time.Millisecond + 42*time.Millisecond + 5*time.Millisecond)
	s.master("r2")
}

func TestCrash(t *testing.T) {
	s := booted(t, "r1", "r2")
	at := s.now
	s.power("r1")
	s.run(time.Second)
	s.master("r2")
	none, double := s.coverage(at)
	within(t, "nobody holds the addresses", none, 350*time.Millisecond)
	within(t, "two hold them", double, 0)
	hash := s.nodes["r2"].m.planHash
	if hash != s.nodes["r1"].m.planHash {
		t.Error("the takeover changed the plan hash")
	}
	if st := s.nodes["r2"].m.Status(s.now.Add(time.Second)); st.Nodes[0].Alive || st.Nodes[0].Role != RoleUnknown {
		t.Errorf("the dead node is shown as %+v", st.Nodes[0])
	}
}

func TestFailoverHasNoGapAndHolds(t *testing.T) {
	s := booted(t, "r1", "r2")
	for _, asked := range []string{"r1", "r2"} {
		at := s.now
		answer := s.command(asked, VerbFailover, "r2")
		s.run(100 * time.Millisecond)
		if text, ok := answer(); !ok || text != "" {
			t.Fatalf("asked on %s: answered %v %q\n%s", asked, ok, text, strings.Join(s.log, "\n"))
		}
		s.master("r2")
		s.run(30 * time.Second)
		s.master("r2") // held against the better priority
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 10*time.Millisecond)

		at = s.now
		answer = s.command(asked, VerbAuto, "")
		s.run(100 * time.Millisecond)
		if text, ok := answer(); !ok || text != "" {
			t.Fatalf("--auto: answered %v %q", ok, text)
		}
		s.run(5 * time.Second)
		s.master("r1")
		none, double = s.coverage(at)
		within(t, "failback: nobody holds the addresses", none, 0)
		within(t, "failback: two hold them", double, 10*time.Millisecond)
	}
}

func TestFailoverThatCannotBe(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.power("r2")
	s.run(3 * time.Second)
	for to, want := range map[string]string{"r2": "cannot take over", "": "no other node", "r9": "no node is called"} {
		answer := s.command("r1", VerbFailover, to)
		s.run(2 * time.Second)
		if text, ok := answer(); !ok || !strings.Contains(text, want) || !strings.Contains(text, "nothing changed") {
			t.Errorf("failover to %q: %v %q, want %q", to, ok, text, want)
		}
		s.master("r1")
	}
}

func TestHandoverToANodeThatJustDied(t *testing.T) {
	s := booted(t, "r1", "r2")
	at := s.now
	s.power("r2")
	answer := s.command("r1", VerbFailover, "r2")
	s.run(3 * time.Second)
	if text, ok := answer(); !ok || !strings.Contains(text, "nothing changed") {
		t.Errorf("answered %v %q", ok, text)
	}
	s.master("r1")
	none, _ := s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
}

func TestStop(t *testing.T) {
	s := booted(t, "r1", "r2")
	at := s.now
	s.command("r1", VerbStop, "")
	s.run(100 * time.Millisecond)
	s.master("r2")
	s.run(2 * time.Second)
	if e := s.nodes["r1"].exit; e == nil || e.Keep {
		t.Fatalf("exit: %+v", e)
	}
	none, double := s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
	within(t, "two hold them", double, 10*time.Millisecond)

	s.command("r2", VerbStop, "") // alone now: the addresses stay
	s.run(3 * time.Second)
	if e := s.nodes["r2"].exit; e == nil || !e.Keep {
		t.Fatalf("exit of the last node: %+v", e)
	}
	if !s.nodes["r2"].holds {
		t.Error("the last node took its addresses away")
	}
	s.boot("r2") // and adopts them
	at = s.now
	s.run(2 * time.Second)
	s.master("r2")
	none, _ = s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
}

// TestBothStop stops both nodes, the second at any moment of the first one's
// leave: in the end exactly one guard holds the addresses.
func TestBothStop(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"r1", "r2"} {
		second := map[string]string{"r1": "r2", "r2": "r1"}[first]
		for gap := time.Duration(0); gap < 1600*time.Millisecond; gap += 13 * time.Millisecond {
			s := booted(t, "r1", "r2")
			s.command(first, VerbStop, "")
			s.run(gap)
			s.command(second, VerbStop, "")
			s.run(5 * time.Second)
			holders := 0
			for _, n := range s.nodes {
				if n.running {
					t.Fatalf("%s stops %v after %s: %s still runs\n%s", second, gap, first, n.name, strings.Join(s.log, "\n"))
				}
				if n.holds {
					holders++
				}
			}
			if holders != 1 {
				t.Fatalf("%s stops %v after %s: %d nodes hold the addresses\n%s", second, gap, first, holders, strings.Join(s.log, "\n"))
			}
		}
	}
}

func TestLeftoverAddressesGoWhenAnotherIsMaster(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.nodes["r2"].hold(true)
	s.boot("r2")
	s.run(200 * time.Millisecond)
	if s.nodes["r2"].holds {
		t.Error("a backup kept the addresses of its former self")
	}
	s.master("r1")
}

func TestLanPortDies(t *testing.T) {
	for _, ports := range [][]string{{"lan0"}, {"lan0", "lan1"}} {
		s := booted(t, "r1", "r2")
		at := s.now
		for _, p := range ports {
			s.nodes["r1"].carrier(p, false)
		}
		s.run(20 * time.Millisecond)
		s.master("r2")
		s.run(10 * time.Second)
		s.master("r2")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 10*time.Millisecond)
		within(t, "two hold them", double, 3*time.Millisecond)
		if len(ports) == 2 && s.nodes["r1"].m.Role() != RoleFault {
			t.Errorf("without any lan r1 is %v", s.nodes["r1"].m.Role())
		}
		if text := strings.Join(s.log, "\n"); len(ports) == 1 && strings.Contains(text, "fault") {
			t.Errorf("r1, which could serve, was in fault:\n%s", text)
		}
		for _, p := range ports {
			s.nodes["r1"].carrier(p, true)
		}
		s.run(8 * time.Second)
		s.master("r1")
	}
}

func TestPartitionHeals(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.partition("r1", "r2", true)
	s.run(3 * time.Second)
	s.master("r1+r2")
	s.partition("r1", "r2", false)
	s.run(200 * time.Millisecond)
	s.master("r1")
	s.run(5 * time.Second)
	s.master("r1")
}

func TestThreeNodesDieOneAfterTheOther(t *testing.T) {
	s := booted(t, "r1", "r2", "r3")
	s.power("r1")
	s.run(time.Second)
	s.master("r2")
	s.power("r2")
	s.run(time.Second)
	s.master("r3")
	s.boot("r1", "r2")
	s.run(10 * time.Second)
	s.master("r1")
}

func TestBetterNodeReturnsAfterDelay(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.power("r1")
	s.run(5 * time.Second)
	s.boot("r1")
	s.run(1900 * time.Millisecond)
	s.master("r2")
	at := s.now
	s.run(2 * time.Second)
	s.master("r1")
	none, double := s.coverage(at)
	within(t, "nobody holds the addresses", none, 0)
	within(t, "two hold them", double, 10*time.Millisecond)
}

func TestUplinkDiesForAll(t *testing.T) {
	s := booted(t, "r1", "r2")
	transitions := s.nodes["r1"].m.transitions
	s.kill("dsl", true)
	s.run(time.Second)
	s.master("r1")
	if got := s.nodes["r1"].m.transitions; got != transitions {
		t.Errorf("the role changed")
	}
	for _, name := range []string{"r1", "r2"} {
		n := s.nodes[name]
		if n.m.pool["dsl"] || n.m.verdicts["dsl"] != balancer.Down {
			t.Errorf("%s still uses the dead uplink", name)
		}
		if !slices.Contains(n.deleted, "dsl") || slices.Contains(n.deleted, "cable") {
			t.Errorf("%s ended the flows of %v", name, n.deleted)
		}
		if told := slices.Contains(n.toldOf, "dsl"); told != (name == "r1") { // the master
			t.Errorf("%s told hosts of %v", name, n.toldOf)
		}
	}
	if a, b := s.nodes["r1"].m.planHash, s.nodes["r2"].m.planHash; a != b {
		t.Errorf("plan hashes differ: %s %s", a, b)
	}
	s.run(2 * time.Second)
	if n := len(s.nodes["r1"].deleted); n != 2 {
		t.Errorf("%d deletions, want two: at once and a sweep", n)
	}
	s.kill("dsl", false)
	s.run(time.Second)
	if !s.nodes["r1"].m.pool["dsl"] || !s.nodes["r2"].m.pool["dsl"] {
		t.Error("the uplink that returned is not in the pool")
	}
}

func TestLastUplinkIsNotWithdrawn(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.kill("dsl", true)
	s.run(time.Second)
	s.nodes["r1"].deleted, s.nodes["r2"].deleted = nil, nil
	applied := s.nodes["r1"].applied
	s.run(2 * time.Second)
	s.nodes["r1"].deleted = nil
	s.kill("cable", true)
	s.run(3 * time.Second)
	n := s.nodes["r1"]
	if !n.m.pool["cable"] || len(n.deleted) > 0 {
		t.Errorf("pool %v, deleted %v", n.m.pool, n.deleted)
	}
	if n.applied > applied+1 { // the verdict is part of the plan's input
		t.Errorf("%d plans for nothing", n.applied-applied)
	}
	if st := n.m.Status(s.now); len(st.Alarms) != 1 || st.Alarms[0].Code != AlarmNoUplink {
		t.Errorf("alarms: %+v", st.Alarms)
	}
	s.kill("cable", false)
	s.run(2 * time.Second)
	if st := n.m.Status(s.now); len(st.Alarms) != 0 {
		t.Errorf("alarms: %+v", st.Alarms)
	}
}

func TestConfigDiffers(t *testing.T) {
	s := newSim(t, "r1", "r2")
	s.nodes["r2"].disk = file1
	s.boot("r1", "r2")
	s.run(2 * time.Second)
	st := s.nodes["r1"].m.Status(s.now)
	if st.Config.InSync || len(st.Alarms) != 1 || st.Alarms[0].Code != AlarmConfigDiffers {
		t.Errorf("in sync %v, alarms %+v", st.Config.InSync, st.Alarms)
	}
}

func TestUnknownSenderIsCountedNotObeyed(t *testing.T) {
	s := booted(t, "r1", "r2")
	n := s.nodes["r1"]
	for range 80 {
		n.handle(Advert{Link: "office", Source: addr("192.168.77.66"), Advert: adv(254)})
		s.run(20 * time.Millisecond)
	}
	s.master("r1")
	st := n.m.Status(s.now)
	if st.Drops.VRRP["sender"] != 80 || len(st.Alarms) != 1 || st.Alarms[0].Code != AlarmForeignVRRP {
		t.Errorf("drops %v, alarms %+v", st.Drops.VRRP, st.Alarms)
	}
	s.run(11 * time.Second)
	if st := n.m.Status(s.now); len(st.Alarms) != 0 {
		t.Errorf("the alarm stays: %+v", st.Alarms)
	}
}

// TestFightIsAnAlarm: repairs of a fight are told by one alarm, which goes soon
// after the last of them, and not by an event each.
func TestFightIsAnAlarm(t *testing.T) {
	s := booted(t, "r1", "r2")
	n := s.nodes["r1"]
	events := 0
	for range 60 {
		for _, a := range n.m.Handle(Repaired{Kind: "address", What: "192.168.77.1/24 on lan0"}, s.now) {
			if r, ok := a.(Record); ok && r.Kind == "repair" {
				events++
			}
		}
		s.run(2 * time.Second)
	}
	if st := n.m.Status(s.now); len(st.Alarms) != 1 || st.Alarms[0].Code != AlarmFoughtOver || st.Alarms[0].Subject != "address" {
		t.Errorf("alarms %+v", st.Alarms)
	}
	if events != fightFew+1 {
		t.Errorf("%d events for 60 repairs, want %d", events, fightFew+1)
	}
	s.run(6 * time.Second)
	if st := n.m.Status(s.now); len(st.Alarms) != 0 {
		t.Errorf("eight seconds later: %+v", st.Alarms)
	}
}

func TestGuardKnowsWhatToDo(t *testing.T) {
	s := booted(t, "r1", "r2")
	if g := s.nodes["r1"].guard; !g.Holding || !g.PeerAlive || len(g.Senders) == 0 {
		t.Errorf("master: %+v", g)
	}
	if g := s.nodes["r2"].guard; g.Holding {
		t.Errorf("backup: %+v", g)
	}
	s.power("r2")
	s.run(3 * time.Second)
	if g := s.nodes["r1"].guard; !g.Holding || g.PeerAlive {
		t.Errorf("alone: %+v", g)
	}
}

func TestOldMasterLingersThenDropsNewFlows(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.command("r1", VerbFailover, "r2")
	s.run(500 * time.Millisecond)
	if !s.nodes["r1"].active || !s.nodes["r2"].active {
		t.Error("during a hand-over both take new flows")
	}
	s.run(time.Second)
	if s.nodes["r1"].active {
		t.Error("a backup takes new flows")
	}
	s.power("r2")
	s.run(time.Second)
	if !s.nodes["r1"].active {
		t.Error("a master takes no new flows")
	}
}

// TestDeviceMadeAnew: it has the same name, carrier and addresses, but no
// routes any more.
func TestDeviceMadeAnew(t *testing.T) {
	s := booted(t, "r1", "r2")
	n := s.nodes["r2"]
	for _, c := range []struct {
		name    string
		index   int
		applies int
	}{{"first seen with an index", 7, 1}, {"the same", 7, 0}, {"another one", 8, 1}} {
		before := n.applied
		for device, l := range n.links {
			l.Index = c.index
			n.links[device] = l
		}
		n.linksChanged()
		s.run(100 * time.Millisecond)
		if got := n.applied - before; got != c.applies {
			t.Errorf("%s: %d plans applied, want %d", c.name, got, c.applies)
		}
	}
}
