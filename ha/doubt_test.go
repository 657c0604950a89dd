package ha

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"harouter/vrrp"
)

// forge lets a node hear an advert as of another, repeated each A.
func (s *sim) forge(at, as string, priority uint8, times int) {
	n, o := s.nodes[at], s.nodes[as]
	for range times {
		n.handle(Advert{Link: "office", Source: o.links["lan0"].Addresses[0].Addr(), Advert: adv(priority)})
		s.run(20 * time.Millisecond)
	}
}

func TestForgedAdvertCannotSeizeTheGateway(t *testing.T) {
	for _, names := range [][]string{{"r1", "r2"}, {"r1", "r2", "r3"}} {
		s := booted(t, names...)
		at := s.now
		s.forge("r1", "r2", 254, 100) // the master hears a better one
		s.master("r1")
		s.forge("r2", "r1", 0, 20) // the backup hears that the master left
		s.run(500 * time.Millisecond)
		s.master("r1")
		s.forge("r2", names[len(names)-1], 254, 20)
		s.run(500 * time.Millisecond)
		s.master("r1")
		none, double := s.coverage(at)
		within(t, "nobody holds the addresses", none, 0)
		within(t, "two hold them", double, 0)
		for _, name := range []string{"r1", "r2"} {
			if n := s.nodes[name].m.Status(s.now).Drops.VRRP["forged"]; n == 0 {
				t.Errorf("%s counted no forged advert", name)
			}
		}
		if text := strings.Join(s.log, "\n"); !strings.Contains(text, "forged_advert r2") || !strings.Contains(text, "forged_advert r1") {
			t.Errorf("no alarm:\n%s", text)
		}
		s.run(10 * time.Second)
		for _, a := range s.nodes["r1"].m.Status(s.now).Alarms {
			if a.Code == AlarmForgedAdvert {
				t.Errorf("the alarm is still there: %+v", a)
			}
		}
	}
}

// TestHonestAdvertsAreNotDoubted lets the role move in all ways and sees no
// advert called forged.
func TestHonestAdvertsAreNotDoubted(t *testing.T) {
	s := booted(t, "r1", "r2", "r3")
	s.command("r1", VerbFailover, "r2")
	s.run(3 * time.Second)
	s.command("r1", VerbAuto, "")
	s.run(5 * time.Second)
	s.master("r1")
	s.nodes["r1"].carrier("lan0", false)
	s.run(3 * time.Second)
	s.nodes["r1"].carrier("lan0", true)
	s.run(5 * time.Second)
	s.power("r1")
	s.run(3 * time.Second)
	s.boot("r1")
	s.run(5 * time.Second)
	s.partition("r1", "r2", true)
	s.partition("r1", "r3", true)
	s.run(3 * time.Second)
	s.partition("r1", "r2", false)
	s.partition("r1", "r3", false)
	s.run(5 * time.Second)
	s.master("r1")
	if text := strings.Join(s.log, "\n"); strings.Contains(text, "forged") {
		t.Errorf("an honest advert was called forged:\n%s", text)
	}
}

// TestLateAdvertIsNotForged: the cable is plugged in again, and what the kernel
// kept for it is of a time when the sender was master.
func TestLateAdvertIsNotForged(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.command("r1", VerbFailover, "r2")
	s.run(3 * time.Second)
	s.command("r1", VerbFailover, "r1")
	s.run(2 * time.Second)
	s.master("r1")
	s.forge("r1", "r2", 150, 3)
	s.run(time.Second)
	s.master("r1")
	if n := s.nodes["r1"].m.transitions; n != 3 {
		t.Errorf("a late advert was obeyed: %d transitions", n)
	}
	if text := strings.Join(s.log, "\n"); strings.Contains(text, "forged") {
		t.Errorf("a late advert was called forged:\n%s", text)
	}
	s.forge("r1", "r2", 151, 3) // which it never said
	s.run(time.Second)
	if text := strings.Join(s.log, "\n"); !strings.Contains(text, "forged") {
		t.Errorf("a forged advert was taken for a late one:\n%s", text)
	}
}

// TestHoldOutlivesTheDirectCable cuts gossip while adverts go on.
func TestHoldOutlivesTheDirectCable(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.command("r1", VerbFailover, "r2")
	s.run(2 * time.Second)
	s.master("r2")
	for _, pair := range [][2]string{{"r1", "r2"}, {"r2", "r1"}} {
		n := s.nodes[pair[0]]
		n.lost[pair[1]] = true
		n.handle(PeerLost{Node: pair[1]})
	}
	s.run(30 * time.Second)
	s.master("r2")
}

// TestNoForceWhereNobodyCanBeAsked: a better node that cannot reach the master
// over gossip waits until it can.
func TestNoForceWhereNobodyCanBeAsked(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.power("r1")
	s.run(3 * time.Second)
	s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = true, true
	s.nodes["r1"].cfg.Known = map[string][]netip.Addr{"r2": {addr("192.168.77.102")}} // from last time
	s.boot("r1")
	s.run(20 * time.Second)
	s.master("r2")
	s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = false, false
	s.run(6 * time.Second)
	s.master("r1")
}

