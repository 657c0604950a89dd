package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"harouter/conntracksync"
)

var native = binary.NativeEndian

// request begins a ctnetlink message for all address families. Its length is
// filled in when it is sent.
func request(message, flags, seq int) []byte {
	b := make([]byte, sizeHeader+sizeFamily, 64)
	native.PutUint16(b[4:], uint16(message))
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
// and allocates only for the name of a rare helper. What it does not know it
// passes over; an error says that the message is broken, and f then holds only
// a part.
func Parse(b []byte, f *conntracksync.Flow) error {
	_, err := parse(b, f)
	return err
}

func parse(b []byte, f *conntracksync.Flow) (conntracksync.Parts, error) {
	*f = conntracksync.Flow{}
	if len(b) < sizeFamily {
		return 0, fmt.Errorf("read a connection: %w", errTruncated)
	}
	p := parser{flow: f}
	if err := attributes(b[sizeFamily:], p.connection); err != nil {
		return p.told, fmt.Errorf("read a connection: %w", err)
	}
	return p.told, nil
}

// parser reads the nested attributes of one connection.
type parser struct {
	flow  *conntracksync.Flow
	tuple *conntracksync.Tuple
	told  conntracksync.Parts
}

func (p *parser) connection(attr uint16, b []byte) error {
	f := p.flow
	switch attr {
	case ctaTupleOrig:
		p.tuple = &f.Original
		return attributes(b, p.inTuple)
	case ctaTupleReply:
		p.tuple = &f.Reply
		return attributes(b, p.inTuple)
	case ctaTupleMaster:
		p.told |= conntracksync.ToldMaster
		p.tuple = &f.Master
		return attributes(b, p.inTuple)
	case ctaMark:
		return read32(b, &f.Mark)
	case ctaStatus:
		return read32(b, (*uint32)(&f.Status))
	case ctaID:
		return read32(b, &f.ID)
	case ctaZone:
		return read16(b, &f.Zone)
	case ctaTimeout:
		p.told |= conntracksync.ToldTimeout
		return read32(b, &f.Timeout)
	case ctaProtoInfo:
		p.told |= conntracksync.ToldState
		return attributes(b, p.inState)
	case ctaLabels:
		p.told |= conntracksync.ToldLabels
		if len(b) > len(f.Labels) {
			return fmt.Errorf("labels of %d bytes", len(b))
		}
		copy(f.Labels[:], b)
	case ctaAdjustOrig, ctaAdjustReply:
		p.told |= conntracksync.ToldAdjust
		a := &f.Adjust[0]
		if attr == ctaAdjustReply {
			a = &f.Adjust[1]
		}
		return attributes(b, func(attr uint16, b []byte) error {
			switch attr {
			case ctaAdjustPosition:
				return read32(b, &a.Position)
			case ctaAdjustBefore:
				return read32(b, &a.Before)
			case ctaAdjustAfter:
				return read32(b, &a.After)
			}
			return nil
		})
	case ctaHelp:
		p.told |= conntracksync.ToldHelper
		return attributes(b, p.inHelp)
	}
	return nil
}

func (p *parser) inHelp(attr uint16, b []byte) error {
	if attr != ctaHelpName {
		return nil
	}
	name, _, _ := bytes.Cut(b, []byte{0})
	if len(name) > conntracksync.MaxHelper {
		return fmt.Errorf("a helper's name of %d bytes", len(name))
	}
	for _, known := range []string{"ftp", "sip", "pptp", "tftp", "RAS", "Q.931", "H.245"} {
		if string(name) == known {
			p.flow.Helper = known
			return nil
		}
	}
	p.flow.Helper = string(name)
	return nil
}

func (p *parser) inState(attr uint16, b []byte) error {
	switch attr {
	case ctaProtoInfoTCP:
		return attributes(b, p.inTCP)
	case ctaProtoInfoSCTP:
		return attributes(b, p.inSCTP)
	}
	return nil
}

func (p *parser) inTCP(attr uint16, b []byte) error {
	t := &p.flow.TCP
	switch attr {
	case ctaTCPState:
		return read8(b, (*uint8)(&t.State))
	case ctaTCPScaleOrig:
		return read8(b, &t.OriginalScale)
	case ctaTCPScaleReply:
		return read8(b, &t.ReplyScale)
	case ctaTCPFlagsOrig:
		return readFlags(b, &t.OriginalFlags)
	case ctaTCPFlagsReply:
		return readFlags(b, &t.ReplyFlags)
	}
	return nil
}

func (p *parser) inSCTP(attr uint16, b []byte) error {
	s := &p.flow.SCTP
	switch attr {
	case ctaSCTPState:
		return read8(b, &s.State)
	case ctaSCTPTagOrig:
		return read32(b, &s.OriginalTag)
	case ctaSCTPTagReply:
		return read32(b, &s.ReplyTag)
	}
	return nil
}

// readFlags reads a struct nf_ct_tcp_flags: value, mask.
func readFlags(b []byte, to *conntracksync.TCPFlags) error {
	if len(b) != 2 {
		return fmt.Errorf("%d bytes where 2 belong", len(b))
	}
	*to = conntracksync.TCPFlags(b[0])
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
