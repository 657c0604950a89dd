package vip

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"harouter/test/netlab"
)

// TestSweep: without a configuration our link-local addresses are recognised,
// others' are left, and what may be a virtual one is told.
func TestSweep(t *testing.T) {
	if !netlab.Isolated(t) {
		return
	}
	netlab.Sh(t, `ip link add lan0 type veth peer name other; ip link set lan0 up; ip link set other up
		ip addr add 169.254.51.1/32 dev lan0 scope link noprefixroute
		ip addr add 169.254.9.9/16 dev lan0 scope link
		ip addr add 169.254.9.8/32 dev lan0 scope link
		ip addr add 192.168.77.1/24 dev lan0 noprefixroute
		ip addr add 192.168.77.2/24 dev lan0
		ip addr add 192.168.78.2/24 dev other valid_lft 100 preferred_lft 100 noprefixroute`)
	r, err := NewRemover()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 { // twice is the same as once
		doubtful, err := r.Sweep()
		if err != nil {
			t.Fatal(err)
		}
		want := []Address{{Device: "lan0", Prefix: netip.MustParsePrefix("192.168.77.1/24")}}
		if diff := cmp.Diff(want, doubtful, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
			t.Errorf("doubtful (-want +got):\n%s", diff)
		}
	}
	var left []string
	for l := range strings.Lines(netlab.Sh(t, "ip -o -4 addr")) {
		left = append(left, strings.Fields(l)[3])
	}
	slices.Sort(left)
	want := []string{"169.254.9.8/32", "169.254.9.9/16", "192.168.77.1/24", "192.168.77.2/24", "192.168.78.2/24"}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}
