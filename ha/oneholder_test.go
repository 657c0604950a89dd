package ha

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// alone fails if two nodes held the addresses at once, and returns the longest
// time since a moment in which nobody did.
func (s *sim) alone(since time.Time) (longest time.Duration) {
	s.t.Helper()
	type holding struct {
		span
		by string
	}
	var all []holding
	for _, n := range s.all() {
		for _, sp := range n.held {
			if sp.to.IsZero() {
				sp.to = s.now
			}
			if sp.to.After(since) {
				all = append(all, holding{sp, n.name})
			}
		}
	}
	slices.SortFunc(all, func(a, b holding) int { return a.from.Compare(b.from) })
	for i := 1; i < len(all); i++ {
		was, is := all[i-1], all[i]
		if is.from.Before(was.to) {
			s.t.Errorf("%s and %s both held the addresses for %v\n%s", was.by, is.by, was.to.Sub(is.from), strings.Join(s.log, "\n"))
		}
		longest = max(longest, is.from.Sub(was.to))
	}
	if len(all) > 0 {
		longest = max(longest, s.now.Sub(all[len(all)-1].to))
	}
	return longest
}

// TestOneHolder: where the addresses have a MAC of their own, a planned change
// of hands has no moment with two holders, and few milliseconds with none.
func TestOneHolder(t *testing.T) {
	const down = 3*100*time.Millisecond + 106*100*time.Millisecond/256 // of r2
	for _, c := range []struct {
		name   string
		do     func(s *sim)
		silent time.Duration // at most
		master string
	}{
		{"an operator's", func(s *sim) { s.command("r1", VerbFailover, "r2") }, 20 * time.Millisecond, "r2"},
		{"there and back", func(s *sim) {
			s.command("r1", VerbFailover, "r2")
			s.run(3 * time.Second)
			s.command("r2", VerbFailover, "r1")
		}, 20 * time.Millisecond, "r1"},
		{"one leaves", func(s *sim) { s.command("r1", VerbStop, "") }, 20 * time.Millisecond, "r2"},
		{"a lan is gone here", func(s *sim) { s.nodes["r1"].carrier("lan0", false) }, 60 * time.Millisecond, "r2"},
		{"both lans", func(s *sim) { s.nodes["r1"].carrier("lan0", false); s.nodes["r1"].carrier("lan1", false) }, 20 * time.Millisecond, "r2"},
		{"an uplink is dead here", func(s *sim) { s.nodes["r1"].blind["cable"] = true }, 20 * time.Millisecond, "r2"},
		{"a better one comes back", func(s *sim) {
			s.power("r1")
			s.run(5 * time.Second)
			s.boot("r1")
		}, down + 20*time.Millisecond, "r1"},
		{"slow flows", func(s *sim) {
			s.nodes["r2"].flows.takes = 500 * time.Millisecond
			s.command("r1", VerbFailover, "r2")
		}, 20 * time.Millisecond, "r2"},
		// What gets lost, or whoever dies in the middle, costs no more than a crash.
		{"handover is lost", func(s *sim) { s.mute = KindHandover; s.command("r1", VerbFailover, "r2") }, 0, "r1"},
		{"ready is lost", func(s *sim) { s.mute = KindReady; s.command("r1", VerbFailover, "r2") }, 0, "r1"},
		{"gone is lost", func(s *sim) { s.mute = KindGone; s.command("r1", VerbFailover, "r2") }, gonePatience + down + 20*time.Millisecond, ""},
		{"taken is lost", func(s *sim) { s.mute = KindTaken; s.command("r1", VerbFailover, "r2") }, 20 * time.Millisecond, "r2"},
		{"the successor dies before", func(s *sim) {
			s.command("r1", VerbFailover, "r2")
			s.run(2 * time.Millisecond)
			s.power("r2")
		}, 0, "r1"},
		{"the successor dies after", func(s *sim) {
			s.mute = KindGone
			s.command("r1", VerbFailover, "r2")
			s.run(10 * time.Millisecond)
			s.power("r2")
		}, gonePatience + 20*time.Millisecond, "r1"},
		{"the master dies meanwhile", func(s *sim) {
			s.mute = KindReady
			s.command("r1", VerbFailover, "r2")
			s.run(10 * time.Millisecond)
			s.power("r1")
		}, gonePatience + down + 20*time.Millisecond, "r2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, words := range []string{" one", " one sync=60s"} {
				s := newSim(t, "r1", "r2")
				for _, n := range s.nodes {
					n.disk += words
				}
				s.boot("r1", "r2")
				s.run(5 * time.Second)
				if !s.nodes["r1"].holds {
					t.Fatal("r1 is not master\n" + strings.Join(s.log, "\n"))
				}
				at := s.now
				c.do(s)
				s.run(15 * time.Second)
				if gap := s.alone(at); gap > c.silent {
					t.Errorf("%s: nobody held the addresses for %v, want at most %v\n%s", words, gap, c.silent, strings.Join(s.log, "\n"))
				}
				var holders []string
				for _, n := range s.all() {
					if n.running && n.holds {
						holders = append(holders, n.name)
					}
				}
				if len(holders) != 1 || c.master != "" && holders[0] != c.master {
					t.Errorf("%s: in the end held by %v, want %s\n%s", words, holders, c.master, strings.Join(s.log, "\n"))
				}
			}
		})
	}
}
