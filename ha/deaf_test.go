package ha

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// simLans are the lans of a cluster whose nodes greet each other.
type simLans struct {
	// broken tells whether a frame from one place does not arrive at another on a
	// lan; places are nodes and hosts.
	broken func(from, to, lan string) bool
	// filtered are lans on which no multicast passes.
	filtered map[string]bool
	hosts    map[string]netip.Addr // all on office
}

func (l *simLans) cut(from, to *simNode, lan string, multicast bool) bool {
	return l.lost(from.name, to.name, lan) || multicast && l.filtered[lan]
}

func (l *simLans) lost(from, to, lan string) bool { return l.broken != nil && l.broken(from, to, lan) }

var simLanDevices = map[string]string{"office": "lan0", "guests": "lan1"}

// greet repeats the greeting for as long as the node lives.
func (n *simNode) greet() {
	life := n.life
	n.s.after(HelloEvery, func() {
		if n.life == life && n.running {
			if !n.stopped && n.strain.frozen.IsZero() {
				n.hello()
				n.gossip()
			}
			n.greet()
		}
	})
}

// onLans carries something to each other node on each lan that both reach.
func (n *simNode) onLans(carry func(o *simNode, lan string)) {
	if !n.cfg.Hello {
		return
	}
	for _, lan := range slices.Sorted(maps.Keys(simLanDevices)) {
		device := simLanDevices[lan]
		for _, o := range n.s.all() {
			if o != n && n.links[device].Carrier && o.links[device].Carrier && !n.s.lans.cut(n, o, lan, false) {
				after := []time.Duration{simDelay}
				if n.s.chaos != nil {
					after = n.s.chaos.advert(n, o, lan)
				}
				for _, d := range after {
					n.s.after(d, func() { carry(o, lan) })
				}
			}
		}
	}
}

// gossip repeats the state there too; chaos has its own.
func (n *simNode) gossip() {
	if n.s.chaos != nil {
		return
	}
	for _, o := range n.s.all() {
		if state := n.greeting; o != n && !o.lost[n.name] && knows(n, o) && n.cfg.Hello && state.Node != "" {
			n.s.after(simDelay, func() { o.handle(PeerTold{State: state}) })
		}
	}
}

func (n *simNode) hello() {
	state := n.greeting
	if state.Node != "" {
		n.onLans(func(o *simNode, lan string) { o.handle(PeerTold{State: state, Lan: lan}) })
	}
}

func (n *simNode) tellWide(to string, msg Message) {
	n.onLans(func(o *simNode, lan string) {
		if o.name == to {
			o.handle(Told{From: n.name, Message: msg, Lan: lan})
		}
	})
}

// look asks hosts, which answer if frames pass both ways.
func (n *simNode) look(a Look) {
	if n.looking == nil {
		n.looking = map[string]Look{}
	}
	was := n.looking[a.Lan]
	n.looking[a.Lan] = a
	if len(was.Hosts) == 0 && len(a.Hosts) > 0 {
		n.ask(a.Lan)
	}
}

func (n *simNode) ask(lan string) {
	hosts := n.looking[lan].Hosts
	if len(hosts) == 0 || !n.running {
		return
	}
	n.handle(Asked{Lan: lan})
	l := &n.s.lans
	for _, name := range slices.Sorted(maps.Keys(l.hosts)) {
		a := l.hosts[name]
		if slices.Contains(hosts, a) && !l.lost(n.name, name, lan) && !l.lost(name, n.name, lan) {
			n.s.after(simDelay, func() { n.handle(Reached{Lan: lan}) })
		}
	}
	n.s.after(300*time.Millisecond, func() { n.ask(lan) })
}

// newDeafSim is a pair whose nodes greet each other; the master knows the hosts
// of office.
func newDeafSim(t *testing.T, file string, hosts ...string) *sim {
	t.Helper()
	s := newSim(t, "r1", "r2")
	s.lans.hosts = map[string]netip.Addr{}
	var all []netip.Addr
	for i, h := range hosts {
		s.lans.hosts[h] = addr(fmt.Sprintf("192.168.77.%d", 100+i))
		all = append(all, s.lans.hosts[h])
	}
	for _, n := range s.all() {
		n.disk = "hello " + file + " nodes=r1,r2"
	}
	s.boot("r1", "r2")
	s.run(2 * time.Second)
	s.nodes["r1"].handle(Hosts{Lan: "office", Seen: all})
	s.run(3 * time.Second)
	s.master("r1")
	return s
}

