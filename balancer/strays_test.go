package balancer

import (
	"net/netip"
	"testing"
	"time"
)

func TestStrays(t *testing.T) {
	c, in := pair()
	span := func(p string) Spans { return Union(PrefixSpan(netip.MustParsePrefix(p))) }
	port := func(n uint64) Match {
		return Match{MatchProtocol: Union(Span{6, 6}), MatchDestinationPort: Union(Span{n, n})}
	}
	c.Policies = []Policy{
		{Name: "voice", Match: Match{MatchDSCP: Union(Span{46, 46}), MatchDestination: span("198.51.100.7/32")}},
		{Name: "mail", Match: port(25), Method: Priority, Move: true},
		{Name: "news", Match: port(119), Method: Priority},
		{Name: "lan", Match: Match{MatchLan: Union(Span{0, 0}), MatchDestination: span("198.51.100.8/32")}, Method: Priority, Move: true},
		{Name: "bulk", Match: port(20), Method: Overflow, Move: true},
		{Name: "default"},
	}
	strays, ok := c.Strays(in)
	if !ok {
		t.Fatal("none could be")
	}
	flow := func(to string, port uint16, id int) Flow {
		return Flow{Source: addr("192.168.77.10"), Destination: addr(to), Protocol: 6, SourcePort: 4000, DestinationPort: port, ID: id}
	}
	routed := flow("198.51.100.8", 80, 2)
	routed.Source = addr("10.0.0.1")
	own := flow("198.51.100.1", 25, 2)
	own.Source = addr("203.0.113.130")
	inbound := flow("203.0.113.140", 25, 2)
	inbound.Source = addr("198.51.100.1")
	for name, test := range map[string]struct {
		flow Flow
		want bool
	}{
		"mail on dsl":                      {flow("198.51.100.1", 25, 2), true},
		"mail on cable":                    {flow("198.51.100.1", 25, 1), false},
		"mail without an uplink":           {flow("198.51.100.1", 25, 0), false},
		"news stays":                       {flow("198.51.100.1", 119, 2), false},
		"bulk keeps what it carries":       {flow("198.51.100.1", 20, 2), false},
		"the rest is spread":               {flow("198.51.100.1", 80, 2), false},
		"it may be voice":                  {flow("198.51.100.7", 25, 2), false},
		"of the lan":                       {flow("198.51.100.8", 80, 2), true},
		"of a network behind the lan":      {routed, false},
		"of the node":                      {own, false},
		"from outside":                     {inbound, false},
		"an uplink that is not in use now": {flow("198.51.100.1", 25, 9), true},
	} {
		if got := strays.Has(test.flow); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	in.Usable["cable"] = false
	if strays, _ = c.Strays(in); strays.Has(flow("198.51.100.1", 25, 2)) {
		t.Error("mail on dsl is where it belongs while cable is dead")
	}
	c.Policies = c.Policies[5:]
	if _, ok := c.Strays(in); ok {
		t.Error("nobody asks for it")
	}
}

func TestEnforces(t *testing.T) {
	c, _ := pair()
	alarm := Policy{Name: "alarm", Method: Enforced, WhenNone: NoneDrop, Uplinks: []string{"dsl"}}
	for name, test := range map[string]struct {
		policies []Policy
		want     bool
	}{
		"nobody's":           {[]Policy{{Name: "default", Uplinks: []string{"cable"}}}, false},
		"its own":            {[]Policy{alarm, {Name: "default", Uplinks: []string{"cable"}}}, true},
		"also of the others": {[]Policy{alarm, {Name: "default"}}, false},
		"or of any":          {[]Policy{alarm, {Name: "default", Uplinks: []string{"cable"}, WhenNone: NoneAny}}, false},
	} {
		c.Policies = test.policies
		if got := c.Enforces("dsl"); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestLearnedOfAWorseUplink: what a policy has learned keeps hosts where they are,
// also on an uplink that gets no new flows any more; but not where flows are to
// move back.
func TestLearnedOfAWorseUplink(t *testing.T) {
	for name, want := range map[string]int{"keep": 2, "move": 1} {
		c, in := pair()
		c.Uplinks[1].Tier = 2
		c.Policies = []Policy{{Name: "default", Method: Persistence, Learned: time.Minute, Move: name == "move"}}
		p, err := Build(c, in)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Learned) != want || p.Learned[0].Uplink != "cable" {
			t.Errorf("%s: learned of %+v, want %d uplinks", name, p.Learned, want)
		}
	}
}
