package conntracksync

import (
	"fmt"
	"net/netip"
)

// Protocol is an IP protocol number.
type Protocol uint8

const (
	ICMP   Protocol = 1
	TCP    Protocol = 6
	UDP    Protocol = 17
	GRE    Protocol = 47
	ICMPv6 Protocol = 58
	SCTP   Protocol = 132
)

// String returns the protocol's name, or its number.
func (p Protocol) String() string {
	switch p {
	case ICMP:
		return "icmp"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case GRE:
		return "gre"
	case ICMPv6:
		return "icmpv6"
	case SCTP:
		return "sctp"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// Tuple names the packets of one direction.
type Tuple struct {
	Source, Destination netip.Addr
	Protocol            Protocol
	// SourcePort and DestinationPort are the keys of a GRE flow, and zero for
	// ICMP.
	SourcePort, DestinationPort uint16
	// ID, Type and Code are those of an ICMP or ICMPv6 query.
	ID         uint16
	Type, Code uint8
}

// String writes the tuple as "udp 192.0.2.1:53 > 192.0.2.2:4000".
func (t Tuple) String() string {
	if t.Protocol == ICMP || t.Protocol == ICMPv6 {
		return fmt.Sprintf("%v %v > %v id %d type %d code %d",
			t.Protocol, t.Source, t.Destination, t.ID, t.Type, t.Code)
	}
	return fmt.Sprintf("%v %v > %v", t.Protocol,
		netip.AddrPortFrom(t.Source, t.SourcePort), netip.AddrPortFrom(t.Destination, t.DestinationPort))
}

// Status is the set of the kernel's IPS_* bits of a flow.
type Status uint32

const (
	SeenReply Status = 1 << 1 // packets went both ways
	Assured   Status = 1 << 2 // not given up early when the table is full
	SourceNAT Status = 1 << 4
	DestNAT   Status = 1 << 5
)

// Flow is one entry of the connection table.
type Flow struct {
	// Original is what the first packet looked like on arrival, Reply what an
	// answer looks like on arrival: not its inverse where addresses are
	// translated.
	Original, Reply Tuple
	// Mark holds the uplink's id in the bits that are ours.
	Mark   uint32
	Status Status
}
