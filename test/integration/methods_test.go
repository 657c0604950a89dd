package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// perMethod is one policy for each method, by where the traffic goes. The order of
// uplinks, their speeds, and how long the lines are contradict the weights, so
// that nothing of it comes out right by weights alone. dsl is the only one of two.
const perMethod = `policies:
  - {name: first, match: {destination: 198.51.100.3}, method: priority, uplinks: [spare, dsl, cable]}
  - {name: back, match: {destination: 198.51.100.4}, method: priority, uplinks: [dsl, cable], on_recovery: move}
  - {name: spill, match: {destination: 198.51.100.5}, method: overflow, uplinks: [dsl, cable, spare]}
  - {name: free, match: {destination: 198.51.100.6}, method: least-used}
  - {name: near, match: {destination: 198.51.100.7}, method: lowest-latency}
  - {name: only, match: {destination: 198.51.100.8}, method: enforced, uplinks: [dsl]}
  - {name: quick, match: {destination: 198.51.100.9}, method: fastest-response}
  - {name: same, match: {destination: 198.51.100.16/29}, method: persistence, uplinks: [cable, dsl]}
  - {name: kept, match: {destination: 198.51.100.24/29}, method: persistence, persistence: {learned: true}, uplinks: [cable, dsl]}
  - {name: default}
`

// parts are the shares of cable, dsl and spare in 256ths; some: more than none.
type parts [3]int

const some = -1

// methods is a running pair with these policies, and the client that has flows by
// all of them.
type methods struct {
	*testing.T
	c       *site.Cluster
	client  *netlab.Client
	lines   []*netlab.Emulator // of isp1 …
	servers []netip.Addr
	master  string
	won     netip.Addr // who has won the race to the one destination that is raced for
}

// policyOf names the policy of a destination.
func policyOf(a netip.Addr) string {
	switch n := a.As4()[3]; {
	case n >= 24:
		return "kept"
	case n >= 16:
		return "same"
	case n >= 3:
		return [...]string{"first", "back", "spill", "free", "near", "only", "quick"}[n-3]
	}
	return "default"
}

// TestMethods: each of the eight methods, and what each does when a line dies for
// all, without carrier, as the last one, on one node only, and comes back
// (DESIGN.md §5 rows 6 to 10).
func TestMethods(t *testing.T) {
	t.Parallel()
	var lines []string
	for i, line := range []string{cableLine, dslLine, spareLine} {
		speed := [...]string{"100mbit", "300mbit", "100mbit"}[i]
		lines = append(lines, fmt.Sprintf("%s, weight: %d, speed: {down: %s, up: %s}, %s", line, [...]int{2, 1, 1}[i], speed, speed, quick))
	}
	// On a busy machine nobody is to be dead who is not: long leases, as in patient,
	// and time for the answers.
	config := site.Replace(balanced(perMethod, lines...), "advertise: 100ms", "advertise: 400ms")
	config = site.Replace(config, "timeout: 200ms, fall: 3", "timeout: 800ms, fall: 4")
	m := &methods{T: t, c: threeISPs(t, config), master: "r1"}
	m.servers = []netip.Addr{site.Server2}
	for _, n := range []byte{3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31} {
		a := netip.AddrFrom4([4]byte{198, 51, 100, n})
		m.servers = append(m.servers, a)
		must(t, m.c.Node("net").IP(fmt.Sprintf("addr add %v/32 dev lo", a)))
	}
	_, err := m.c.Serve("net", m.servers[1:]...)
	must(t, err)
	for i, isp := range []string{"isp1", "isp2", "isp3"} {
		line, err := m.c.ISP(isp).Port("wan0").Emulate(netlab.Line{Delay: time.Duration(i) * 20 * time.Millisecond}, netlab.Line{})
		must(t, err)
		m.lines = append(m.lines, line)
	}
	must(t, m.c.Up("r1", "r2"))
	m.run()
}

