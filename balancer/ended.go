package balancer

import (
	"fmt"
	"net/netip"
)

// Flows of an uplink that died are deleted. A TCP client among them is answered
// with a reset as soon as it says a word. One that waits in silence is provoked
// (balancer/notice): the daemon sends it a segment from outside of its window,
// which a host answers by a bare ACK, and that meets the reset.

// Ends are those of a TCP connection as the lan sees it: the host there, and
// whom it speaks with.
type Ends struct{ Host, Peer netip.AddrPort }

// SetEnded is a timed set of such connections that were ended during the grace
// of a takeover, by their Ends: they are no flows of another node, and are reset
// all the same.
const SetEnded = "ended"

// NoticeMark is the priority (SO_PRIORITY) of the segments that provoke. Unlike a
// mark it is no bit that others may route by.
const NoticeMark = 0x68617277

// prioRaw is before connection tracking, which is at -200.
const prioRaw = -300

type (
	// EndsIn looks up in a set who speaks with whom by TCP.
	EndsIn struct{ Set string }
	// OfPriority matches packets of a priority.
	OfPriority struct {
		Not   bool
		Value uint32
	}
	// NoTrack keeps a packet from connection tracking.
	NoTrack struct{}
)

func (EndsIn) stmt()     {}
func (OfPriority) stmt() {}
func (NoTrack) stmt()    {}

func (s EndsIn) String() string { return "ip saddr . tcp sport . ip daddr . tcp dport @" + s.Set }
func (s OfPriority) String() string {
	return fmt.Sprintf("meta priority %s%x:%x", not(s.Not), s.Value>>16, s.Value&0xffff)
}
func (NoTrack) String() string { return "notrack" }

// midstream is for TCP whose entry is not here: after a takeover it may still
// come; later the host learns that its connection is gone, the uplink never sees
// it.
func (c *Config) midstream() Chain {
	drop := Jump{Kind: "drop"}
	if c.NoReset {
		return Chain{Name: "midstream", Rules: []Rule{{Counter{}, drop}}}
	}
	return Chain{Name: "midstream", Rules: []Rule{
		{ProtoIn{Not: true, Set: SetActive}, Counter{}, drop},
		{TCPFlags{Mask: flagRST, Value: flagRST}, drop},
		{InSet{Set: "lan_if"}, EndsIn{SetEnded}, Counter{}, Reset{}},
		{ProtoIn{Set: SetGrace}, Counter{}, drop},
		{InSet{Set: "lan_if"}, Counter{}, Reset{}},
		{drop},
	}}
}

// notice is the way of what provokes: it has the source of somebody else, so it
// goes to lans only, and makes no entry that its answer would be part of.
func (c *Config) notice() []Chain {
	if c.NoReset {
		return nil
	}
	return []Chain{{Name: "notice", Type: "filter", Hook: "output", Priority: prioRaw, Rules: []Rule{
		{OfPriority{Not: true, Value: NoticeMark}, Jump{Kind: "return"}},
		{InSet{Output: true, Set: "lan_if"}, NoTrack{}, Jump{Kind: "return"}},
		{Jump{Kind: "drop"}},
	}}}
}