// alarms are those of a node, by code and subject.
func (n *simNode) alarms() string {
	var out []string
	for k := range n.m.alarms {
		if k.code != AlarmOneWitness {
			out = append(out, k.code+" "+k.subject)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// between is a break of a lan between two groups of places.
func between(lan string, one, other []string) func(from, to, on string) bool {
	return func(from, to, on string) bool {
		return on == lan && (slices.Contains(one, from) && slices.Contains(other, to) || slices.Contains(other, from) && slices.Contains(one, to))
	}
}

func TestDeaf(t *testing.T) {
	for _, c := range []struct {
		name     string
		hosts    []string
		broken   func(from, to, lan string) bool
		filtered bool
		preempt  string
		master   string // in the end
		back     string // a long time after it healed
	}{
		{name: "the switch in the middle, hosts on the master's side", hosts: []string{"h1"}, broken: between("office", []string{"r1", "h1"}, []string{"r2"}), master: "r1", back: "r1"},
		{name: "the switch in the middle, hosts on the backup's side", hosts: []string{"h1", "h2"}, broken: between("office", []string{"r1"}, []string{"r2", "h1", "h2"}), master: "r2", back: "r1"},
		{name: "the same without preemption", hosts: []string{"h1"}, broken: between("office", []string{"r1"}, []string{"r2", "h1"}), preempt: "preempt=off", master: "r2", back: "r2"},
		{name: "the switch in the middle, hosts on both sides", hosts: []string{"h1", "h2"}, broken: between("office", []string{"r1", "h1"}, []string{"r2", "h2"}), master: "r1", back: "r1"},
		{name: "no host is known", broken: between("office", []string{"r1"}, []string{"r2"}), master: "r1", back: "r1"},
		{name: "the hosts are gone for both", hosts: []string{"h1"}, broken: between("office", []string{"r1", "r2"}, []string{"r2", "r1", "h1"}), master: "r1", back: "r1"},
		{name: "the master's way out", hosts: []string{"h1"}, broken: func(from, _, lan string) bool { return lan == "office" && from == "r1" }, master: "r2", back: "r1"},
		{name: "the master's way in", hosts: []string{"h1"}, broken: func(_, to, lan string) bool { return lan == "office" && to == "r1" }, master: "r2", back: "r1"},
		{name: "the backup's way in", hosts: []string{"h1"}, broken: func(_, to, lan string) bool { return lan == "office" && to == "r2" }, master: "r1", back: "r1"},
		{name: "the backup's way out", hosts: []string{"h1"}, broken: func(from, _, lan string) bool { return lan == "office" && from == "r2" }, master: "r1", back: "r1"},
		{name: "multicast is filtered", hosts: []string{"h1"}, filtered: true, master: "r1", back: "r1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeafSim(t, c.preempt, c.hosts...)
			for _, n := range s.all() {
				if got := n.alarms(); got != "" {
					t.Fatalf("%s has alarms before anything happened: %s", n.name, got)
				}
			}
			from := s.now
			s.lans.broken, s.lans.filtered = c.broken, map[string]bool{"office": c.filtered}
			s.run(2 * time.Second)
			for _, n := range s.all() {
				if got := n.alarms(); got != "deaf office" {
					t.Errorf("%s has the alarms %q after 2 s", n.name, got)
				}
			}
			s.run(8 * time.Second)
			s.master(c.master)
			moved := 0
			if c.master != "r1" {
				moved = 1
			}
			if n := s.nodes["r2"].m.transitions; n != 1+moved && n != moved { // it may have begun as unknown
				t.Errorf("%d transitions of r2", n)
			}
			none, double := s.coverage(from)
			if none > 20*time.Millisecond || double > 20*time.Millisecond {
				t.Errorf("nobody held the addresses for %v, two for %v", none, double)
			}
			s.lans.broken, s.lans.filtered = nil, nil
			s.run(8 * time.Second)
			for _, n := range s.all() {
				if got := n.alarms(); got != "" {
					t.Errorf("%s still has alarms: %s", n.name, got)
				}
			}
			s.run(10 * time.Second)
			s.master(c.back)
			if t.Failed() {
				t.Log(strings.Join(s.log, "\n"))
			}
		})
	}
}

// TestDeafOnOneLanOfTwo: nothing but the lans joins the nodes, and one of them
// fails: they go on hearing each other on the other one.
func TestDeafOnOneLanOfTwo(t *testing.T) {
	for _, c := range []struct {
		name   string
		side   []string // where h1 is
		master string
	}{
		{"hosts on the master's side", []string{"r1", "h1"}, "r1"},
		{"hosts on the backup's side", []string{"r1"}, "r2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeafSim(t, "", "h1")
			s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = true, true
			for _, n := range s.all() { // as membership says in the end
				n.handle(PeerLost{Node: map[string]string{"r1": "r2", "r2": "r1"}[n.name]})
			}
			s.run(5 * time.Second)
			s.master("r1")
			from := s.now
			other := []string{"r2", "h1"}
			if len(c.side) > 1 {
				other = other[:1]
			}
			s.lans.broken = between("office", c.side, other)
			s.run(20 * time.Second)
			s.master(c.master)
			if got := s.nodes["r2"].alarms(); got != "deaf office" {
				t.Errorf("r2 has the alarms %q", got)
			}
			if none, double := s.coverage(from); none > 70*time.Millisecond || double > 0 { // Skew
				t.Errorf("nobody held the addresses for %v, two for %v\n%s", none, double, strings.Join(s.log, "\n"))
			}
		})
	}
}

// TestDeafNot: what is no reason for the alarm.
func TestDeafNot(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*sim)
	}{
		{"the peer dies", func(s *sim) { s.power("r2") }},
		{"the master dies", func(s *sim) { s.power("r1") }},
		{"every path is cut at once", func(s *sim) {
			s.partition("r1", "r2", true)
			s.lans.broken = func(string, string, string) bool { return true }
		}},
		{"the peer's port dies", func(s *sim) { s.nodes["r2"].carrier("lan0", false) }},
		{"and comes back", func(s *sim) {
			s.nodes["r2"].carrier("lan0", false)
			s.run(5 * time.Second)
			s.nodes["r2"].carrier("lan0", true)
		}},
		{"a node stands still", func(s *sim) {
			s.nodes["r2"].stop()
			s.run(3 * time.Second)
			s.nodes["r2"].resume()
		}},
		{"a node starts again", func(s *sim) {
			s.power("r2")
			s.run(5 * time.Second)
			s.boot("r2")
		}},
		{"a hand-over", func(s *sim) { s.command("r1", VerbFailover, "") }},
		{"every second frame is lost", func(s *sim) {
			n := map[string]int{}
			s.lans.broken = func(from, to, lan string) bool { n[from+to+lan]++; return n[from+to+lan]%2 != 0 }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeafSim(t, "", "h1")
			c.do(s)
			for range 100 {
				s.run(50 * time.Millisecond)
				for _, n := range s.all() {
					if got := n.alarms(); n.running && got != "" {
						t.Fatalf("%s has the alarms %q\n%s", n.name, got, strings.Join(s.log, "\n"))
					}
				}
			}
		})
	}
}