func (m *methods) run() {
	t, c := m.T, m.c
	atRest := map[string]parts{
		"default": {128, 64, 64}, "first": {0, 0, 256}, "back": {0, 256, 0}, "spill": {0, 256, 0}, "free": {51, 154, 51},
		"near": {256, 0, 0}, "only": {0, 256, 0}, "quick": {128, 64, 64}, "same": {171, 85, 0}, "kept": {171, 85, 0},
	}
	m.wait("at rest", atRest)
	_, transitions := masterOf(t, c, "r1")
	m.winner(site.WAN1)
	rest := m.survey("at rest", atRest)
	atRest["free"] = parts{some, some, some}              // one that returns gets its part little by little
	if len(rest["same"]) != 2 || len(rest["kept"]) != 2 { // 2 · (1/3)⁸ by chance, but always the same
		t.Errorf("persistence uses %v and %v", rest["same"], rest["kept"])
	}
	var load netlab.Load
	for _, s := range m.servers {
		flows := 6
		if p := policyOf(s); p == "same" || p == "kept" {
			flows = 1
		}
		load.UDP = append(load.UDP, netlab.UDPFlows{Server: echo(s), Flows: flows, Interval: 40 * time.Millisecond})
	}
	var err error
	m.client, err = c.Load("h1", load)
	must(t, err)
	where := m.where()

	t.Run("an ISP dies", func(t *testing.T) { // row 7
		m.T = t
		leaks := record(t, c.Port("r1", "wan1"), func(s segment) bool { return s.dst == echo(netip.MustParseAddr("198.51.100.8")) })
		c.Mark("dead")
		must(t, c.BlackholeBeyond("isp2"))
		dead := map[string]parts{
			"default": {171, 0, 85}, "first": {0, 0, 256}, "back": {256, 0, 0}, "spill": {256, 0, 0}, "free": {128, 0, 128},
			"near": {256, 0, 0}, "only": {0, 256, 0}, "quick": {171, 0, 85}, "same": {256, 0, 0}, "kept": {256, 0, 0},
		}
		m.wait("dsl is dead", dead)
		m.survey("dsl is dead", dead, "only")
		time.Sleep(300 * time.Millisecond)
		c.Mark("back")
		must(t, c.Restore("isp2"))
		m.wait("dsl is back", atRest) // row 10
		m.survey("dsl is back", atRest)
		for to, source := range m.where() {
			if policyOf(to) == "same" && source != where[to] {
				t.Errorf("%v is reached from %v, before the outage from %v", to, source, where[to])
			}
		}
		time.Sleep(300 * time.Millisecond)
		if n := len(leaks.Packets()); n > 0 {
			t.Errorf("%d packets of an enforced policy left by another uplink", n)
		}
	})
	t.Run("carrier", func(t *testing.T) { // row 8
		m.T = t
		must(t, c.Port("r2", "wan1").Unplug())
		must(t, c.Wait("r2 has no cable", "r1", 3*time.Second, func(s ha.Status) bool { return lineOf(s, "cable").Views["r2"].String() == "down" }))
		c.Mark("unplugged")
		must(t, c.Port("r1", "wan1").Unplug())
		dead := map[string]parts{
			"default": {0, 128, 128}, "first": {0, 0, 256}, "back": {0, 256, 0}, "spill": {0, 256, 0}, "free": {0, some, some},
			"near": {0, 256, 0}, "only": {0, 256, 0}, "quick": {0, 128, 128}, "same": {0, 256, 0}, "kept": {0, 256, 0},
		}
		m.wait("cable is dead", dead)
		m.winner(site.WAN2)
		m.survey("cable is dead", dead)
		c.Mark("plugged")
		must(t, errors.Join(c.Port("r1", "wan1").Plug(), c.Port("r2", "wan1").Plug()))
		m.wait("cable is back", atRest)
		m.survey("cable is back", atRest)
	})
	t.Run("the last one", func(t *testing.T) { // row 9
		m.T = t
		must(t, errors.Join(c.BlackholeBeyond("isp2"), c.BlackholeBeyond("isp3")))
		one := map[string]parts{
			"default": {256, 0, 0}, "first": {256, 0, 0}, "back": {256, 0, 0}, "spill": {256, 0, 0}, "free": {256, 0, 0},
			"near": {256, 0, 0}, "only": {0, 256, 0}, "quick": {256, 0, 0}, "same": {256, 0, 0}, "kept": {256, 0, 0},
		}
		m.wait("only cable", one)
		m.won = site.WAN1
		m.survey("only cable", one, "only")
		must(t, netlab.WaitFor("all flows on cable", 3*time.Second, func() bool {
			s, err := m.client.Snapshot()
			return err == nil && s.Uplinks[site.WAN1] == 6*7+16 // all but those that may not
		}))
		before := m.flowsBy(1)
		must(t, c.BlackholeBeyond("isp1"))
		must(t, c.Wait("no_uplink", "r1", 4*time.Second, func(s ha.Status) bool { return hasAlarm(s, "no_uplink") }))
		time.Sleep(300 * time.Millisecond) // time to do what must not be done
		m.wait("the last one is dead", one)
		if after := m.flowsBy(1); after < before || before == 0 {
			t.Errorf("of %d flows of the last uplink %d are left", before, after)
		}
		must(t, errors.Join(c.Restore("isp1"), c.Restore("isp2"), c.Restore("isp3")))
		m.wait("all are back", atRest)
	})
	m.T = t
	r, err := m.client.Stop()
	must(t, err)
	m.judge(r)
	if s, err := c.Status("r1"); err != nil || s.Role != ha.RoleMaster || s.VRRP.Transitions != transitions {
		t.Errorf("the role changed: %v, %d transitions, before %d, %v", s.Role, s.VRRP.Transitions, transitions, err)
	}

	t.Run("on the master only", func(t *testing.T) { // row 6
		m.T = t
		m.winner(site.WAN1)
		m.client, err = c.Load("h1", load)
		must(t, err)
		inSync(t, c, "r1", "r2")
		places := m.where()
		m.learnedAlike()
		// What is learned stays, although a new race would end otherwise.
		m.lines[0].Set(netlab.Line{Delay: 60 * time.Millisecond}, netlab.Line{})
		m.lines[1].Set(netlab.Line{}, netlab.Line{})
		s, err := c.Status("r1")
		must(t, err)
		c.Mark("silent")
		must(t, c.Port("r1", "wan2").Drop(netlab.Both, "")) // (by carrier: TestRow6Moves)
		must(t, c.WaitHolder(site.LANAddress, "r2", 5*time.Second))
		moved := netlab.Now()
		m.master = "r2"
		now, err := c.Status("r2")
		must(t, err)
		for i, p := range s.Policies {
			// (Those two go on measuring.)
			if p.Name != "near" && p.Name != "free" && fmt.Sprint(p.Shares) != fmt.Sprint(now.Policies[i].Shares) {
				t.Errorf("the move changed the shares of %s from %v to %v", p.Name, p.Shares, now.Policies[i].Shares)
			}
		}
		for to, source := range m.where() {
			if p := policyOf(to); source != places[to] && (p == "same" || p == "kept" || p == "quick") {
				t.Errorf("%s: %v is reached from %v, before the move from %v", p, to, source, places[to])
			}
		}
		time.Sleep(300 * time.Millisecond)
		r, err := m.client.Stop()
		must(t, err)
		for _, f := range r.Renatted("silent") {
			t.Errorf("flow %s of %s moved with the role: %v", f.Name, policyOf(f.Target.Addr()), f.Seen)
		}
		on := map[string]int{}
		for _, f := range r.On("isp2", "silent") {
			on[policyOf(f.Target.Addr())]++
		}
		for _, p := range []string{"back", "spill", "only"} {
			if on[p] != 6 {
				t.Errorf("%d of 6 flows of %s were on the line that died in silence", on[p], p)
			}
		}
		carriedOn(t, r, "isp2", "silent", moved.Add(2*noise+r.Lag))
	})
	m.T = t
	noLeaks(t, c)
}

