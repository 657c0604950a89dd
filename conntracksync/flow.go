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
	Expected  Status = 1 << 0 // a helper foresaw it: it has a master
	SeenReply Status = 1 << 1 // packets went both ways
	Assured   Status = 1 << 2 // not given up early when the table is full
	Confirmed Status = 1 << 3 // it is in the table
	SourceNAT Status = 1 << 4
	DestNAT   Status = 1 << 5
	Dying     Status = 1 << 9
)

// TCPState is where a connection stands in the kernel's eyes.
type TCPState uint8

const (
	NoState TCPState = iota
	SYNSent
	SYNReceived
	Established
	FINWait
	CloseWait
	LastACK
	TimeWait
	Closed
	SYNSent2 // both sides began at once
)

// Over tells that nothing more is to come, and the next connection by the same
// name may.
func (s TCPState) Over() bool { return s == TimeWait || s == Closed }

// String returns the state's name in the RFC's words.
func (s TCPState) String() string {
	names := [...]string{"none", "syn-sent", "syn-received", "established", "fin-wait", "close-wait", "last-ack", "time-wait", "closed", "syn-sent2"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("tcp state %d", uint8(s))
}

// TCPFlags are what the kernel knows of one side (IP_CT_TCP_FLAG_*).
type TCPFlags uint8

const (
	WindowScale TCPFlags = 1 << 0 // both sides agreed on scaling
	SACK        TCPFlags = 1 << 1
	CloseInit   TCPFlags = 1 << 2 // this side began to close
)

// ofTCP are the flags that are worth telling another node. Others are of the
// window, which nobody tells: what is installed from afar is liberal with it.
const ofTCP = WindowScale | SACK | CloseInit

// TCPInfo is the part of a flow that only TCP has.
type TCPInfo struct {
	State                     TCPState
	OriginalFlags, ReplyFlags TCPFlags
	OriginalScale, ReplyScale uint8 // of the window, 0 to 14
}

// SCTPInfo is the part of a flow that only SCTP has.
type SCTPInfo struct {
	State                 uint8
	OriginalTag, ReplyTag uint32
}

// Adjustment is by how much the sequence numbers of one direction of a TCP
// connection are moved, since a helper wrote more or fewer bytes than came: by
// Before up to Position, by After from there on (two's complement).
type Adjustment struct{ Position, Before, After uint32 }

// Labels are the 128 label bits of a flow, as the kernel holds them.
type Labels [16]byte

// MaxHelper is how long a helper's name can be (NF_CT_HELPER_NAME_LEN less the
// zero byte).
const MaxHelper = 15

// Flow is one entry of the connection table. Flows can be compared with ==.
type Flow struct {
	// Original is what the first packet looked like on arrival, Reply what an
	// answer looks like on arrival: not its inverse where addresses are
	// translated.
	Original, Reply Tuple
	// ID is the kernel's own number of the entry, 0 if it is not known. It tells
	// apart one that ended from the next by the same name, on one node.
	ID uint32
	// Zone tells apart flows with equal tuples. 0 is the usual one.
	Zone uint16
	// Mark holds the uplink's id in the bits that are ours.
	Mark   uint32
	Status Status
	// Timeout is how many seconds the flow has left without a packet.
	Timeout uint32
	TCP     TCPInfo
	SCTP    SCTPInfo
	Labels  Labels
	// Helper is the name of the kernel's helper (ftp, sip …), mostly empty.
	Helper string
	// Master is the original tuple of the flow whose helper expected this one;
	// its addresses are invalid where there is none.
	Master Tuple
	// Adjust are those of the original and the reply direction.
	Adjust [2]Adjustment
}

// Parts are the parts of a flow that the kernel leaves out of an event when
// they did not change.
type Parts uint8

const (
	ToldState Parts = 1 << iota // TCP, SCTP
	ToldLabels
	ToldHelper
	ToldMaster
	ToldTimeout
	ToldAdjust // never in an event of a packet: see Read
)

// EventKind is what happened to a flow.
type EventKind uint8

const (
	Began EventKind = iota + 1
	Changed
	Ended
)

// String returns the word for it.
func (k EventKind) String() string {
	switch k {
	case Began:
		return "began"
	case Changed:
		return "changed"
	case Ended:
		return "ended"
	}
	return fmt.Sprintf("event %d", uint8(k))
}

// Event is what the kernel tells of one flow, or of one expectation; then the
// rest but Kind and Port has no meaning.
type Event struct {
	Kind EventKind
	Flow Flow
	Told Parts
	// Port is the netlink port of who made the change, 0 for a packet.
	Port uint32
	// Expectation is not changed after it was told.
	Expectation *Expectation
}

// Inverse is the tuple of an answer to a packet that nobody translates.
func (t Tuple) Inverse() Tuple {
	t.Source, t.Destination = t.Destination, t.Source
	switch t.Protocol {
	case ICMP, ICMPv6:
		t.Type = answerTo(t.Protocol, t.Type)
	default:
		t.SourcePort, t.DestinationPort = t.DestinationPort, t.SourcePort
	}
	return t
}

// answerTo is the type of the ICMP message that answers one of that type, as
// the kernel sees it; the type itself where it knows none.
func answerTo(p Protocol, kind uint8) uint8 {
	for _, pair := range [...]struct {
		p        Protocol
		ask, say uint8
	}{
		{ICMP, 8, 0}, {ICMP, 13, 14}, {ICMP, 15, 16}, {ICMP, 17, 18},
		{ICMPv6, 128, 129}, {ICMPv6, 139, 140},
	} {
		switch {
		case p != pair.p:
		case kind == pair.ask:
			return pair.say
		case kind == pair.say:
			return pair.ask
		}
	}
	return kind
}
