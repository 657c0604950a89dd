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