// wait waits until the shares of all policies are as wanted, on both nodes.
func (m *methods) wait(what string, want map[string]parts) {
	m.Helper()
	began := time.Now()
	for _, router := range []string{"r1", "r2"} {
		must(m.T, m.c.Wait(what, router, 6*time.Second, func(s ha.Status) bool {
			for _, p := range s.Policies {
				for i, n := range want[p.Name] {
					got := p.Shares[[...]string{"cable", "dsl", "spare"}[i]]
					if n == some && got == 0 || n >= 0 && !near(got, float64(n)/256) {
						return false
					}
				}
			}
			return len(s.Policies) == len(want)
		}))
	}
	m.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
}

// survey opens connections by each policy, and fails unless they work, by lines
// that have a share; those of the policies named do not work at all. It returns how
// many of each policy came from where.
func (m *methods) survey(what string, want map[string]parts, fail ...string) map[string]map[netip.Addr]int {
	m.Helper()
	sources := map[string]map[netip.Addr]int{}
	by := map[netip.Addr]netip.Addr{}
	for _, a := range m.fresh(4) {
		p, from := policyOf(a.Server.Addr()), a.Seen.Addr()
		if slices.Contains(fail, p) {
			if a.OK {
				m.Errorf("%s: a connection of %s was made from %v", what, p, from)
			}
			continue
		}
		if !a.OK {
			m.Errorf("%s: a connection of %s to %v: %s", what, p, a.Server, a.Err)
			continue
		}
		i := slices.Index([]netip.Addr{site.WAN1, site.WAN2, wan3}, from)
		if i < 0 || want[p][i] == 0 || p == "quick" && from != m.won {
			m.Errorf("%s: a connection of %s came from %v, its shares are %v", what, p, from, want[p])
		}
		if sources[p] == nil {
			sources[p] = map[netip.Addr]int{}
		}
		sources[p][from]++
		if was, ok := by[a.Server.Addr()]; ok && was != from && (p == "same" || p == "kept") {
			m.Errorf("%s: %s reaches %v from %v and %v", what, p, a.Server, was, from)
		}
		by[a.Server.Addr()] = from
	}
	return sources
}

