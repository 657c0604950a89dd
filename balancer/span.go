package balancer

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Span is a run of numbers, both ends included: addresses, ports, whatever a
// policy looks at.
type Span struct{ First, Last uint64 }

// Spans are in order, and neither overlap nor touch.
type Spans []Span

// Union joins spans given in any order.
func Union(spans ...Span) Spans {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.First, b.First) })
	var out Spans
	for _, s := range spans {
		if n := len(out); n > 0 && (out[n-1].Last >= s.First || out[n-1].Last+1 == s.First) {
			out[n-1].Last = max(out[n-1].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// Minus is what of s lies in none of the others.
func (s Spans) Minus(others Spans) Spans {
	var out Spans
	for _, a := range s {
		for _, b := range others {
			if b.Last < a.First || b.First > a.Last {
				continue
			}
			if b.First > a.First {
				out = append(out, Span{a.First, b.First - 1})
			}
			if b.Last >= a.Last {
				a.First, a.Last = 1, 0 // nothing is left
				break
			}
			a.First = b.Last + 1
		}
		if a.First <= a.Last {
			out = append(out, a)
		}
	}
	return out
}

// Has tells whether a number is in one of the spans.
func (s Spans) Has(n uint64) bool {
	i, found := slices.BinarySearchFunc(s, n, func(a Span, n uint64) int {
		switch {
		case a.Last < n:
			return -1
		case a.First > n:
			return 1
		}
		return 0
	})
	return found && i < len(s)
}

// PrefixSpan is an IPv4 network as a span of addresses.
func PrefixSpan(p netip.Prefix) Span {
	a := p.Masked().Addr().As4()
	first := uint64(binary.BigEndian.Uint32(a[:]))
	return Span{first, first | (1<<(32-p.Bits()) - 1)}
}

func addr4(n uint64) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(n))
	return netip.AddrFrom4(b)
}

// prefixes4 are the networks that make up a span of IPv4 addresses.
func (s Span) prefixes4() []netip.Prefix {
	var out []netip.Prefix
	for n := s.First; n <= s.Last; {
		bits := 32
		for bits > 0 && n&(1<<(33-bits)-1) == 0 && n|(1<<(33-bits)-1) <= s.Last {
			bits--
		}
		out = append(out, netip.PrefixFrom(addr4(n), bits))
		n += 1 << (32 - bits)
	}
	return out
}
