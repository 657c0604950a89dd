package balancer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// TableName is the one nft table, of family inet, that is ours.
const TableName = "harouter"

// Table is the nft table as data. What each statement means is written in nft's
// own syntax by its String; balancer/dataplane lowers the same values to the
// kernel's expressions.
type Table struct {
	Sets   []Set
	Chains []Chain
}

// KeyType is the type of a set's keys.
type KeyType uint8

const (
	KeyIfname   KeyType = iota // device name
	KeyAddr4                   // IPv4 address
	KeyMark                    // packet mark or connection mark
	KeyProto                   // nfproto
	KeySlot                    // slot number, as numgen and jhash give it
	KeyProtocol                // IP protocol
	KeyPort                    // of TCP, UDP and the like
	KeyTOS                     // the byte that has the DSCP in its upper six bits
	KeyMAC                     // Ethernet address
	KeyPair                    // IPv4 source and destination
	KeyAddr6                   // IPv6 address
	KeyService                 // IPv4 destination and its port
	KeyEnds                    // IPv4 source and port, destination and port
)

var keyTypeNames = [...]string{
	KeyIfname: "type ifname", KeyAddr4: "type ipv4_addr", KeyMark: "type mark", KeyProto: "type nf_proto",
	KeyProtocol: "type inet_proto", KeyPort: "type inet_service", KeyMAC: "type ether_addr", KeyPair: "type ipv4_addr . ipv4_addr", KeyAddr6: "type ipv6_addr",
	KeyService: "type ipv4_addr . inet_service",
	KeyEnds:    "type ipv4_addr . inet_service . ipv4_addr . inet_service",
	// These have no type name in nft's language.
	KeySlot: fmt.Sprintf("typeof numgen random mod %d", SlotCount), KeyTOS: "typeof @nh,8,8",
}

func (k KeyType) String() string { return keyTypeNames[k] }

// Set is a named set, or with Verdicts a named verdict map.
type Set struct {
	Name     string
	Key      KeyType
	Verdicts bool
	Interval bool          // elements are spans
	Timeout  bool          // elements may carry a time-out
	Lasts    time.Duration // time-out of those that carry none; rules add elements to such a set
	Room     int           // elements at most, by which the kernel finds them faster; 0: LearnedSize with Lasts, else any number
	Volatile bool          // elements come and go by themselves: not compared
	Elements []Element
}

// Element is a key, and in a verdict map what to do with it.
type Element struct {
	Ifname  string
	Addr    netip.Addr
	Mark    uint32
	Span    Span // in sets with Interval, of DSCP without the two bits below it
	Verdict Jump
}

// keyText is the element's key as nft writes it.
func (e Element) keyText(k KeyType) string {
	switch k {
	case KeyIfname:
		return fmt.Sprintf("%q", e.Ifname)
	case KeyAddr4, KeyAddr6:
		return e.Addr.String()
	case KeyMark:
		return fmt.Sprintf("%#x", e.Mark)
	case KeySlot:
		return fmt.Sprint(e.Mark)
	case KeyProto:
		return "ipv4"
	case KeyProtocol, KeyPort, KeyTOS, KeyMAC, KeyPair, KeyEnds, KeyService: // spans all, or volatile
	}
	return "?"
}

// bounds are the first and last value of an element's span, as the packet has it.
func (e Element) bounds(k KeyType) (first, last uint64) {
	if k == KeyTOS {
		return e.Span.First << 2, e.Span.Last<<2 | 3
	}
	return e.Span.First, e.Span.Last
}

// Bytes are the first value of an element's span and the one behind the last, as
// the packet has them; no second one where the span ends with the last value that
// there is.
func (e Element) Bytes(k KeyType) (first, behind []byte) {
	n := 4
	switch k {
	case KeyProtocol, KeyTOS:
		n = 1
	case KeyPort:
		n = 2
	case KeyMAC:
		n = 6
	case KeyAddr4, KeyIfname, KeyMark, KeyProto, KeySlot, KeyPair, KeyAddr6, KeyEnds, KeyService:
	}
	bytes := func(v uint64) []byte {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], v)
		return b[8-n:]
	}
	from, to := e.bounds(k)
	if first = bytes(from); to+1 < 1<<(8*n) {
		behind = bytes(to + 1)
	}
	return first, behind
}

// spanText is the element's span as nft writes it.
func (e Element) spanText(k KeyType) string {
	text := func(v uint64) string {
		switch k {
		case KeyAddr4:
			return addr4(v).String()
		case KeyMAC:
			var b [8]byte
			binary.BigEndian.PutUint64(b[:], v)
			return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[2], b[3], b[4], b[5], b[6], b[7])
		case KeyProtocol, KeyPort, KeyTOS, KeyIfname, KeyMark, KeyProto, KeySlot, KeyPair, KeyAddr6, KeyEnds, KeyService:
		}
		return fmt.Sprint(v)
	}
	first, last := e.bounds(k)
	if first == last {
		return text(first)
	}
	return text(first) + "-" + text(last)
}

// Size is how many elements a set that rules add to may have.
func (s Set) Size() int {
	if s.Room > 0 {
		return s.Room
	}
	return LearnedSize
}

// Chain is a base chain if Hook is set, else one that others jump to.
type Chain struct {
	Name     string
	Type     string // filter, nat, route
	Hook     string // prerouting, input, forward, output, postrouting
	Priority int
	Rules    []Rule
}