// TestLeftoverGoesWhenTheMasterVouches: the first advert of a new master may
// come before its word over gossip. Once it has vouched, what a former run left
// goes at once, as after any advert.
func TestLeftoverGoesWhenTheMasterVouches(t *testing.T) {
	s := booted(t, "r1", "r2")
	s.power("r1")
	s.run(3 * time.Second)
	s.command("r2", VerbStop, "") // alone: the addresses stay
	s.run(3 * time.Second)
	s.boot("r1", "r2")
	s.run(322 * time.Millisecond)
	from := s.now
	s.run(3 * time.Second)
	s.master("r1")
	_, double := s.coverage(from)
	within(t, "two hold them", double, 10*time.Millisecond)
}

// TestSilentSender: where nobody can deny an advert, it is obeyed: at once if the
// authenticated path has been silent for a second, else when its sender had the
// time for an answer.
func TestSilentSender(t *testing.T) {
	for _, c := range []struct {
		name   string
		silent time.Duration // beside what passed since its last word
		first  vrrp.State
	}{
		{"not for long", 0, vrrp.Master},
		{"for more than a second", wordFresh + 100*time.Millisecond, vrrp.Backup},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := booted(t, "r1", "r2")
			s.nodes["r1"].lost["r2"], s.nodes["r2"].lost["r1"] = true, true
			s.run(c.silent)
			m := s.nodes["r1"].m
			if p := m.peers["r2"]; !p.told || s.now.Sub(p.worded) > wordFresh != (c.first == vrrp.Backup) {
				t.Fatalf("its last word was %v ago", s.now.Sub(p.worded))
			}
			s.forge("r1", "r2", 254, 1)
			if got := m.vrrp.State(); got != c.first {
				t.Errorf("after the first advert %v, want %v", got, c.first)
			}
			s.forge("r1", "r2", 254, int((vouchLimit+40*time.Millisecond)/(20*time.Millisecond)))
			if got := m.vrrp.State(); got != vrrp.Backup {
				t.Errorf("%v after it %v", vouchLimit, got)
			}
		})
	}
}

// TestSleeperVouchesForNothing: who overslept does not know what its guard sent
// meanwhile, and calls no farewell forged.
func TestSleeperVouchesForNothing(t *testing.T) {
	s := booted(t, "r1", "r2")
	m := s.nodes["r1"].m
	answers := func() (n int) {
		for _, a := range m.Handle(Told{From: "r2", Message: Message{Kind: KindVouch, ID: 7}}, s.now) {
			if send, ok := a.(Send); ok && send.Message.Kind == KindVouched {
				n++
			}
		}
		return n
	}
	if answers() != 1 {
		t.Error("awake: want an answer")
	}
	m.Handle(Overslept{For: 300 * time.Millisecond}, s.now)
	if answers() != 0 {
		t.Error("just awake: want no answer")
	}
}

// TestShortMasterIsNoForger: two that start at once may both be master for a
// millisecond. The advert of the one that gave way is not called forged.
func TestShortMasterIsNoForger(t *testing.T) {
	s := booted(t, "r1", "r2")
	m := s.nodes["r2"].m
	was := func() (was uint8) {
		for _, a := range m.Handle(Told{From: "r1", Message: Message{Kind: KindVouch, ID: 7}}, s.now) {
			if send, ok := a.(Send); ok && send.Message.Kind == KindVouched {
				was = send.Message.Was
			}
		}
		return was
	}
	if got := was(); got != 0 {
		t.Errorf("never master: was %d", got)
	}
	s.command("r1", VerbFailover, "")
	s.run(time.Second)
	s.master("r2")
	s.command("r2", VerbFailover, "")
	s.run(time.Second)
	s.master("r1")
	if got := was(); got != 150 {
		t.Errorf("master a moment ago: was %d, want 150", got)
	}
	p := s.nodes["r1"].m.peers["r2"]
	p.lately, p.doubt = mastership{}, doubt{id: 9, asked: s.now, heard: vrrp.Heard{Priority: 150}}
	s.nodes["r1"].m.Handle(Told{From: "r2", Message: Message{Kind: KindVouched, ID: 9, Role: RoleBackup, Priority: 150, Was: 150}}, s.now)
	if n := s.nodes["r1"].m.drops["vrrp"][string(vrrp.DropForged)]; n != 0 {
		t.Errorf("%d adverts count as forged", n)
	}
	s.run(lateFor)
	if got := was(); got != 0 {
		t.Errorf("after %v: was %d", lateFor, got)
	}
}

// TestSleeperBelievesTheWord: who overslept as master believes the word over
// gossip of the one that took over, though its adverts are not heard.
func TestSleeperBelievesTheWord(t *testing.T) {
	s := booted(t, "r1", "r2")
	m := s.nodes["r1"].m
	m.Handle(Overslept{For: 300 * time.Millisecond}, s.now)
	state := m.peers["r2"].state
	state.Role, state.Effective, state.Term = RoleMaster, 150, m.owned+1
	m.Handle(PeerTold{State: state}, s.now)
	if got := m.vrrp.State(); got != vrrp.Backup {
		t.Errorf("r1 is %v, want backup", got)
	}
}
