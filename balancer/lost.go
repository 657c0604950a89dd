package balancer

import (
	"fmt"
	"slices"
)

// A packet of a lan without a mark goes by the main table. Where that has no
// default route, which is usual, the kernel answers it: the network is
// unreachable. A host takes that for the last word, also where the packet came a
// moment too early: the ACK of a new connection that reaches a new master before
// the answer is known there ended the connection that it was to begin. So what has
// no mark because it belongs to nothing goes nowhere, in silence, and is sent
// again. A route of the main table to its destination alone is followed as ever.

type (
	// WayOver matches packets whose way, by their mark, leads over a device.
	WayOver struct{ Device string }
	// NoWay matches packets for which, by their mark, there is no way.
	NoWay struct{}
)

func (WayOver) stmt() {}
func (NoWay) stmt()   {}

func (s WayOver) String() string { return fmt.Sprintf("fib daddr . mark oifname %q", s.Device) }
func (NoWay) String() string     { return "fib daddr . mark oif missing" }

// lostChain is where packets of lans come for which the search picked nothing,
// strayChain where those come that belong to nothing and were not searched for.
const (
	lostChain  = "lost"
	strayChain = "stray"
)

// lost makes a chain for them, none if there is no uplink to ask by: with its mark
// a packet would be led there by the last of all routes, and anywhere else by a
// better one. refused says what becomes of the former.
func (c *Config) lost(name string, refused Rule) []Chain {
	i := slices.IndexFunc(c.Uplinks, c.leadsOut)
	if i < 0 {
		return nil
	}
	u := c.Uplinks[i]
	nowhere := Jump{Kind: "goto", Chain: name + "_nowhere"}
	rules := []Rule{{SetMetaMark{c.MarkMask, c.mark(u)}}, {NoWay{}, nowhere}}
	for _, d := range u.devices() {
		rules = append(rules, Rule{WayOver{d}, nowhere})
	}
	plain := Rule{SetMetaMark{c.MarkMask, 0}}
	return []Chain{
		{Name: name, Rules: append(rules, plain, Rule{Jump{Kind: "accept"}})},
		{Name: nowhere.Chain, Rules: []Rule{plain, refused}},
	}
}

// leadsOut tells that an uplink shares no device with a lan.
func (c *Config) leadsOut(u Uplink) bool {
	lans := c.lanDevices()
	return !slices.ContainsFunc(u.devices(), func(d string) bool { return slices.Contains(lans, d) })
}
