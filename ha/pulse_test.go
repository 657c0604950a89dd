package ha

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/vrrp"
)

// simPulse asks the machine of another node as ha/pulse does, in a sim that feels.
type simPulse struct {
	order    Pulse
	turn     int
	missed   time.Time
	rounds   int
	answered map[string]time.Time // by device, "" the address
}

func (n *simNode) feel(a Pulse) {
	n.pulse = simPulse{order: a, turn: n.pulse.turn + 1, answered: map[string]time.Time{}}
	if a.Node != "" && n.s.feels {
		n.beat(n.pulse.turn)
	}
}

// runs tells whether a node's kernel does.
func (n *simNode) runs() bool {
	return (n.running || n.exit != nil) && !(n.strain.machine && !n.strain.frozen.IsZero())
}

// reaches tells on which devices the kernel of o answers n.
func (n *simNode) reaches(o *simNode) (devices []string) {
	if !o.runs() || n.lost[o.name] || o.lost[n.name] {
		return nil
	}
	for _, w := range n.pulse.order.Ways {
		if w.Device == "" || n.links[w.Device].Carrier && o.links[w.Device].Carrier && !n.deaf && !n.strain.deaf[o.name] {
			devices = append(devices, w.Device)
		}
	}
	return devices
}

func (n *simNode) beat(turn int) {
	q, s := &n.pulse, n.s
	if q.turn != turn || !n.running {
		return
	}
	next := 40 * time.Millisecond
	devices := n.reaches(s.nodes[q.order.Node])
	_, known := q.answered[""]
	switch {
	case !n.strain.frozen.IsZero():
		q.missed, q.rounds = time.Time{}, 0
	case len(devices) > 0:
		for _, d := range devices {
			q.answered[d] = s.now
		}
		if !q.missed.IsZero() {
			n.handle(Recovered{Node: q.order.Node, After: s.now.Sub(q.missed)})
		}
		q.missed, q.rounds = time.Time{}, 0
	case !known || s.now.Sub(q.answered[""]) > 3*time.Second:
		next = time.Second
	default:
		if q.missed.IsZero() {
			q.missed, q.rounds = s.now, -1
		}
		next = 10 * time.Millisecond
		witnessed := 0
		if n.links["lan0"].Carrier {
			witnessed = q.rounds
		}
		n.handle(Unanswered{
			Node: q.order.Node, At: n.clock(), For: s.now.Sub(q.missed), Rounds: q.rounds, Witnessed: witnessed, Devices: len(q.answered), Direct: true,
		})
		q.rounds++
	}
	s.after(next, func() { n.beat(turn) })
}

// feeling is a running cluster that feels, with words more in its file.
func feeling(t *testing.T, words string, names ...string) *sim {
	s := newSim(t, names...)
	s.feels = true
	for _, n := range s.all() {
		n.disk = words + " nodes=" + strings.Join(names, ",")
	}
	s.boot(names...)
	s.run(8 * time.Second)
	s.master("r1")
	return s
}

// TestPowerLossIsFoundAtOnce: whatever the interval, and whoever else waits.
func TestPowerLossIsFoundAtOnce(t *testing.T) {
	for _, words := range []string{"", "advertise=1s", "advertise=50ms", "version=2"} {
		for phase := range 10 {
			s := feeling(t, words, "r1", "r2", "r3")
			s.run(time.Duration(7*phase) * time.Millisecond)
			for _, next := range []string{"r2", "r3"} {
				at := s.now
				s.power(map[string]string{"r2": "r1", "r3": "r2"}[next])
				s.run(5 * time.Second)
				s.master(next)
				none, double := s.coverage(at)
				limit := 85 * time.Millisecond
				if words == "version=2" {
					limit = 205*time.Millisecond + 45*time.Millisecond // a tenth of 2 s
				}
				if words == "advertise=1s" {
					limit = 150 * time.Millisecond
				}
				within(t, words+": nobody holds the addresses", none, limit)
				within(t, words+": two hold them", double, 0)
			}
		}
	}
}

// TestDeadDaemonIsTheTimers: its kernel answers, and its guard says nothing.
func TestDeadDaemonIsTheTimers(t *testing.T) {
	s := feeling(t, "", "r1", "r2")
	s.power("r1")
	s.nodes["r1"].exit = &Exit{}
	s.run(230 * time.Millisecond)
	s.master("")
	s.run(120 * time.Millisecond)
	s.master("r2")
}

