package ha

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"harouter/balancer"
)

// TestLateHandover lets the word that asks for a hand-over arrive after the
// master gave it up, before or after the word that says so, or twice: nobody is
// master beside it for longer than an advert takes.
func TestLateHandover(t *testing.T) {
	for name, late := range map[string]time.Duration{"just": 1001 * time.Millisecond, "long": 1800 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := strict(t, "r1", "r2")
			at := s.now
			id := s.nodes["r1"].m.nextID + 1
			s.nodes["r2"].lost["r1"] = true
			answer := s.command("r1", VerbFailover, "r2")
			s.run(10 * time.Millisecond)
			s.nodes["r2"].lost["r1"] = name == "just" // the cancel is lost for now too
			s.run(at.Add(late).Sub(s.now))
			handover := Message{Kind: KindHandover, ID: id, Hold: true}
			s.nodes["r2"].lost["r1"] = false
			s.nodes["r2"].handle(Told{From: "r1", Message: handover})
			if name == "just" {
				s.run(3 * time.Millisecond)
				s.nodes["r2"].handle(Told{From: "r1", Message: Message{Kind: KindCancel, ID: id}})
			}
			s.run(time.Second)
			if text, ok := answer(); !ok || text == "" {
				t.Errorf("answered %v %q", ok, text)
			}
			s.master("r1")
			_, double := s.coverage(at)
			within(t, "two hold them", double, 110*time.Millisecond)
		})
	}
}

func TestHandoverThatArrivesTwice(t *testing.T) {
	s := strict(t, "r1", "r2")
	at := s.now
	id := s.nodes["r1"].m.nextID + 1
	answer := s.command("r1", VerbFailover, "r2")
	s.run(simDelay + time.Millisecond)
	s.nodes["r2"].handle(Told{From: "r1", Message: Message{Kind: KindHandover, ID: id, Hold: true}})
	s.run(time.Second)
	if text, ok := answer(); !ok || text != "" {
		t.Errorf("answered %v %q", ok, text)
	}
	s.master("r2")
	_, double := s.coverage(at)
	within(t, "two hold them", double, 10*time.Millisecond)
}

// TestFencedTooLate: the guard's word may come when this node is a backup again,
// which is then in no doubt.
func TestFencedTooLate(t *testing.T) {
	s := booted(t, "r1", "r2")
	n := s.nodes["r2"]
	n.handle(Fenced{})
	s.run(time.Second)
	if !n.m.Awake() {
		t.Error("a backup doubts its role for ever")
	}
}

// TestAlarmsFollowTheFile: what the causes were of may be gone.
func TestAlarmsFollowTheFile(t *testing.T) {
	s := booted(t, "r1", "r2")
	m := s.nodes["r1"].m
	codes := func() (out []string) {
		for _, a := range m.Status(s.now).Alarms {
			out = append(out, a.Code+" "+a.Subject)
		}
		return out
	}
	lans := m.cfg.Balancer.Lans
	m.cfg.Balancer.Lans = []balancer.Lan{{Name: "cable", Device: "lan9", Virtual: prefixes("192.0.2.9/24")}}
	m.settleAlarms(s.now)
	if got := fmt.Sprint(codes()); got != "[one_witness cable]" {
		t.Fatalf("alarms: %v", got)
	}
	m.cfg.Balancer.Lans = lans
	m.settleAlarms(s.now)
	if got := codes(); len(got) > 0 {
		t.Errorf("alarms: %v", got)
	}

	for i := range maxSubjects + 2 { // each has its end
		m.Handle(Condition{On: true, Code: AlarmPortsFull, Subject: fmt.Sprint("isp", i)}, s.now)
	}
	for i := range maxSubjects + 2 {
		m.Handle(Condition{Code: AlarmPortsFull, Subject: fmt.Sprint("isp", i)}, s.now)
	}
	if got := codes(); len(got) > 0 {
		t.Errorf("alarms: %v", got)
	}

	s.kill("cable", true)
	s.kill("dsl", true)
	s.run(2 * time.Second)
	if got := fmt.Sprint(codes()); got != "[no_uplink all]" {
		t.Fatalf("alarms: %v", got)
	}
	old := m.cfg
	m.cfg.Balancer.Uplinks = nil
	m.reconfigure(old, s.now)
	m.settle(s.now)
	if got := codes(); len(got) > 0 {
		t.Errorf("alarms: %v", got)
	}
}

// TestUplinkIsRenamed: the new one has the id of the old, whose flows end; the
// sweep after that spares the new one's.
func TestUplinkIsRenamed(t *testing.T) {
	for name, tc := range map[string]struct {
		uplink balancer.Uplink
		want   int // deletions
	}{
		"renamed":    {balancer.Uplink{Name: "fiber", ID: 2}, 1},
		"renumbered": {balancer.Uplink{Name: "dsl", ID: 3}, 2},
		"removed":    {balancer.Uplink{}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := booted(t, "r1")
			n := s.nodes["r1"]
			without, with := n.m.cfg, n.m.cfg
			without.Hash, with.Hash = "without", "with"
			without.Balancer.Uplinks = without.Balancer.Uplinks[:1]
			if tc.uplink.Name != "" {
				u := n.m.cfg.Balancer.Uplinks[1]
				u.Name, u.ID = tc.uplink.Name, tc.uplink.ID
				with.Balancer.Uplinks = append(append([]balancer.Uplink{}, without.Balancer.Uplinks...), u)
				with.Probes = map[string]balancer.ProbeConfig{}
			} else {
				with = without
			}
			n.handle(Reconfigured{Config: without})
			n.handle(Reconfigured{Config: with})
			s.run(3 * time.Second)
			if len(n.deleted) != tc.want {
				t.Errorf("deleted %v, want %d", n.deleted, tc.want)
			}
		})
	}
}

