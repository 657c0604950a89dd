package kernel

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"harouter/conntracksync"
)

// MaxPorts is how many flows one source address of NAT can have towards one
// destination endpoint at a time: ports 1024 to 65535.
const MaxPorts = 64512

// NATPorts tells of one source address of NAT how many of its ports are taken
// towards the endpoint to which it has the fewest left.
type NATPorts struct {
	Address     netip.Addr // the source after translation
	Mark        uint32     // of the flows, in the bits of the mask: the uplink
	Protocol    conntracksync.Protocol
	Destination netip.AddrPort
	Used        int // of MaxPorts
}

// String writes it as "203.0.113.10 uses 51610 of 64512 ports towards udp
// 198.51.100.1:53".
func (p NATPorts) String() string {
	return fmt.Sprintf("%v uses %d of %d ports towards %v %v", p.Address, p.Used, MaxPorts, p.Protocol, p.Destination)
}

// PortUse returns the most used endpoint of each source address to which tcp,
// udp or sctp flows, IPv4 or IPv6, are translated, in the order of the
// addresses. The node's own flows from that address take ports too and count
// where translated ones go to the same endpoint.
//
// It dumps the table, as CountByMark does, at about the same cost (0.1 s of a
// core for 100,000 flows), so once in 10 s is often enough. While the whole table, by TableUse, holds
// fewer flows than would be worth an alarm, no endpoint can have them, and the
// caller need not ask. It keeps 4096 endpoints at most, some 600 kB; in a table
// with more of them Used may be too low by a 4096th of the table's flows.
func PortUse(ctx context.Context, mask uint32) ([]NATPorts, error) {
	e := endpoints{mask: mask, counts: map[endpoint]tally{}}
	if err := dump(ctx, func() { clear(e.counts) }, e.add); err != nil {
		return nil, fmt.Errorf("count the ports of NAT: %w", err)
	}
	return e.busiest(), nil
}

// maxEndpoints is how many are counted at a time.
const maxEndpoints = 4096

// endpoint is what a source port must be unique for.
type endpoint struct {
	source   netip.Addr // after translation
	protocol conntracksync.Protocol
	to       netip.AddrPort
}

type tally struct {
	n          int
	mark       uint32
	translated bool // at least one of the flows
}

// endpoints counts the flows of those that have most: the algorithm of Misra
// and Gries. When there is no room for one more, all counts and the new one
// lose one, so each loses at most one for every maxEndpoints+1 flows, and the
// work is as much as adding was.
type endpoints struct {
	mask   uint32
	counts map[endpoint]tally
}

func (e *endpoints) add(f *conntracksync.Flow) {
	switch f.Reply.Protocol {
	case conntracksync.TCP, conntracksync.UDP, conntracksync.SCTP:
	default:
		return
	}
	// The kernel keeps the reply tuples apart: an answer goes from the endpoint
	// to the port in question.
	key := endpoint{f.Reply.Destination, f.Reply.Protocol, netip.AddrPortFrom(f.Reply.Source, f.Reply.SourcePort)}
	c, ok := e.counts[key]
	if !ok && len(e.counts) == maxEndpoints {
		for k, c := range e.counts {
			if c.n--; c.n == 0 {
				delete(e.counts, k)
				continue
			}
			e.counts[k] = c
		}
		return
	}
	c.n++
	if f.Status&conntracksync.SourceNAT != 0 {
		c.translated, c.mark = true, f.Mark&e.mask
	}
	e.counts[key] = c
}

// busiest is the endpoint with most flows of each source.
func (e *endpoints) busiest() []NATPorts {
	most := map[netip.Addr]NATPorts{}
	for k, c := range e.counts {
		if !c.translated {
			continue
		}
		p := NATPorts{Address: k.source, Mark: c.mark, Protocol: k.protocol, Destination: k.to, Used: c.n}
		if old, ok := most[k.source]; !ok || busier(p, old) > 0 {
			most[k.source] = p
		}
	}
	return slices.SortedFunc(maps.Values(most), func(a, b NATPorts) int { return a.Address.Compare(b.Address) })
}

// busier compares the use; of equals always the same comes first.
func busier(a, b NATPorts) int {
	return cmp.Or(cmp.Compare(a.Used, b.Used), b.Destination.Compare(a.Destination), cmp.Compare(b.Protocol, a.Protocol))
}
