package probe

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
)

// echo is one ICMP echo request (RFC 792, RFC 4443 §4.1). What it carries is
// random: only who got it can answer it, and no answer is taken for that of
// another round.
type echo struct {
	v6    bool
	id    uint16
	nonce [16]byte
}

const (
	echoReply4, echoRequest4 = 0, 8
	echoReply6, echoRequest6 = 129, 128
	icmpHead                 = 8 // bytes
	ipv4Head                 = 20
)

func newEcho(v6 bool) echo {
	e := echo{v6: v6}
	rand.Read(e.nonce[:]) // never fails (crypto/rand)
	e.id = binary.BigEndian.Uint16(e.nonce[:])
	return e
}

// request is what is sent. The kernel fills in the checksum of version 6.
func (e echo) request() []byte {
	b := make([]byte, icmpHead, icmpHead+len(e.nonce))
	b[0] = echoRequest4
	if e.v6 {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], e.id)
	b = append(b, e.nonce[:]...)
	if !e.v6 {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return b
}

// answeredBy tells whether what a raw socket gave is the reply. Version 4 comes
// with its IP header.
func (e echo) answeredBy(b []byte) bool {
	reply := byte(echoReply6)
	if !e.v6 {
		reply = echoReply4
		if len(b) < ipv4Head {
			return false
		}
		head := int(b[0]&0xf) * 4
		if head < ipv4Head || len(b) < head {
			return false
		}
		b = b[head:]
	}
	return len(b) >= icmpHead+len(e.nonce) && b[0] == reply && b[1] == 0 && binary.BigEndian.Uint16(b[4:]) == e.id &&
		subtle.ConstantTimeCompare(b[icmpHead:icmpHead+len(e.nonce)], e.nonce[:]) == 1
}

// checksum is that of RFC 1071, for an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}
