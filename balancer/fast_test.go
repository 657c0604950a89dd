package balancer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKnownFlowsPassFewRules: whatever the file asks for, a packet of a known flow
// that is forwarded meets three chains, and is through each after a rule or two.
func TestKnownFlowsPassFewRules(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*Config)
		forward []string // its first rules
	}{
		{"plain", func(*Config) {}, []string{known, free}},
		{"all that guards", func(c *Config) {
			c.Firewall, c.ClampMSS = Firewall{Enabled: true, Antispoof: true, SYN: Rate{100, "second"}}, true
		}, []string{"tcp flags & (syn | rst) == syn jump clamp", known, free}},
		{"forwards", func(c *Config) {
			c.Forwards = []Forward{{Protocol: 6, Ports: Ports{80, 80}, To: addr("192.168.77.80"), Hairpin: true}}
		}, []string{known, free}},
		{"virtual MACs", withMACs, []string{known, free}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, in := pair()
			tc.change(&c)
			p, err := Build(c, in)
			if err != nil {
				t.Fatal(err)
			}
			way := map[string][]string{}
			for _, ch := range p.Table.Chains {
				if ch.Hook != "" && ch.Type != "nat" { // the kernel asks those for the first packet alone
					way[ch.Hook] = append(way[ch.Hook], ch.Name)
				}
				switch ch.Name {
				case "pre":
					if got := ch.Rules[0].String(); got != "meta mark 0 ct mark & 0x00003f00 @marks meta mark set ct mark & 0x00003f00 return" {
						t.Errorf("pre begins with %q", got)
					}
				case "forwarded":
					var first []string
					for _, r := range ch.Rules[:len(tc.forward)] {
						first = append(first, r.String())
					}
					if d := cmp.Diff(tc.forward, first); d != "" {
						t.Errorf("forwarded begins otherwise:\n%s", d)
					}
				}
			}
			delete(way, "input")
			delete(way, "output")
			if d := cmp.Diff(map[string][]string{"prerouting": {"pre"}, "forward": {"forwarded"}, "postrouting": {"leave"}}, way); d != "" {
				t.Errorf("chains on the way of what is forwarded:\n%s", d)
			}
		})
	}
}

const (
	known = "ct state established,related meta mark & 0x00003f00 != 0 return"
	free  = "ct state established,related ct mark & 0x00003f00 == 0 return"
)

// TestMeasuredUplinksAreNotPassedBy: the brake of a full line counts each packet,
// so its flows take the way with the rules that count.
func TestMeasuredUplinksAreNotPassedBy(t *testing.T) {
	c, in := pair()
	c.Uplinks[0].Speed = Load{Down: 1e8, Up: 1e7}
	c.Policies = []Policy{{Name: "default", Method: Overflow, Overflow: OverflowLimits{Enter: 0.9, Leave: 0.75}}}
	p, err := Build(c, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Table.Sets {
		if s.Name == "marks" {
			if d := cmp.Diff([]Element{{Mark: 0x200}}, s.Elements, cmp.Comparer(func(a, b Element) bool { return a.compare(b) == 0 })); d != "" {
				t.Error(d)
			}
		}
	}
}