// fresh opens n connections to each server.
func (m *methods) fresh(n int) []netlab.Attempt {
	m.Helper()
	load := netlab.Load{Drain: 10 * time.Millisecond}
	for _, s := range m.servers {
		load.Fresh = append(load.Fresh, netlab.Fresh{Server: echo(s), Interval: 10 * time.Millisecond, Count: n})
	}
	client, err := m.c.Load("h1", load)
	must(m.T, err)
	must(m.T, netlab.WaitFor("connections to all servers", 10*time.Second, func() bool {
		s, err := client.Snapshot()
		return err != nil || s.FreshOK+s.FreshFailed == n*len(m.servers)
	}))
	r, err := client.Stop()
	must(m.T, err)
	return r.Fresh
}

// where tells from where each server is reached.
func (m *methods) where() map[netip.Addr]netip.Addr {
	m.Helper()
	out := map[netip.Addr]netip.Addr{}
	for _, a := range m.fresh(1) {
		if !a.OK {
			m.Errorf("%v: %s", a.Server, a.Err)
		}
		out[a.Server.Addr()] = a.Seen.Addr()
	}
	return out
}

// winner has a race run, and waits until it is known.
func (m *methods) winner(who netip.Addr) {
	m.Helper()
	m.won = who
	name := map[netip.Addr]string{site.WAN1: "cable", site.WAN2: "dsl"}[who]
	works(m.T, "the first of a race", connect(m.T, m.c, "h1", echo(netip.MustParseAddr("198.51.100.9")), 1))
	for _, router := range []string{m.master, "r2"} {
		must(m.T, netlab.WaitFor(name+" has won on "+router, 15*time.Second, func() bool {
			out, err := m.c.Router(router).Exec("nft", "list", "set", "inet", "harouter", "learned_quick/"+name)
			return err == nil && strings.Contains(out, "198.51.100.9 ")
		}))
	}
}

