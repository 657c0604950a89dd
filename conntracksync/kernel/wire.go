package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const (
	msgNew    = 0
	msgGet    = 1
	msgDelete = 2

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaMark       = 8
	ctaMarkMask   = 21

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum        = 1
	ctaProtoSrcPort    = 2
	ctaProtoDstPort    = 3
	ctaProtoICMPID     = 4
	ctaProtoICMPType   = 5
	ctaProtoICMPCode   = 6
	ctaProtoICMPv6ID   = 7
	ctaProtoICMPv6Type = 8
	ctaProtoICMPv6Code = 9

	sizeHeader = 16 // struct nlmsghdr
	sizeFamily = 4  // struct nfgenmsg
	sizeAttr   = 4  // struct nlattr
	typeBits   = 0x3fff
)

var native = binary.NativeEndian

// request begins a ctnetlink message for all address families. Its length is
// filled in when it is sent.
func request(message, flags, seq int) []byte {
	b := make([]byte, sizeHeader+sizeFamily, 64)
	native.PutUint16(b[4:], uint16(unix.NFNL_SUBSYS_CTNETLINK<<8|message))
	native.PutUint16(b[6:], uint16(unix.NLM_F_REQUEST|flags))
	native.PutUint32(b[8:], uint32(seq))
	// nfgen_family stays AF_UNSPEC, and the version 0: a kernel takes the
	// family as a filter of a deletion only when the version is not 0.
	return b
}

// appendUint32 appends an attribute with a number in network byte order.
func appendUint32(b []byte, attr uint16, v uint32) []byte {
	b = native.AppendUint16(b, sizeAttr+4)
	b = native.AppendUint16(b, attr)
	return binary.BigEndian.AppendUint32(b, v)
}

var errTruncated = errors.New("truncated")

// attributes walks over a list of attributes and calls f with the type and
// payload of each.
func attributes(b []byte, f func(attr uint16, payload []byte) error) error {
	for len(b) > 0 {
		if len(b) < sizeAttr {
			return errTruncated
		}
		n, attr := int(native.Uint16(b)), native.Uint16(b[2:])&typeBits
		if n < sizeAttr || n > len(b) {
			return errTruncated
		}
		if err := f(attr, b[sizeAttr:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// Parse reads a connection as the kernel tells it in a message of type NEW,
// without the netlink header, into f, whatever was in it. It does not keep b
// and does not allocate. What it does not know it passes over; an error says
// that the message is broken, and f then holds only a part.
func Parse(b []byte, f *conntracksync.Flow) error {
	*f = conntracksync.Flow{}
	if len(b) < sizeFamily {
		return fmt.Errorf("read a connection: %w", errTruncated)
	}
	p := parser{flow: f}
	if err := attributes(b[sizeFamily:], p.connection); err != nil {
		return fmt.Errorf("read a connection: %w", err)
	}
	return nil
}

// parser reads the nested attributes of one connection.
type parser struct {
	flow  *conntracksync.Flow
	tuple *conntracksync.Tuple
}

func (p *parser) connection(attr uint16, b []byte) error {
	switch attr {
	case ctaTupleOrig:
		p.tuple = &p.flow.Original
		return attributes(b, p.inTuple)
	case ctaTupleReply:
		p.tuple = &p.flow.Reply
		return attributes(b, p.inTuple)
	case ctaMark:
		return read32(b, &p.flow.Mark)
	case ctaStatus:
		return read32(b, (*uint32)(&p.flow.Status))
	}
	return nil
}

func (p *parser) inTuple(attr uint16, b []byte) error {
	switch attr {
	case ctaTupleIP:
		return attributes(b, p.inAddresses)
	case ctaTupleProto:
		return attributes(b, p.inProtocol)
	}
	return nil
}

func (p *parser) inAddresses(attr uint16, b []byte) error {
	switch attr {
	case ctaIPv4Src, ctaIPv6Src:
		return readAddr(b, attr == ctaIPv4Src, &p.tuple.Source)
	case ctaIPv4Dst, ctaIPv6Dst:
		return readAddr(b, attr == ctaIPv4Dst, &p.tuple.Destination)
	}
	return nil
}

func (p *parser) inProtocol(attr uint16, b []byte) error {
	t := p.tuple
	switch attr {
	case ctaProtoNum:
		return read8(b, (*uint8)(&t.Protocol))
	case ctaProtoSrcPort:
		return read16(b, &t.SourcePort)
	case ctaProtoDstPort:
		return read16(b, &t.DestinationPort)
	case ctaProtoICMPID, ctaProtoICMPv6ID:
		return read16(b, &t.ID)
	case ctaProtoICMPType, ctaProtoICMPv6Type:
		return read8(b, &t.Type)
	case ctaProtoICMPCode, ctaProtoICMPv6Code:
		return read8(b, &t.Code)
	}
	return nil
}

func readAddr(b []byte, four bool, to *netip.Addr) error {
	addr, ok := netip.AddrFromSlice(b)
	if !ok || addr.Is4() != four {
		return fmt.Errorf("an address of %d bytes", len(b))
	}
	*to = addr
	return nil
}

func read8(b []byte, to *uint8) error {
	if len(b) != 1 {
		return fmt.Errorf("%d bytes where 1 belongs", len(b))
	}
	*to = b[0]
	return nil
}

func read16(b []byte, to *uint16) error {
	if len(b) != 2 {
		return fmt.Errorf("%d bytes where 2 belong", len(b))
	}
	*to = binary.BigEndian.Uint16(b)
	return nil
}

func read32(b []byte, to *uint32) error {
	if len(b) != 4 {
		return fmt.Errorf("%d bytes where 4 belong", len(b))
	}
	*to = binary.BigEndian.Uint32(b)
	return nil
}
