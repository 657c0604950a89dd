package gossip

import (
	"cmp"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Path is one way to another node: from an own address to one of its.
type Path struct {
	Peer          string
	Local, Remote netip.Addr
	Heard         time.Time // the last authentic packet or stream came; zero if none ever did
}

// path is a Path that lives on while both ends keep their addresses.
type path struct {
	ends
	last atomic.Pointer[time.Time] // heard
}

type ends struct{ local, remote netip.Addr }

// quietAfter is how long a path that is heard several times a second may be
// silent before a stream tries the others first.
const quietAfter = time.Second

func (p *path) heardSince(t time.Time) bool {
	last := p.last.Load()
	return last != nil && last.After(t)
}

// preferred returns the paths in the order in which a stream tries them: those
// that are heard first, among them the one that answered last.
func preferred(paths []*path, answered *path, now time.Time) []*path {
	rank := func(p *path) int {
		r := 0
		if !p.heardSince(now.Add(-quietAfter)) {
			r += 2
		}
		if p != answered {
			r++
		}
		return r
	}
	return slices.SortedStableFunc(slices.Values(paths), func(a, b *path) int { return cmp.Compare(rank(a), rank(b)) })
}

// pairs returns which address of one node talks to which of another, in order
// of preference. Within a family the first talks to the first, the second to
// the second, and so on. Where one list is longer, each address left over talks
// to that of the other list with which it shares the longest prefix, as source
// address selection would have it (RFC 6724, rule 8); the first of several. So
// each address that has a partner takes part, no packet is sent more often than
// the longer list is long, and both nodes come to the same pairs.
func pairs(own, peer []netip.Addr) []ends {
	var out []ends
	for _, is := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		ours, theirs := family(own, is), family(peer, is)
		if len(ours) == 0 || len(theirs) == 0 {
			continue
		}
		for i := range max(len(ours), len(theirs)) {
			switch {
			case i >= len(ours):
				out = append(out, ends{nearest(ours, theirs[i]), theirs[i]})
			case i >= len(theirs):
				out = append(out, ends{ours[i], nearest(theirs, ours[i])})
			default:
				out = append(out, ends{ours[i], theirs[i]})
			}
		}
	}
	return out
}

func family(list []netip.Addr, is func(netip.Addr) bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		if a = a.Unmap(); is(a) {
			out = append(out, a)
		}
	}
	return out
}

// nearest returns the first address of the list that has the most leading bits
// in common with a.
func nearest(list []netip.Addr, a netip.Addr) netip.Addr {
	return slices.MaxFunc(list, func(x, y netip.Addr) int { return cmp.Compare(common(x, a), common(y, a)) })
}

// common counts the leading bits that two addresses of one family share.
func common(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return i*8 + bits.LeadingZeros8(d)
		}
	}
	return 128
}
