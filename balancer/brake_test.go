package balancer

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSpill: what was drawn, else the first behind it that is not full, else what
// was drawn.
func TestSpill(t *testing.T) {
	c := measured(Overflow)
	c.MarkMask, c.TableBase, c.RulePriority = 0x3f00, 7000, 7000
	for i, d := range []string{"wan1", "wan2", "wan3"} {
		c.Uplinks[i].Device = d
	}
	chain := func(in Input, name string) (out []string) {
		t.Helper()
		p, err := Build(c, in)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(p.Table.Chains, func(c Chain) bool { return c.Name == name })
		if i < 0 {
			return nil
		}
		for _, r := range p.Table.Chains[i].Rules {
			out = append(out, r.String())
		}
		return out
	}
	all := Input{Usable: map[string]bool{"cable": true, "dsl": true, "lte": true}}
	for _, test := range []struct {
		name, chain string
		in          Input
		want        []string
	}{
		{"all", "over_default/cable", all, []string{
			"meta nfproto != @full_cable goto up_cable", "meta nfproto != @full_dsl goto up_dsl", "meta nfproto != @full_lte goto up_lte", "goto up_cable",
		}},
		{"not back", "over_default/dsl", all, []string{"meta nfproto != @full_dsl goto up_dsl", "meta nfproto != @full_lte goto up_lte", "goto up_dsl"}},
		{"only to who lives", "over_default/cable", Input{Usable: map[string]bool{"cable": true, "lte": true}}, []string{
			"meta nfproto != @full_cable goto up_cable", "meta nfproto != @full_lte goto up_lte", "goto up_cable",
		}},
		{"download", "in_cable", all, []string{
			"ct state new ct mark & 0x00003f00 == 0 ct mark set (ct mark & 0xffffc0ff) | 0x100", "", "limit rate over 1125000 bytes/second burst 131072 bytes update @full_cable { meta nfproto timeout 1s }",
		}},
		{"upload", "mark_cable", all, []string{"", "limit rate over 225000 bytes/second burst 131072 bytes update @full_cable { meta nfproto timeout 1s }"}},
	} {
		got := chain(test.in, test.chain)
		for i, w := range test.want {
			if w == "" || i == 0 && test.chain == "in_cable" { // not of the brake
				if i < len(got) {
					got[i], test.want[i] = "", ""
				}
			}
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
	c.Uplinks[1].Speed = Load{} // never full
	if d := cmp.Diff([]string{"meta nfproto != @full_cable goto up_cable", "goto up_dsl", "goto up_cable"}, chain(all, "over_default/cable")); d != "" {
		t.Errorf("without a speed (-want +got):\n%s", d)
	}
	c.Policies[0].Method = Weighted
	if got := chain(all, "over_default/cable"); got != nil {
		t.Errorf("weighted has %v", got)
	}
}
