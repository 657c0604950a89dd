package config

import (
	"encoding/binary"
	"slices"

	"harouter/balancer"
)

// Balancer is the match as the balancer asks for it: of each key that is set, the
// values that are named, or all where none is, without those behind a not. Times
// are apart, see Hours.
func (m Match) Balancer(lans []Lan) balancer.Match {
	out := balancer.Match{}
	set := func(f balancer.Field, used bool, spans func() balancer.Spans) {
		if used {
			out[f] = spans()
		}
	}
	set(balancer.MatchLan, len(m.Lan) > 0, func() balancer.Spans {
		return among(m.Lan, balancer.Span{First: 0, Last: uint64(max(len(lans), 1) - 1)}, func(name string) []balancer.Span {
			i := uint64(slices.IndexFunc(lans, func(l Lan) bool { return l.Name == name }))
			return []balancer.Span{{First: i, Last: i}}
		})
	})
	networks := func(n Network) []balancer.Span {
		if n.File == "" {
			return []balancer.Span{balancer.PrefixSpan(n.Prefix)}
		}
		var all []balancer.Span
		for _, p := range n.Listed {
			all = append(all, balancer.PrefixSpan(p))
		}
		return all
	}
	set(balancer.MatchSource, len(m.Source) > 0, func() balancer.Spans { return among(m.Source, balancer.MatchSource.All(), networks) })
	set(balancer.MatchDestination, len(m.Destination) > 0, func() balancer.Spans {
		return among(m.Destination, balancer.MatchDestination.All(), networks)
	})
	ports := func(p PortRange) []balancer.Span {
		return []balancer.Span{{First: uint64(p.First), Last: uint64(p.Last)}}
	}
	withPorts := len(m.SourcePorts)+len(m.DestinationPorts) > 0
	set(balancer.MatchProtocol, len(m.Protocol) > 0 || withPorts, m.protocols)
	set(balancer.MatchSourcePort, len(m.SourcePorts) > 0, func() balancer.Spans {
		return among(m.SourcePorts, balancer.MatchSourcePort.All(), ports)
	})
	set(balancer.MatchDestinationPort, len(m.DestinationPorts) > 0, func() balancer.Spans {
		return among(m.DestinationPorts, balancer.MatchDestinationPort.All(), ports)
	})
	set(balancer.MatchDSCP, len(m.DSCP) > 0, func() balancer.Spans { return among(m.DSCP, balancer.MatchDSCP.All(), single) })
	set(balancer.MatchMAC, len(m.MAC) > 0, func() balancer.Spans {
		return among(m.MAC, balancer.MatchMAC.All(), func(a MAC) []balancer.Span {
			n := binary.BigEndian.Uint64(append([]byte{0, 0}, a[:]...))
			return []balancer.Span{{First: n, Last: n}}
		})
	})
	return out
}

// all tells that a policy takes everything.
func (p Policy) all() bool {
	m := p.Match
	return len(m.Lan)+len(m.Source)+len(m.Destination)+len(m.Protocol)+len(m.SourcePorts)+len(m.DestinationPorts)+
		len(m.DSCP)+len(m.MAC)+len(m.Time) == 0 && !m.Router
}

// protocols are those that it names; of what names ports only such as have some.
func (m Match) protocols() balancer.Spans {
	if len(m.Protocol) == 0 {
		return balancer.WithPorts
	}
	return among(m.Protocol, balancer.MatchProtocol.All(), single)
}

// Hours are the times that it names, and those that it excludes.
func (m Match) Hours() (in, out []balancer.Hours) {
	for _, t := range m.Time {
		if t.Not {
			out = append(out, t.Value)
		} else {
			in = append(in, t.Value)
		}
	}
	return in, out
}

func single(n uint8) []balancer.Span {
	return []balancer.Span{{First: uint64(n), Last: uint64(n)}}
}

// among are the values that terms allow, of all that there are.
func among[T any](terms []Term[T], all balancer.Span, spans func(T) []balancer.Span) balancer.Spans {
	var yes, no []balancer.Span
	some := false
	for _, t := range terms {
		if t.Not {
			no = append(no, spans(t.Value)...)
			continue
		}
		some = true
		yes = append(yes, spans(t.Value)...)
	}
	if !some {
		yes = []balancer.Span{all}
	}
	return balancer.Union(yes...).Minus(balancer.Union(no...))
}
