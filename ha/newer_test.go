package ha

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// cutOff is a cluster from which one node is cut off on every path.
func (s *sim) cutOff(name string, on bool) {
	for _, o := range s.all() {
		if o.name != name {
			o.lost[name], s.nodes[name].lost[o.name] = on, on
		}
	}
	s.lans.broken = func(from, to, _ string) bool { return on && (from == name || to == name) }
}

// TestExpelled: a master that was taken out of the file while it was cut off
// serves no more once it hears of it, and says so.
func TestExpelled(t *testing.T) {
	for _, c := range []struct {
		name  string
		then  func(s *sim, hello string)
		r1    Role
		alarm bool
	}{
		{"healed", func(*sim, string) {}, RoleFault, true},
		{"the others stay cut off", func(s *sim, _ string) { s.cutOff("r1", true) }, RoleFault, true},
		{"started anew", func(s *sim, _ string) { s.power("r1"); s.boot("r1") }, RoleFault, true},
		{"taken in again", func(s *sim, hello string) {
			s.write(hello+"cable=4 nodes=r1,r2,r3", "r2", "r3")
			s.reload("r2", "")
			s.nodes["r1"].accepted, s.nodes["r1"].gen = s.nodes["r2"].accepted, s.nodes["r2"].gen // harouter join
			s.power("r1")
			s.boot("r1")
			s.run(5 * time.Second)
		}, RoleMaster, false},
	} {
		for _, hello := range []string{"", "hello "} { // with unicast_only nobody greets on the lans
			t.Run(hello+c.name, func(t *testing.T) { testExpelled(t, hello, c.then, c.r1, c.alarm) })
		}
	}
}

func testExpelled(t *testing.T, hello string, then func(s *sim, hello string), role Role, alarm bool) {
	s := newSim(t, "r1", "r2", "r3")
	for _, n := range s.all() {
		n.disk = hello + n.disk
	}
	s.boot("r1", "r2", "r3")
	s.run(3 * time.Second)
	s.master("r1")
	s.cutOff("r1", true)
	s.run(2 * time.Second)
	s.write(hello+"cable=3 nodes=r2,r3", "r2", "r3")
	s.reload("r2", "")
	s.master("r1+r2")
	s.cutOff("r1", false)
	s.run(500 * time.Millisecond)
	if r1 := s.nodes["r1"]; r1.m.Role() != RoleFault || r1.holds || r1.active {
		t.Fatalf("r1 is %v, holds %v, active %v\n%s", r1.m.Role(), r1.holds, r1.active, strings.Join(s.log, "\n"))
	}
	then(s, hello)
	s.run(5 * time.Second)
	want := "r2"
	if role == RoleMaster {
		want = "r1"
	}
	s.master(want)
	r1 := s.nodes["r1"]
	if got := strings.Contains(r1.alarms(), "config_differs node r1"); r1.m.Role() != role || got != alarm || strings.Contains(r1.alarms(), "config_differs configuration") {
		t.Errorf("r1 is %v, its alarms are %q\n%s", r1.m.Role(), r1.alarms(), strings.Join(s.log, "\n"))
	}
}

// TestYieldsTo: of two nodes whose files do not know the other one or are of the
// same number, at most one gives way.
func TestYieldsTo(t *testing.T) {
	told := func(gen uint64, hash string) PeerState { return PeerState{Node: "r2", Gen: gen, Hash: hash} }
	for _, c := range []struct {
		name  string
		nodes string
		own   uint64
		other PeerState
		want  bool
	}{
		{"newer", "r1,r2", 3, told(4, "x"), true},
		{"older", "r1,r2", 3, told(2, "x"), false},
		{"the same number, it is known here", "r1,r2", 3, told(3, "a"), true},
		{"the same number, both unknown, greater hash", "r1", 3, told(3, "x"), true},
		{"the same number, both unknown, smaller hash", "r1", 3, told(3, "a"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := simFile("r1", "nodes="+c.nodes)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Generation = c.own // its hash begins with h
			if got := NewMachine(cfg, time.Now()).yieldsTo(c.other); got != c.want {
				t.Errorf("yields %v, want %v", got, c.want)
			}
		})
	}
}

// TestForeignFile: two routers with files of their own, each a foreign one to the
// other, elect one master; neither was taken out of anything.
func TestForeignFile(t *testing.T) {
	at := netip.MustParseAddr("192.168.77.3")
	told := PeerState{
		Node: "r2", Gen: 3, Hash: "x", Members: map[string]netip.Addr{"r2": at},
		Addresses: []netip.Addr{netip.MustParseAddr("fe80::3"), at},
	}
	for _, c := range []struct {
		name    string
		foreign []netip.Addr
		want    bool
	}{
		{"it is not named", nil, true},
		{"another is", []netip.Addr{netip.MustParseAddr("192.168.77.4")}, true},
		{"it is named under vrrp.foreign", []netip.Addr{at}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := simFile("r1", "nodes=r1")
			if err != nil {
				t.Fatal(err)
			}
			cfg.Generation, cfg.Foreign = 3, c.foreign
			m := NewMachine(cfg, time.Now())
			m.Handle(PeerTold{State: told, Lan: "office"}, time.Now())
			if got := m.expelled(); got != c.want {
				t.Errorf("expelled %v, want %v", got, c.want)
			}
		})
	}
}

// TestNumberUsedOnce: a generation that only a node has which is off now, or which
// the file does not name, keeps its number for itself.
func TestNumberUsedOnce(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.nodes["r1"].handle(PeerTold{State: PeerState{Node: "r9", Gen: 7}, Lan: "office"})
	s.write(file1, "r1", "r2")
	s.reload("r1", "")
	s.agreed(file1, 8)
}
