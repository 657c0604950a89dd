package dataplane

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/balancer"
	"harouter/test/netlab"
)

// TestManyLinks: 16 uplinks and 4 lans, applied twice, repaired, as a script,
// and one of them dying.
func TestManyLinks(t *testing.T) {
	t.Parallel()
	if !netlab.Isolated(t) {
		return
	}
	c, in := twoUplinks()
	c.Lans, c.Uplinks = nil, nil
	in.Own, in.OwnLan = map[string][]netip.Addr{}, map[string][]netip.Prefix{}
	links := "ip link set lo up\n"
	link := func(device string) {
		links += fmt.Sprintf("ip link add %[1]s type veth peer name p%[1]s; ip link set %[1]s up; ip link set p%[1]s up\n", device)
	}
	for i := range 4 {
		l := balancer.Lan{Name: fmt.Sprintf("lan-%d", i), Device: fmt.Sprintf("l%d", i), Virtual: prefix(fmt.Sprintf("10.%d.0.1/24", i))}
		c.Lans = append(c.Lans, l)
		link(l.Device)
	}
	for i := range 16 {
		u := balancer.Uplink{
			Name: fmt.Sprintf("isp_%d", i+1), ID: i + 1, Device: fmt.Sprintf("w%d", i+1), Weight: 1 + i%5, Tier: 1,
			Gateway: netip.AddrFrom4([4]byte{100, 64, byte(i), 1}), Virtual: prefix(fmt.Sprintf("100.64.%d.10/24", i)),
		}
		if i == 7 {
			u.ID, u.Virtual = 63, nil
		}
		if i == 8 {
			u.Gateway = netip.AddrFrom4([4]byte{}) // point-to-point
		}
		c.Uplinks = append(c.Uplinks, u)
		in.Usable[u.Name], in.Verdicts[u.Name] = true, balancer.Up
		in.Own[u.Name] = []netip.Addr{netip.AddrFrom4([4]byte{100, 64, byte(i), 2})}
		link(u.Device)
		links += fmt.Sprintf("ip addr add 100.64.%d.2/24 dev %s\n", i, u.Device)
	}
	netlab.Sh(t, links)
	k := quietKernel(t)
	p := build(t, c, in)
	start := time.Now()
	must(t, k.Apply(t.Context(), p))
	t.Logf("first Apply: %v", time.Since(start))
	dump := "nft -a list ruleset; ip rule; ip -4 route show table all"
	before := netlab.Sh(t, dump)
	start = time.Now()
	must(t, k.Apply(t.Context(), p))
	t.Logf("second Apply: %v", time.Since(start))
	if d := cmp.Diff(before, netlab.Sh(t, dump)); d != "" {
		t.Errorf("the second Apply changed something:\n%s", d)
	}

	in.Usable["isp_3"] = false
	p = build(t, c, in)
	start = time.Now()
	must(t, k.Apply(t.Context(), p))
	took := time.Since(start)
	t.Logf("a death: %v", took)
	if took > 200*time.Millisecond {
		t.Errorf("a death took %v", took)
	}

	ours := quiet(state(t))
	must(t, k.Cleanup(t.Context()))
	scriptGives(t, p, ours)
	must(t, k.Apply(t.Context(), p)) // adopts what the script made
	if d := cmp.Diff(ours, quiet(state(t))); d != "" {
		t.Errorf("-applied +adopted:\n%s", d)
	}
}