// TestMasterIsAsked: adverts stop on all paths, and the master lives.
func TestMasterIsAsked(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(*sim)
	}{
		{"over gossip", func(s *sim) { s.lans.broken = func(string, string, string) bool { return true } }},
		{"on a lan", func(s *sim) { s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = true, true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newDeafSim(t, "", "h1")
			c.before(s)
			s.run(time.Second)
			from := s.now
			s.nodes["r2"].muffled = true
			s.run(10 * time.Second)
			s.master("r1")
			if s.nodes["r2"].m.transitions > 1 {
				t.Errorf("r2 was master:\n%s", strings.Join(s.log, "\n"))
			}
			s.nodes["r2"].muffled = false
			s.run(3 * time.Second)
			died := s.now
			s.power("r1")
			s.run(400 * time.Millisecond)
			s.master("r2")
			if none, _ := s.coverage(from); none > 361*time.Millisecond {
				t.Errorf("nobody held the addresses for %v after %v", none, died.Sub(from))
			}
		})
	}
	t.Run("it dies in that silence", func(t *testing.T) {
		s := newDeafSim(t, "", "h1")
		s.nodes["r2"].muffled = true
		s.run(5 * time.Second)
		s.power("r1")
		s.run(370 * time.Millisecond)
		s.master("r2")
	})
}

// TestStartBesideAMasterWithoutAdverts: nothing but the word of the master says
// that there is one.
func TestStartBesideAMasterWithoutAdverts(t *testing.T) {
	s := newDeafSim(t, "", "h1")
	s.power("r2")
	s.run(5 * time.Second)
	s.nodes["r2"].muffled = true
	s.boot("r2")
	s.run(10 * time.Second)
	s.master("r1")
	if n := s.nodes["r2"].m.transitions; n > 0 {
		t.Errorf("r2 was master:\n%s", strings.Join(s.log, "\n"))
	}
}

// TestStartLooksForTheOthers: a master that is heard late, over gossip only, is
// not met by a second one.
func TestStartLooksForTheOthers(t *testing.T) {
	s := newDeafSim(t, "", "h1")
	s.power("r2")
	s.run(5 * time.Second)
	s.lans.broken = func(string, string, string) bool { return true } // a switch that does not forward yet
	r2 := s.nodes["r2"]
	r2.lost["r1"], s.nodes["r1"].lost["r2"] = true, true
	s.run(time.Millisecond) // what was under way
	s.boot("r2")
	s.run(600 * time.Millisecond)
	s.master("r1")
	r2.lost["r1"], s.nodes["r1"].lost["r2"] = false, false
	s.run(10 * time.Second)
	s.master("r1")
	if r2.m.transitions > 0 {
		t.Errorf("r2 was master:\n%s", strings.Join(s.log, "\n"))
	}
}
