package ha

import (
	"strings"
	"testing"
	"time"
)

// TestBestIsFirst: three backups lose their master. Whoever heard its last advert,
// the best of those that live is the next master, and no other in between.
func TestBestIsFirst(t *testing.T) {
	for _, c := range []struct {
		name    string
		muffled string // hears no advert for a while before
		gone    string // dies with the master
		master  string
		within  time.Duration
		words   string
	}{
		{"all heard the last advert", "", "", "r2", 350 * time.Millisecond, ""},
		{"r3 did not", "r3", "", "r2", 350 * time.Millisecond, ""},
		{"r5 did not", "r5", "", "r2", 350 * time.Millisecond, ""},
		{"the best one did not", "r2", "", "r2", 350 * time.Millisecond, ""},
		{"the best one dies too", "", "r2", "r3", 470 * time.Millisecond, ""},
		{"short intervals", "r3", "", "r2", 40 * time.Millisecond, " advertise=10ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			names := []string{"r1", "r2", "r3", "r5"}
			s := newSim(t, names...)
			for _, n := range s.all() {
				n.disk += c.words
			}
			s.boot(names...)
			s.run(4 * time.Second)
			s.master("r1")
			interval := s.nodes["r1"].m.cfg.Advertise
			if c.muffled != "" {
				s.nodes[c.muffled].muffled = true
				s.run(interval * 11 / 10) // one is lost, and the master is not asked yet
			}
			s.power("r1")
			if c.gone != "" {
				s.power(c.gone)
			}
			if c.muffled != "" {
				s.nodes[c.muffled].muffled = false
			}
			s.run(c.within)
			s.master(c.master)
			s.run(5 * time.Second)
			for _, name := range names[1:] {
				if n := s.nodes[name]; name != c.gone && n.m.transitions != map[bool]int{true: 1}[name == c.master] {
					t.Errorf("%s changed its role %d times\n%s", name, n.m.transitions, strings.Join(s.log, "\n"))
				}
			}
		})
	}
}
