package ha

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// rules is DESIGN.md §4 to §6 as far as they say which of two nodes is master,
// in their plainest form: it knows neither messages nor time, only what is the
// case in the end. TestMoves holds the machines to it.
type rules struct {
	preempt bool
	nodes   [2]*ruled // r1, which is preferred, and r2
	allDead bool      // dsl, everywhere
	master  int       // -1: nobody can
	held    bool      // an operator put the master where it is
	despite bool      // when dsl was dead there already
}

type ruled struct {
	on, rests bool
	lans      int
	dead      bool // dsl, here only
	moved     bool // dsl moved the mastership a short time ago
}

func (r *rules) dead(n int) bool   { return r.allDead || r.nodes[n].dead }
func (r *rules) serves(n int) bool { return r.nodes[n].on && r.nodes[n].lans > 0 }

// fitter tells whether a reaches more than b.
func (r *rules) fitter(a, b int) bool {
	if d := r.nodes[a].lans - r.nodes[b].lans; d != 0 {
		return d > 0
	}
	return r.dead(b) && !r.dead(a)
}

// priority is the effective one of n while the other is alive.
func (r *rules) priority(n int) int {
	p := [...]int{200, 150}
	switch {
	case r.nodes[n].rests:
		return 1
	case !r.nodes[1-n].rests && r.fitter(1-n, n):
		return min(p[n], p[1-n]-1)
	}
	return p[n]
}

// settle is what must be the case once everybody knows everything.
func (r *rules) settle() {
	if r.master >= 0 && !r.dead(r.master) {
		r.despite = false
	}
	if r.master < 0 || !r.serves(r.master) {
		was := r.master
		r.master, r.held = -1, false
		for n := range r.nodes {
			if n != was && r.serves(n) {
				r.master = n
			}
		}
		if r.master < 0 {
			return
		}
	}
	here, there := r.master, 1-r.master
	m, o := r.nodes[here], r.nodes[there]
	switch {
	case !r.serves(there):
	case m.rests && !o.rests:
		r.moveTo(there)
	case o.rests && !m.rests:
	case o.lans > m.lans:
		r.moveTo(there)
	case o.lans == m.lans && r.fitter(there, here) && !m.moved && !(r.held && r.despite):
		m.moved, o.moved = true, true
		r.moveTo(there)
	case r.preempt && !r.held && !m.moved && r.priority(there) > r.priority(here):
		r.moveTo(there)
	}
}

func (r *rules) moveTo(n int) { r.master, r.held = n, false }

// turn is something that happens to the pair: r1 power, r2 lan1 and so on,
// each off and on in turn.
type turn struct {
	node int
	what string
}

func (t turn) String() string {
	if t.node < 0 {
		return t.what
	}
	return fmt.Sprintf("r%d %s", t.node+1, t.what)
}

var turns = []turn{
	{0, "power"}, {0, "lan1"}, {0, "lans"}, {0, "dsl"}, {0, "maintenance"}, {0, "failover"},
	{1, "power"}, {1, "lan1"}, {1, "lans"}, {1, "dsl"}, {1, "maintenance"}, {1, "failover"},
	{-1, "auto"}, {-1, "dsl"},
}

// apply does to the rules what take does to the machines.
func (r *rules) apply(t turn) {
	if t.node < 0 {
		switch t.what {
		case "dsl":
			r.allDead = !r.allDead
		case "auto":
			if r.master >= 0 {
				r.held, r.nodes[r.master].moved = false, false
			}
		}
		r.settle()
		return
	}
	n := r.nodes[t.node]
	switch t.what {
	case "power":
		if n.on = !n.on; n.on {
			n.moved, n.lans = false, 2
		}
	case "lan1":
		n.lans = map[int]int{2: 1, 1: 2, 0: 1}[n.lans]
	case "lans":
		n.lans = map[int]int{2: 0, 1: 0, 0: 2}[n.lans]
	case "dsl":
		n.dead = !n.dead
	case "maintenance":
		if n.on {
			n.rests = !n.rests
			r.held = r.held && !(n.rests && r.master == t.node)
		}
	case "failover":
		switch {
		case r.master < 0 || n.rests || !r.serves(t.node) || n.lans < r.nodes[r.master].lans:
		default:
			r.master, r.held, r.despite = t.node, true, r.dead(t.node)
		}
	}
	r.settle()
}

