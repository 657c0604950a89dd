package ha

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLeases: what hangs on an address that a line had before is ended as soon as
// the line has another one, and not while it has none.
func TestLeases(t *testing.T) {
	s := newSim(t, "r1", "r2")
	s.boot("r1", "r2")
	s.run(3 * time.Second)
	n := s.nodes["r2"]
	lease := func(device string, all ...string) {
		l := n.links[device]
		l.Addresses = nil
		for _, a := range all {
			l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
		}
		n.links[device] = l
		n.linksChanged()
		s.run(10 * time.Millisecond)
	}
	for _, step := range []struct {
		name   string
		device string
		lease  []string
		want   []string
	}{
		{"another one beside it", "wan1", []string{"203.0.113.22/25", "203.0.113.50/25"}, nil},
		{"the old one goes", "wan1", []string{"203.0.113.50/25"}, []string{"203.0.113.22"}},
		{"the virtual one comes and goes", "wan1", []string{"203.0.113.50/25", "203.0.113.10/25"}, nil},
		{"again without it", "wan1", []string{"203.0.113.50/25"}, nil},
		{"none", "wan1", nil, nil},
		{"none but ours", "wan1", []string{"169.254.51.2/32"}, nil},
		{"the same again", "wan1", []string{"203.0.113.50/25"}, nil},
		{"none once more", "wan1", nil, nil},
		{"another one then", "wan1", []string{"203.0.113.60/25"}, []string{"203.0.113.50"}},
		{"what the other line has now", "wan2", []string{"203.0.113.60/25"}, []string{"203.0.113.132"}},
		{"and not this one any more", "wan1", []string{"203.0.113.70/25"}, nil},
	} {
		n.dropped = nil
		if step.name == "another one beside it" { // the first address of this test
			lease("wan1", "203.0.113.22/25")
			lease("wan2", "203.0.113.132/25")
			n.dropped = nil
		}
		lease(step.device, step.lease...)
		if d := cmp.Diff(step.want, n.dropped); d != "" {
			t.Errorf("%s: -want +got\n%s", step.name, d)
		}
	}
}