// TestDevicesOfAnOldFile are not told as this node's any more.
func TestDevicesOfAnOldFile(t *testing.T) {
	s := booted(t, "r1", "r2")
	n := s.nodes["r1"]
	before := len(n.m.state(s.now).Addresses)
	n.m.cfg.Balancer.Uplinks = n.m.cfg.Balancer.Uplinks[:1]
	delete(n.links, "wan2")
	n.linksChanged()
	if got := len(n.m.state(s.now).Addresses); got != before-1 {
		t.Errorf("%d addresses, before %d", got, before)
	}
}

// TestReloadAddsALan: the nodes take it into use one a moment after the other,
// and look at its device another moment later. That is no reason to move.
func TestReloadAddsALan(t *testing.T) {
	for _, first := range []string{"r1", "r2"} {
		s := newSim(t, "r1", "r2")
		for _, n := range s.all() {
			n.disk = "single " + file0
		}
		c := newChaos(s, 0, menu{})
		c.boot("r1", "r2")
		links := map[string]Link{}
		for _, n := range s.all() {
			links[n.name] = n.links["lan1"]
			delete(n.links, "lan1")
			n.linksChanged()
		}
		s.run(3 * time.Second)
		s.master("r1")
		at := s.now
		for name, n := range s.nodes {
			if name != first { // its worker is busy
				c.work(n, "files", 200*time.Millisecond, func() {})
			}
		}
		s.write(file0, "r1", "r2")
		answer := s.command(first, VerbReload, "")
		for _, name := range []string{first, map[string]string{"r1": "r2", "r2": "r1"}[first]} {
			s.run(150 * time.Millisecond)
			n := s.nodes[name]
			n.links["lan1"] = links[name]
			n.linksChanged()
		}
		s.run(2 * time.Second)
		if text, ok := answer(); !ok || text != "" {
			t.Fatalf("answered %v %q", ok, text)
		}
		s.agreed(file0, 1)
		if n := s.nodes["r1"].m.transitions; n != 1 {
			t.Errorf("r1 changed its role %d times", n)
		}
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 0)
	}
}

// TestReloadAddsAnUplink: it works with the first good round, not only after as
// many as an outage wants.
func TestReloadAddsAnUplink(t *testing.T) {
	s := strict(t, "r1")
	n := s.nodes["r1"]
	wan2 := n.links["wan2"]
	s.write("only cable=2 nodes=r1", "r1")
	s.reload("r1", "")
	delete(n.links, "wan2")
	n.linksChanged()
	s.write("cable=2 nodes=r1", "r1")
	n.handle(Command{ID: 1, Verb: VerbReload})
	s.run(10 * time.Millisecond)
	n.links["wan2"] = wan2
	n.linksChanged()
	if v := n.m.health["dsl"].Verdict(); v != balancer.Unknown {
		t.Errorf("new, and %v", v)
	}
}

// TestStopEndsAnOffer: who promised something to a node that leaves need not wait.
func TestStopEndsAnOffer(t *testing.T) {
	s := strict(t, "r1", "r2")
	s.write(file1, "r1", "r2")
	answer := s.command("r1", VerbReload, "")
	s.run(simWork + simDelay + time.Millisecond)
	s.command("r1", VerbStop, "")
	s.run(simWork)
	if text, ok := answer(); !ok || text == "" || s.nodes["r2"].m.pledge != nil {
		t.Errorf("answered %v %q, pledge %+v", ok, text, s.nodes["r2"].m.pledge)
	}
}

// TestLostPathIsNotTheLansAlarm: two causes of one code do not end each other.
func TestLostPathIsNotTheLansAlarm(t *testing.T) {
	s := booted(t, "r1", "r2")
	n := s.nodes["r1"]
	n.handle(Condition{Code: AlarmOneWitness, Subject: "r2", Text: "a path is lost", On: true})
	s.run(time.Second)
	if !hasAlarm(n.m.Status(s.now), AlarmOneWitness) {
		t.Error("the alarm of a lost path went by itself")
	}
	n.handle(Condition{Code: AlarmOneWitness, Subject: "r2"})
	if hasAlarm(n.m.Status(s.now), AlarmOneWitness) {
		t.Error("the alarm of a lost path stays")
	}
}

func hasAlarm(s Status, code string) bool {
	return slices.ContainsFunc(s.Alarms, func(a Alarm) bool { return a.Code == code })
}

// TestSyncAlarms: what the port of the sessions refuses, and who has it.
func TestSyncAlarms(t *testing.T) {
	s := inSync(t, "", "r1", "r2")
	n := s.nodes["r1"]
	n.m.changedFile = s.now
	key := Dropped{Part: "sync", Reason: "key", Source: addr("192.0.2.2")}
	n.handle(key)
	if got := s.alarms("r1"); got != nil {
		t.Errorf("just after a reload: %v", got)
	}
	s.run(settleFor + time.Millisecond)
	n.handle(Dropped{Part: "sync", Reason: "timeout"})
	n.handle(key)
	port := Condition{On: true, Code: AlarmUnsynced, Subject: "port 192.0.2.1:7947", Text: "taken"}
	n.handle(port)
	s.run(5 * time.Second)
	if got := fmt.Sprint(s.alarms("r1")); got != "[bad_key sync unsynced port 192.0.2.1:7947]" {
		t.Errorf("alarms: %v", got)
	}
	s.run(5 * time.Second)
	port.On = false
	n.handle(port)
	if got := s.alarms("r1"); got != nil {
		t.Errorf("after all: %v", got)
	}
}
