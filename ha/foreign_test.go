package ha

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/vrrp"
)

// TestLastNodeSaysFarewellToForeignRouters: nobody hears a backup that is not
// ours, so the last node that stops cannot know whether one is there. What it
// says last is priority 0, or that one would wait for 3A+Skew; the addresses
// stay all the same, in the guard's care.
func TestLastNodeSaysFarewellToForeignRouters(t *testing.T) {
	for name, c := range map[string]struct {
		foreign []netip.Addr
		want    []uint8
	}{
		"no foreign routers": {nil, []uint8{200}},
		"one":                {[]netip.Addr{addr("192.168.77.9")}, []uint8{200, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, "r1")
			n := s.nodes["r1"]
			s.boot("r1")
			n.m.cfg.Foreign = c.foreign
			s.run(3 * time.Second)
			if n.m.vrrp.State() != vrrp.Master {
				t.Fatal("not master")
			}
			var said []uint8
			var exit *Exit
			for _, a := range n.m.Handle(Command{ID: 1, Verb: VerbStop}, s.now) {
				switch a := a.(type) {
				case Once:
					said = append(said, a.Priority)
				case Exit:
					exit = &a
				}
			}
			if diff := cmp.Diff(c.want, said); diff != "" {
				t.Error(diff)
			}
			if exit == nil || !exit.Keep {
				t.Errorf("exit: %+v", exit)
			}
		})
	}
}

// TestStranger: a node sends an advert or two from an address that it had for a
// moment, after somebody flushed its device, say. Who goes on is a foreign router,
// and an alarm within two seconds.
func TestStranger(t *testing.T) {
	const source = "169.254.51.2"
	for _, c := range []struct {
		name     string
		interval time.Duration
		adverts  int
		alone    bool // the other node has told nothing
		alarm    time.Duration
	}{
		{"for a moment", 100 * time.Millisecond, 2, false, 0},
		{"for a moment at short intervals", 10 * time.Millisecond, 20, false, 0},
		{"it goes on", 100 * time.Millisecond, 20, false, 700 * time.Millisecond},
		{"it goes on at short intervals", 10 * time.Millisecond, 200, false, 700 * time.Millisecond},
		{"at long intervals", time.Second, 1, false, 700 * time.Millisecond},
		{"before the other has told its addresses", 100 * time.Millisecond, 20, true, 1500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, "r1", "r2")
			if s.boot("r1"); !c.alone {
				s.boot("r2")
			}
			s.run(3 * time.Second)
			r1, began := s.nodes["r1"], s.now
			var alarm time.Duration
			ad := vrrp.Advert{VRID: 51, Priority: 1, Interval: c.interval}
			for i := 0; s.now.Sub(began) < 2*time.Second; i++ {
				if i%max(int(c.interval/(10*time.Millisecond)), 1) == 0 && c.adverts > 0 {
					r1.handle(Advert{Link: "office", Source: addr(source), Advert: ad})
					c.adverts--
				}
				if alarm == 0 && r1.m.alarms[alarmKey{AlarmForeignVRRP, source}] != nil {
					alarm = s.now.Sub(began)
				}
				s.run(10 * time.Millisecond)
			}
			if alarm < c.alarm || alarm > c.alarm+publishEvery/2 {
				t.Errorf("an alarm after %v, want %v", alarm, c.alarm)
			}
		})
	}
}

// TestForeignTie: between equals the greater source wins (RFC 9568 §6.4.3), which
// is this node's on that lan, not the address that gossip uses.
func TestForeignTie(t *testing.T) {
	for source, want := range map[string]vrrp.State{"192.168.77.1": vrrp.Master, "192.168.77.250": vrrp.Backup} {
		t.Run(source, func(t *testing.T) {
			s := newSim(t, "r1")
			s.boot("r1")
			s.run(3 * time.Second)
			n := s.nodes["r1"]
			n.m.cfg.Foreign = []netip.Addr{addr(source)}
			n.handle(Advert{Link: "office", Source: addr(source), Advert: adv(200)})
			if got := n.m.vrrp.State(); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}