// TestDeafIsNotDead: no advert arrives on any path, and the kernel answers.
func TestDeafIsNotDead(t *testing.T) {
	s := feeling(t, "hello", "r1", "r2")
	s.nodes["r2"].muffled = true
	s.run(5 * time.Second)
	s.master("r1")
}

// backup is r2 of a running pair, whose pulse nobody feels but the test.
func backup(t *testing.T, words string) (*sim, *simNode) {
	s := newSim(t, "r1", "r2", "r3")
	for _, n := range s.all() {
		n.disk = words + " nodes=r1,r2,r3"
	}
	s.boot("r1", "r2", "r3")
	s.run(8 * time.Second)
	s.master("r1")
	return s, s.nodes["r2"]
}

func (n *simNode) silence() Unanswered {
	return Unanswered{Node: "r1", At: n.clock(), For: 45 * time.Millisecond, Rounds: 3, Witnessed: 2, Devices: 2, Direct: true}
}

func TestWhatProvesADeath(t *testing.T) {
	for name, c := range map[string]struct {
		node   string
		before func(*sim, *simNode)
		ev     func(*Unanswered)
		want   bool
	}{
		"all of it":                          {want: true},
		"a short silence":                    {ev: func(ev *Unanswered) { ev.For = 39 * time.Millisecond }},
		"few rounds":                         {ev: func(ev *Unanswered) { ev.Rounds = 2 }},
		"nobody answered":                    {ev: func(ev *Unanswered) { ev.Witnessed = 1 }},
		"one way only":                       {ev: func(ev *Unanswered) { ev.Devices = 1 }},
		"its address was not asked":          {ev: func(ev *Unanswered) { ev.Direct = false }},
		"long ago":                           {ev: func(ev *Unanswered) { ev.At = ev.At.Add(-20 * time.Millisecond) }},
		"of another node":                    {ev: func(ev *Unanswered) { ev.Node = "r3" }},
		"it was heard meanwhile":             {before: func(_ *sim, n *simNode) { n.handle(PeerSeen{Node: "r1"}) }},
		"a better one is there":              {node: "r3"},
		"a lan of its own is dead":           {before: func(_ *sim, n *simNode) { n.carrier("lan1", false) }},
		"it said farewell":                   {before: func(_ *sim, n *simNode) { n.handle(Advert{Source: addr("192.0.2.1"), Advert: adv(0)}) }},
		"this node is in maintenance":        {before: func(s *sim, _ *simNode) { s.command("r2", VerbRest, ""); s.run(5 * time.Millisecond) }},
		"this node has overslept and waits":  {before: func(_ *sim, n *simNode) { n.handle(Overslept{For: time.Second}) }, want: true},
		"its machine stood still, for 30 ms": {before: func(_ *sim, n *simNode) { n.handle(Recovered{Node: "r1", After: 30 * time.Millisecond}) }},
		"and for 20":                         {before: func(_ *sim, n *simNode) { n.handle(Recovered{Node: "r1", After: 20 * time.Millisecond}) }, want: true},
		"it was off for a second":            {before: func(_ *sim, n *simNode) { n.handle(Recovered{Node: "r1", After: time.Second}) }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, n := backup(t, "")
			if c.node != "" {
				n = s.nodes[c.node]
			}
			s.power("r1")
			s.run(50 * time.Millisecond)
			if c.before != nil {
				c.before(s, n)
			}
			ev := n.silence()
			if c.ev != nil {
				c.ev(&ev)
			}
			n.handle(ev)
			if got := n.m.vrrp.State() == vrrp.Master; got != c.want {
				t.Errorf("takes over: %v, want %v", got, c.want)
			}
		})
	}
}

// TestTooSoonIsNotDoneAgain: a master that had only stood still is master again,
// and the timers alone decide for an hour.
func TestTooSoonIsNotDoneAgain(t *testing.T) {
	s, n := backup(t, "")
	still := func() {
		s.nodes["r2"].lost["r1"], s.nodes["r3"].lost["r1"], n.muffled = true, true, true
		s.run(60 * time.Millisecond)
		n.handle(n.silence())
		s.nodes["r2"].lost["r1"], s.nodes["r3"].lost["r1"], n.muffled = false, false, false
	}
	still()
	if n.m.Role() != RoleMaster {
		t.Fatal("r2 did not take over")
	}
	s.run(2 * time.Second)
	s.master("r1")
	if !s.logs("only stood still") {
		t.Error("nothing is said of it")
	}
	s.run(time.Minute)
	still()
	s.master("r1")
	s.run(time.Second)
	q := &n.m.peers["r1"].pause
	q.at = q.at.Add(-time.Hour)
	still()
	if n.m.Role() != RoleMaster {
		t.Error("it is remembered for more than an hour")
	}
}

