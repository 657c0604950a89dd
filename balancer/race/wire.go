package race

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"harouter/balancer"
)

// The kernel's queue of packets, by netlink: what is said and heard there
// (linux/netfilter/nfnetlink_queue.h).
const (
	msgPacket  = unix.NFNL_SUBSYS_QUEUE << 8 // + 0
	msgVerdict = msgPacket + 1
	msgConfig  = msgPacket + 2

	attrPacket  = 1 // id, protocol and hook; of a packet
	attrVerdict = 2 // verdict and id
	attrMark    = 3
	attrPayload = 10

	cfgCommand = 1 // one byte, one of nothing, a family
	cfgParams  = 2 // how many bytes are copied, and that they are
	cfgMaxLen  = 3
	cfgMask    = 4
	cfgFlags   = 5

	commandBind = 1
	copyPacket  = 2
	failOpen    = 1 // what finds no room goes on

	verdictDrop   = 0
	verdictAccept = 1

	sizeHeader = 16 + 4 // that of netlink, and family, version, queue
	sizeAttr   = 4
	typeBits   = 0x3fff

	// copied is what is read of a packet: the longest IPv4 header, and a bit of TCP's.
	copied = 60 + 20
)

var native = binary.NativeEndian

// request begins a message about a queue; finish fills its length in.
func request(message, flags uint16, queue uint16) []byte {
	b := make([]byte, sizeHeader, 96)
	native.PutUint16(b[4:], message)
	native.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	b[17] = unix.NFNETLINK_V0
	binary.BigEndian.PutUint16(b[18:], queue)
	return b
}

func finish(b []byte) []byte {
	native.PutUint32(b, uint32(len(b)))
	return b
}

// attribute appends one, padded.
func attribute(b []byte, attr uint16, payload ...byte) []byte {
	b = native.AppendUint16(b, uint16(sizeAttr+len(payload)))
	b = native.AppendUint16(b, attr)
	b = append(b, payload...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func number(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// bindRequest asks for a queue that nobody reads, with so much room.
func bindRequest(queue uint16, room uint32) []byte {
	b := request(msgConfig, unix.NLM_F_ACK, queue)
	b = attribute(b, cfgCommand, commandBind, 0, 0, 0)
	b = attribute(b, cfgParams, append(number(copied), copyPacket)...)
	b = attribute(b, cfgMaxLen, number(room)...)
	b = attribute(b, cfgMask, number(failOpen)...)
	b = attribute(b, cfgFlags, number(failOpen)...)
	return finish(b)
}

// verdictRequest lets a packet go, with a mark.
func verdictRequest(p balancer.Held, verdict uint32) []byte {
	b := request(msgVerdict, 0, p.Queue)
	b = attribute(b, attrVerdict, append(number(verdict), number(p.ID)...)...)
	b = attribute(b, attrMark, number(p.Mark)...)
	return finish(b)
}

var errTruncated = errors.New("truncated")

// heard is what one datagram of the kernel says.
type heard struct {
	packets []balancer.Held
	strange []balancer.Held // not TCP over IPv4: they have an id, and no ends
	acked   bool
	refused error // what was asked for last
}

// parse reads a datagram. What it does not know it passes over.
func parse(b []byte) (out heard, err error) {
	for len(b) > 0 {
		if len(b) < 16 {
			return out, fmt.Errorf("read from the queue: %w", errTruncated)
		}
		n := int(native.Uint32(b))
		if n < 16 || n > len(b) {
			return out, fmt.Errorf("read from the queue: %w", errTruncated)
		}
		message := b[:n]
		b = b[min((n+3)&^3, len(b)):]
		switch native.Uint16(message[4:]) {
		case unix.NLMSG_ERROR: // 0, or a negative errno
			if n < 20 {
				return out, fmt.Errorf("read from the queue: %w", errTruncated)
			}
			if code := int32(native.Uint32(message[16:])); code < 0 {
				out.refused = syscall.Errno(-int64(code))
			}
			out.acked = true
		case msgPacket:
			p, known, err := parsePacket(message)
			switch {
			case err != nil:
				return out, fmt.Errorf("read a packet of the queue: %w", err)
			case known:
				out.packets = append(out.packets, p)
			default:
				out.strange = append(out.strange, p)
			}
		}
	}
	return out, nil
}

// parsePacket reads who waits where; known: it is TCP, and its ends are read too.
func parsePacket(b []byte) (p balancer.Held, known bool, err error) {
	if len(b) < sizeHeader {
		return p, false, errTruncated
	}
	p.Queue = binary.BigEndian.Uint16(b[18:])
	numbered := false
	for b = b[sizeHeader:]; len(b) > 0; {
		if len(b) < sizeAttr {
			return p, false, errTruncated
		}
		n := int(native.Uint16(b))
		if n < sizeAttr || n > len(b) {
			return p, false, errTruncated
		}
		switch payload := b[sizeAttr:n]; native.Uint16(b[2:]) & typeBits {
		case attrPacket:
			if len(payload) < 4 {
				return p, false, errTruncated
			}
			p.ID, numbered = binary.BigEndian.Uint32(payload), true
		case attrMark:
			if len(payload) != 4 {
				return p, false, errTruncated
			}
			p.Mark = binary.BigEndian.Uint32(payload)
		case attrPayload:
			p.From, p.To, known = tcp4(payload)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	if !numbered {
		return p, false, errors.New("it has no number")
	}
	return p, known, nil
}

// tcp4 reads the ends of the first fragment of a TCP segment over IPv4.
func tcp4(b []byte) (from, to netip.AddrPort, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return from, to, false
	}
	size := int(b[0]&0xf) * 4
	if size < 20 || len(b) < size+4 {
		return from, to, false
	}
	ports := b[size:]
	from = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), binary.BigEndian.Uint16(ports))
	to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:])), binary.BigEndian.Uint16(ports[2:]))
	return from, to, true
}