// learnedAlike waits until r2 knows all places that r1 has learned.
func (m *methods) learnedAlike() {
	m.Helper()
	must(m.T, netlab.WaitFor("what r1 has learned on r2", 4*time.Second, func() bool {
		known := 0
		for _, line := range []string{"cable", "dsl"} {
			out, err := m.c.Router("r2").Exec("nft", "list", "set", "inet", "harouter", "learned_kept/"+line)
			must(m.T, err)
			known += strings.Count(out, "198.51.100.")
		}
		return known == 8
	}))
}

// flowsBy counts the UDP flows on an uplink of r1.
func (m *methods) flowsBy(id uint32) (n int) {
	all, err := m.c.Router("r1").Connections(id<<8, markMask)
	must(m.T, err)
	for _, f := range all {
		if f.Protocol == 17 {
			n++
		}
	}
	return n
}

// judge looks at the flows of each policy while lines died and came back: away from
// a line that is dead, once; back only where the policy says so; and nobody else.
func (m *methods) judge(r *netlab.Report) {
	dead, back, unplugged, plugged := r.Mark("dead"), r.Mark("back"), r.Mark("unplugged"), r.Mark("plugged")
	moves := func(f netlab.Flow, from, to netlab.Instant) (n int) {
		for _, s := range f.Seen {
			if s.At >= from && s.At < to {
				n++
			}
		}
		return n
	}
	count, longest := map[string]int{}, time.Duration(0)
	for _, isp := range []string{"isp1", "isp2", "isp3"} {
		for _, f := range r.On(isp, "dead") {
			p := policyOf(f.Target.Addr())
			away, home := moves(f, dead, back), moves(f, back, unplugged)
			wantAway, wantHome := 0, 0
			if isp == "isp2" && p != "only" {
				wantAway = 1
				count[p]++
			}
			if p == "back" {
				wantHome = 1
			}
			if away != wantAway || home != wantHome {
				m.Errorf("%s: flow %s on %s moved %d times when dsl died and %d when it returned, want %d and %d: %v", p, f.Name, isp, away, home, wantAway, wantHome, f.Seen)
			}
			switch {
			case isp != "isp2" && f.Lost(dead, back) > 0:
				m.Errorf("%s: flow %s on %s lost %d datagrams when dsl died", p, f.Name, isp, f.Lost(dead, back))
			case p == "only" && f.Lost(back.Add(time.Second+r.Lag), unplugged) > 0:
				m.Errorf("%s: flow %s does not go on once its line is back", p, f.Name)
			}
		}
		for _, f := range r.On(isp, "unplugged") {
			p := policyOf(f.Target.Addr())
			want := 0
			if isp == "isp1" {
				want = 1
				longest = max(longest, f.Gap(unplugged, plugged))
			}
			if away, home := moves(f, unplugged, plugged), moves(f, plugged, plugged.Add(time.Second)); away != want || home != 0 {
				m.Errorf("%s: flow %s on %s moved %d times without cable's carrier, want %d, and %d times when it was back: %v", p, f.Name, isp, away, want, home, f.Seen)
			}
		}
	}
	quietly(m.T, "silence of flows whose line lost its carrier", r, longest, time.Second, "130 ms, with a datagram each 40 ms and answers after as many")
	for _, p := range []string{"back", "spill"} {
		if count[p] != 6 {
			m.Errorf("%d of 6 flows of %s were on dsl", count[p], p)
		}
	}
}