// Rule is a list of statements that are carried out as long as they match.
type Rule []Stmt

func (r Rule) String() string {
	words := make([]string, len(r))
	for i, s := range r {
		words[i] = s.String()
	}
	return strings.Join(words, " ")
}

// Stmt is one statement of a rule: one of the types below.
type Stmt interface {
	fmt.Stringer
	stmt()
}

// Selector is what a verdict map is asked with.
type Selector uint8

const (
	ByInput    Selector = iota // iifname
	ByOutput                   // oifname
	ByCtMark                   // ct mark & mask
	ByRandom                   // numgen random mod 256
	BySaddr                    // ip saddr
	ByDaddr                    // ip daddr
	ByProtocol                 // meta l4proto
	BySport                    // th sport
	ByDport                    // th dport
	ByTOS                      // the byte of DSCP and ECN
	ByMAC                      // ether saddr
	ByHash                     // jhash mod 256
)

// CtState is a set of connection states; the values are the kernel's
// (NF_CT_STATE_*_BIT in nf_conntrack_common.h).
type CtState uint32

const (
	CtInvalid     CtState = 1
	CtEstablished CtState = 2
	CtRelated     CtState = 4
	CtNew         CtState = 8
)

// TCP flag bits (RFC 9293 §3.1).
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

type (
	// Family4 matches IPv4; Not: anything else.
	Family4 struct{ Not bool }
	// InSet looks a device name up in a set.
	InSet struct {
		Output bool
		Not    bool
		Set    string
	}
	// AddrIn looks an address up in a set.
	AddrIn struct {
		Dst bool
		Six bool // an IPv6 address
		Set string
	}
	// ProtoIn looks nfproto up in a set, which makes the set a switch.
	ProtoIn struct {
		Not bool
		Set string
	}
	// FibType matches the kind of route to an address: local, broadcast, multicast;
	// OnOutput: of that device alone.
	FibType struct {
		Source   bool
		OnOutput bool
		Not      bool
		Type     string
	}
	// State matches connection states.
	State struct{ States CtState }
	// CtMarked and MetaMarked match connections and packets that carry a mark
	// of ours; Not: none.
	CtMarked struct {
		Mask uint32
		Not  bool
	}
	MetaMarked struct {
		Mask uint32
		Not  bool
	}
	// Unmarked matches packets without any mark, ours or another's; CtMarkIn looks
	// the connection's mark up in a set, and CopyMark makes our bits of it the
	// packet's whole mark.
	Unmarked struct{}
	CtMarkIn struct {
		Mask uint32
		Set  string
	}
	CopyMark struct{ Mask uint32 }
	// CameIn matches packets that came in by a device; Not: the node's own. Kernels
	// before 5.10 do not know it any more when the packet leaves: then all look
	// like the node's own.
	CameIn struct{ Not bool }
	// TCPFlags matches TCP segments whose flags within Mask are (not) Value.
	TCPFlags struct {
		Mask, Value uint8
		Not         bool
	}
	// EchoRequest matches ICMP echo requests; NoListener matches the ICMP errors
	// by which a host tells that it has no such port or protocol.
	EchoRequest struct{}
	NoListener  struct{}
	// Neighbour matches solicitations and advertisements of neighbour discovery.
	Neighbour struct{}
	// Listener matches packets that a local socket would take.
	Listener struct{}
	// VMap asks a verdict map. Mask is for ByCtMark, Of for ByHash.
	VMap struct {
		By   Selector
		Mask uint32
		Of   PersistenceKey
		Map  string
	}
	// Learned looks up in a set that Learn fills, which begins the time-out anew.
	Learned struct {
		Of  PersistenceKey
		Set string
	}
	Learn struct {
		Of    PersistenceKey
		Set   string
		Lasts time.Duration
	}
	// SetCtMark and SetMetaMark write a mark and keep the bits outside the mask.
	SetCtMark   struct{ Mask, Value uint32 }
	SetMetaMark struct{ Mask, Value uint32 }
	// Counter counts packets and bytes.
	Counter struct{}
	// SNAT rewrites the source address; Masquerade takes the device's.
	SNAT       struct{ To netip.Addr }
	Masquerade struct{}
	// Reset answers a TCP segment with RST.
	Reset struct{}
	// Jump ends or leaves the chain: accept, drop, return, jump, goto.
	Jump struct {
		Kind  string
		Chain string
	}
)

func (Family4) stmt()     {}
func (InSet) stmt()       {}
func (AddrIn) stmt()      {}
func (ProtoIn) stmt()     {}
func (FibType) stmt()     {}
func (State) stmt()       {}
func (CtMarked) stmt()    {}
func (MetaMarked) stmt()  {}
func (Unmarked) stmt()    {}
func (CtMarkIn) stmt()    {}
func (CopyMark) stmt()    {}
func (CameIn) stmt()      {}
func (TCPFlags) stmt()    {}
func (EchoRequest) stmt() {}
func (NoListener) stmt()  {}
func (Neighbour) stmt()   {}
func (Listener) stmt()    {}
func (VMap) stmt()        {}
func (Learned) stmt()     {}
func (Learn) stmt()       {}
func (SetCtMark) stmt()   {}
func (SetMetaMark) stmt() {}
func (Counter) stmt()     {}
func (SNAT) stmt()        {}
func (Masquerade) stmt()  {}
func (Reset) stmt()       {}
func (Jump) stmt()        {}
