package balancer

import (
	"fmt"
	"slices"
)

// Field is a part of a packet that a policy may look at. The value is a number:
// of a lan its place in Config.Lans.
type Field uint8

// The fields, in the order in which they are asked where nothing else decides.
const (
	MatchLan Field = iota
	MatchSource
	MatchDestination
	MatchProtocol
	MatchSourcePort
	MatchDestinationPort
	MatchDSCP
	MatchMAC
	matchFields
)

var fieldNames = [matchFields]string{
	MatchLan: "lan", MatchSource: "source", MatchDestination: "destination", MatchProtocol: "protocol",
	MatchSourcePort: "source_ports", MatchDestinationPort: "destination_ports", MatchDSCP: "dscp", MatchMAC: "mac",
}

func (f Field) String() string { return fieldNames[f] }

// All is every value that the field may have; of a lan there are fewer.
func (f Field) All() Span {
	switch f {
	case MatchSource, MatchDestination:
		return Span{0, 1<<32 - 1}
	case MatchProtocol:
		return Span{0, 1<<8 - 1}
	case MatchSourcePort, MatchDestinationPort:
		return Span{0, 1<<16 - 1}
	case MatchDSCP:
		return Span{0, 1<<6 - 1}
	case MatchMAC:
		return Span{0, 1<<48 - 1}
	case MatchLan, matchFields:
	}
	return Span{0, 1<<16 - 1}
}

// WithPorts are the IP protocols whose first four bytes are two ports: TCP, UDP,
// DCCP, SCTP, UDP-Lite.
var WithPorts = Union(Span{6, 6}, Span{17, 17}, Span{33, 33}, Span{132, 132}, Span{136, 136})

// Match is true for a packet whose every named field has one of its values; an
// empty one for all packets. Who names ports names the protocol too, and only
// such as have ports.
type Match map[Field]Spans

// fields are those that it names.
func (m Match) fields() fieldSet {
	var out fieldSet
	for f := range matchFields {
		if _, ok := m[f]; ok {
			out |= 1 << f
		}
	}
	return out
}

// fieldSet is some of the fields, a bit each.
type fieldSet uint16

func (s fieldSet) has(f Field) bool { return s&(1<<f) != 0 }

// check refuses what could not be asked of a packet.
func (m Match) check() error {
	_, source := m[MatchSourcePort]
	_, destination := m[MatchDestinationPort]
	if protocols, ok := m[MatchProtocol]; (source || destination) && (!ok || len(protocols.Minus(WithPorts)) > 0) {
		return fmt.Errorf("ports of protocols that have none")
	}
	return nil
}

// key is the match in words that are the same on all nodes.
func (m Match) key(lans []Lan) string {
	out := ""
	for f := range matchFields {
		spans, ok := m[f]
		if !ok {
			continue
		}
		if f == MatchLan { // the order of lans in the file means nothing
			var names []string
			for i, l := range lans {
				if spans.Has(uint64(i)) {
					names = append(names, l.Name)
				}
			}
			slices.Sort(names)
			out += fmt.Sprintf(" %s=%q", f, names)
			continue
		}
		out += fmt.Sprintf(" %s=%d", f, spans)
	}
	return out
}
