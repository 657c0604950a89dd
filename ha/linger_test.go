package ha

import (
	"testing"
	"time"
)

// TestLinger: a former master goes on with what still reaches it until a second
// passes without a packet, 5 s at most (DESIGN.md §5 row 3).
func TestLinger(t *testing.T) {
	for name, c := range map[string]struct {
		passes, want time.Duration // since the command
		verb         Verb
	}{
		"nothing comes":          {0, time.Second, VerbFailover},
		"for a while":            {2200 * time.Millisecond, 3200 * time.Millisecond, VerbFailover},
		"for ever":               {time.Hour, 5 * time.Second, VerbFailover},
		"leaving":                {0, time.Second, VerbStop},
		"leaving, for a while":   {2200 * time.Millisecond, 3200 * time.Millisecond, VerbStop},
		"leaving, for ever":      {time.Hour, 5 * time.Second, VerbStop},
		"leaving, after a flush": {time.Hour, 5600 * time.Millisecond, VerbStop},
	} {
		t.Run(name, func(t *testing.T) {
			s := inSync(t, "", "r1", "r2")
			n := s.nodes["r1"]
			if name == "leaving, after a flush" {
				n.flows.flushs = flushHangs
			}
			at := s.now
			n.passes = at.Add(c.passes)
			s.command("r1", c.verb, "")
			lasts := func() bool { return n.exit == nil && n.active }
			if c.verb == VerbFailover {
				lasts = func() bool { return n.active }
			}
			for s.now.Sub(at) < 12*time.Second && lasts() {
				s.run(time.Millisecond)
			}
			if took := s.now.Sub(at); took < c.want-250*time.Millisecond || took > c.want+250*time.Millisecond {
				t.Errorf("took new flows for %v, want %v", took, c.want)
			}
			s.run(time.Millisecond)
			s.master("r2")
		})
	}
}
