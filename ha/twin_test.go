package ha

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSameAddress: the address of another node on a lan is this node's as well.
func TestSameAddress(t *testing.T) {
	s := booted(t, "r1", "r2")
	give := func(device, address string) {
		n := s.nodes["r2"]
		l := n.links[device]
		l.Addresses = []netip.Prefix{netip.MustParsePrefix(address)}
		n.links[device] = l
		n.linksChanged()
		s.run(2 * time.Second)
	}
	alarms := func() map[string][]string {
		got := map[string][]string{}
		for _, n := range s.all() {
			for _, a := range n.m.Status(n.clock()).Alarms {
				if a.Code == AlarmAddressConflict {
					got[n.name] = append(got[n.name], a.Subject)
				}
			}
		}
		return got
	}
	none := map[string][]string{}
	for _, step := range []struct {
		what, device, address string
		want                  map[string][]string
	}{
		{"on one lan", "lan0", "192.168.77.101/24", map[string][]string{"r1": {"192.168.77.101"}, "r2": {"192.168.77.101"}}},
		{"another one", "lan0", "192.168.77.102/24", none},
		{"on an uplink, where each may have a modem of its own", "wan1", "203.0.113.21/25", none},
	} {
		give(step.device, step.address)
		if diff := cmp.Diff(step.want, alarms()); diff != "" {
			t.Errorf("%s: -want +got\n%s", step.what, diff)
		}
	}
	give("lan0", "192.168.77.101/24")
	s.power("r2")
	s.run(3 * time.Second)
	if left := alarms()["r1"]; len(left) > 0 {
		t.Errorf("it is gone, and the alarms of %v are not", left)
	}
}