// take lets it happen to the machines.
func (s *sim) take(t turn, r *rules) {
	if t.node < 0 {
		switch t.what {
		case "dsl":
			s.kill("dsl", !s.dead["dsl"])
		case "auto":
			if r.master >= 0 {
				s.command(fmt.Sprintf("r%d", r.master+1), VerbAuto, "")
			}
		}
		return
	}
	n := s.nodes[fmt.Sprintf("r%d", t.node+1)]
	switch t.what {
	case "power":
		if n.running {
			s.power(n.name)
		} else {
			s.boot(n.name)
		}
	case "lan1", "lans":
		was := r.nodes[t.node].lans
		n.carrier("lan1", t.what == "lan1" && was == 1 || t.what == "lans" && was == 0)
		if t.what == "lans" || was == 0 {
			n.carrier("lan0", was == 0)
		}
	case "dsl":
		n.blind["dsl"] = !n.blind["dsl"]
	case "maintenance":
		if n.running {
			verb := VerbRest
			if n.rests {
				verb = VerbServe
			}
			s.command(n.name, verb, "")
		}
	case "failover":
		if r.master >= 0 {
			s.command(fmt.Sprintf("r%d", r.master+1), VerbFailover, n.name)
		}
	}
}

// settled is longer than any move takes: probes, preempt_delay, certainty.
const settled = 6 * time.Second

// follow takes the turns one after the other and compares after each.
func follow(t *testing.T, preempt bool, story []turn) {
	t.Helper()
	s := newSim(t, "r1", "r2")
	word := map[bool]string{true: "on", false: "off"}[preempt]
	for _, n := range s.nodes {
		n.disk += " preempt=" + word
	}
	s.boot("r1")
	s.run(time.Second)
	s.boot("r2")
	s.run(time.Second)
	r := &rules{preempt: preempt, nodes: [2]*ruled{{on: true, lans: 2}, {on: true, lans: 2}}}
	for i, what := range story {
		at, was := s.now, r.master
		s.log = append(s.log, fmt.Sprintf("%8v --- %v", s.now.Sub(s.start), what))
		s.take(what, r)
		r.apply(what)
		s.run(settled)
		if err := s.agrees(r); err != "" {
			t.Fatalf("preempt %s, after %v: %s\n%s", word, story[:i+1], err, strings.Join(s.log, "\n"))
		}
		if was < 0 || r.master < 0 || what.what == "power" {
			continue
		}
		if none, double := s.coverage(at); none > 10*time.Millisecond || double > 10*time.Millisecond {
			t.Fatalf("preempt %s, %v: nobody held the addresses for %v, two for %v\n%s", word, story[:i+1], none, double, strings.Join(s.log, "\n"))
		}
	}
}

// agrees says how the machines differ from the rules, "" if they do not.
func (s *sim) agrees(r *rules) string {
	var hashes []string
	for i, n := range r.nodes {
		node := s.nodes[fmt.Sprintf("r%d", i+1)]
		if !n.on {
			continue
		}
		if master := node.m.Role() == RoleMaster; master != (i == r.master) || node.holds != master {
			return fmt.Sprintf("%s is %v, holds %v; want r%d to be master", node.name, node.m.Role(), node.holds, r.master+1)
		}
		if !slices.Contains(hashes, node.m.planHash) {
			hashes = append(hashes, node.m.planHash)
		}
	}
	if len(hashes) > 1 && r.master >= 0 {
		return "the plan hashes differ"
	}
	return ""
}

// TestMoves lets everything that moves the role happen to a pair, each after
// each other, and in long walks: an operator's hold, maintenance, row 5 and row
// 6 of DESIGN.md §5, a node's death and return, with preemption and without.
func TestMoves(t *testing.T) {
	for _, preempt := range []bool{true, false} {
		for _, first := range turns {
			t.Run(fmt.Sprintf("preempt %v, first %v", preempt, first), func(t *testing.T) {
				t.Parallel()
				for _, second := range turns {
					follow(t, preempt, []turn{first, second})
				}
			})
		}
		t.Run(fmt.Sprintf("preempt %v, walks", preempt), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(15) {
				rnd := rand.New(rand.NewPCG(seed, 6))
				var story []turn
				for range 8 {
					story = append(story, turns[rnd.IntN(len(turns))])
				}
				follow(t, preempt, story)
			}
		})
	}
}