// TestWhoIsAsked tells whom backups and masters ask.
func TestWhoIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		words, node string
		want        Pulse
	}{
		"the first backup": {node: "r2", want: Pulse{
			Node: "r1",
			Ways: []Way{
				{Address: addr("192.0.2.1")}, {Device: "lan0", Address: addr("192.168.77.101")}, {Device: "lan1", Address: addr("192.168.78.101")},
				{Device: "wan1", Address: addr("203.0.113.21")}, {Device: "wan2", Address: addr("203.0.113.131")},
			},
			Others: []Way{
				{Device: "lan0", Address: addr("192.168.77.200"), Source: addr("192.168.77.102")},
				{Device: "wan1", Address: addr("203.0.113.1"), Source: addr("203.0.113.22")},
				{Device: "wan2", Address: addr("203.0.113.129"), Source: addr("203.0.113.132")},
			},
		}},
		"the second backup":       {node: "r3"},
		"the master":              {node: "r1"},
		"at intervals of 10 ms":   {words: "advertise=10ms", node: "r2"},
		"a backup that is better": {words: "preempt=off", node: "r2", want: Pulse{Node: "r1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, n := backup(t, "hello "+c.words)
			n.handle(Hosts{Lan: "office", Seen: prefixAddrs("192.168.77.200/32", "192.168.77.1/32", "192.168.77.101/32")})
			s.run(time.Second)
			got := s.nodes[c.node].pulse.order
			if c.want.Ways == nil {
				got.Ways, got.Others = nil, nil
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSixIsAsked: a lan on which the master is heard over IPv6 alone is a way to
// it; where it is heard over both, IPv4 is.
func TestSixIsAsked(t *testing.T) {
	_, n := backup(t, "")
	p := n.m.peers["r1"]
	four, six := addr("192.168.77.101"), addr("fe80::101")
	for _, c := range []struct {
		name    string
		sources []netip.Addr
		want    netip.Addr
	}{
		{"six alone", []netip.Addr{six}, six},
		{"six, then four", []netip.Addr{six, four}, four},
		{"four, then six", []netip.Addr{four, six}, four},
	} {
		p.at = nil
		for _, a := range c.sources {
			p.advertises("office", a)
		}
		if ways := n.m.pulse(n.clock()).Ways; !slices.Contains(ways, Way{Device: "lan0", Address: c.want}) {
			t.Errorf("%s: ways %v", c.name, ways)
		}
	}
	n.m.gateways["cable"] = addr("fe80::1")
	n.m.cfg.Balancer.Uplinks[0].Gateway = netip.Addr{}
	if others := n.m.pulse(n.clock()).Others; !slices.Contains(others, Way{Device: "wan1", Address: addr("fe80::1")}) {
		t.Errorf("others %v", others)
	}
}

// TestChaosPulse: machines that stand still for a moment, or lose their power, and
// are taken for dead too soon now and then.
func TestChaosPulse(t *testing.T) {
	t.Parallel()
	found, rash := 0, 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		nodes := allNodes[:2+seed%2]
		lines := []string{fmt.Sprintf("chaos %d freeze power", seed), "cluster " + strings.Join(nodes, ",") + " feel sync=5s"}
		at := 8 * time.Second
		for range 10 {
			n := nodes[r.IntN(len(nodes))]
			if r.IntN(4) == 0 {
				lines = append(lines, fmt.Sprintf("%v power %s", at, n), fmt.Sprintf("%v boot %s", at+time.Second, n))
			} else {
				lines = append(lines, fmt.Sprintf("%v freeze %s %v machine", at, n, time.Duration(20+r.IntN(400))*time.Millisecond))
			}
			at += time.Duration(2000+r.IntN(6000)) * time.Millisecond
		}
		st, err := replay(t, append(lines, fmt.Sprintf("%v heal", at)))
		if err != nil {
			t.Fatal(err)
		}
		if len(st.c.problems) > 0 {
			st.failed(t, seed)
		}
		for _, l := range st.s.log {
			if strings.Contains(l, "answers nothing on any path") {
				found++
			}
			if strings.Contains(l, "only stood still") {
				rash++
			}
		}
	}
	if found < 20 || rash == 0 || rash > found/2 {
		t.Errorf("%d takeovers without the timers, %d of them too soon", found, rash)
	}
	t.Logf("%d takeovers without the timers, %d of them too soon", found, rash)
}

func prefixAddrs(ss ...string) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes(ss...) {
		out = append(out, p.Addr())
	}
	return out
}
