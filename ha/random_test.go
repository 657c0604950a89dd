package ha

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestRandomFaults lets clusters suffer: power cuts, stops,
// planned moves, ports, partitions, dead ISPs, in any order. Once all is
// healed there is exactly one master, the best node, and it alone holds the
// addresses.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		names := []string{"r1", "r2", "r3"}[:2+seed%2]
		r := rand.New(rand.NewPCG(seed, 7))
		s := newSim(t, names...)
		s.boot(names...)
		var story []string
		for range 12 {
			s.run(time.Duration(r.IntN(1500)) * time.Millisecond)
			n := s.nodes[names[r.IntN(len(names))]]
			o := s.nodes[names[r.IntN(len(names))]]
			what := ""
			switch r.IntN(10) {
			case 0:
				what = "power " + n.name
				if n.running {
					s.power(n.name)
				}
			case 1, 2:
				what = "boot " + n.name
				if !n.running {
					s.boot(n.name)
				}
			case 3:
				what = "failover on " + n.name + " to " + o.name
				s.command(n.name, VerbFailover, o.name)
			case 4:
				what = "auto on " + n.name
				s.command(n.name, VerbAuto, "")
			case 5:
				what = "stop " + n.name
				s.command(n.name, VerbStop, "")
			case 6:
				what = "ports of " + n.name
				n.carrier("lan0", r.IntN(2) == 0)
				n.carrier("lan1", r.IntN(2) == 0)
			case 7:
				what = "partition " + n.name + " " + o.name
				if n != o {
					s.partition(n.name, o.name, r.IntN(2) == 0)
				}
			case 8:
				what = "dsl"
				s.kill("dsl", r.IntN(2) == 0)
			case 9:
				what = "freeze " + n.name
				n.handle(Overslept{For: time.Second})
			}
			story = append(story, fmt.Sprintf("%v %s", s.now.Sub(s.start), what))
		}
		s.run(3 * time.Second) // who is leaving has left
		s.kill("dsl", false)
		for _, a := range names {
			for _, b := range names {
				if a != b {
					s.partition(a, b, false)
				}
			}
		}
		for _, name := range names {
			n := s.nodes[name]
			n.deaf = false
			if n.exit != nil || !n.running {
				s.boot(name)
			}
			n.carrier("lan0", true)
			n.carrier("lan1", true)
		}
		s.run(5 * time.Second)
		for _, name := range names { // end any hold
			s.command(name, VerbAuto, "")
		}
		s.run(15 * time.Second)
		for _, name := range names {
			n := s.nodes[name]
			want := name == "r1"
			if got := n.m.Role() == RoleMaster; got != want || n.holds != want || n.active != want {
				t.Fatalf("seed %d: %s is %v, holds %v, active %v\n%s\n\n%s", seed, name, n.m.Role(), n.holds, n.active,
					strings.Join(story, "\n"), strings.Join(s.log, "\n"))
			}
			if n.m.planHash != s.nodes["r1"].m.planHash {
				t.Fatalf("seed %d: plan hashes of %s and r1 differ: %v %v, %v %v\n%s\n\n%s", seed, name, n.m.pool, n.m.verdicts,
					s.nodes["r1"].m.pool, s.nodes["r1"].m.verdicts, strings.Join(story, "\n"), strings.Join(s.log, "\n"))
			}
		}
	}
}
