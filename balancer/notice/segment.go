package notice

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"harouter/balancer"
)

const (
	sizeIP      = 20
	sizeTCP     = 20
	sizeSegment = sizeIP + sizeTCP
)

// segment is an ACK of the peer to the host, both IPv4, with numbers that most
// likely lie outside of every window. It has no time stamps, although RFC 7323
// §3.2 lets a host that agreed on them ignore it, which FreeBSD does: one that
// looked old by its stamp Linux would ignore, from 6.14 on. The kernel fills in
// what is missing of the IP header.
func segment(e balancer.Ends, sequence, acknowledged uint32) [sizeSegment]byte {
	var b [sizeSegment]byte
	from, to := e.Peer.Addr().As4(), e.Host.Addr().As4()
	b[0] = 4<<4 | sizeIP/4
	binary.BigEndian.PutUint16(b[2:], sizeSegment)
	b[6] = 0x40 // do not fragment
	b[8] = 64   // TTL
	b[9] = unix.IPPROTO_TCP
	copy(b[12:], from[:])
	copy(b[16:], to[:])

	tcp := b[sizeIP:]
	binary.BigEndian.PutUint16(tcp, e.Peer.Port())
	binary.BigEndian.PutUint16(tcp[2:], e.Host.Port())
	binary.BigEndian.PutUint32(tcp[4:], sequence)
	binary.BigEndian.PutUint32(tcp[8:], acknowledged)
	tcp[12] = sizeTCP / 4 << 4
	tcp[13] = 0x10                               // ACK
	binary.BigEndian.PutUint16(tcp[14:], 0xffff) // window
	binary.BigEndian.PutUint16(tcp[16:], checksum(b[12:sizeIP], tcp))
	return b
}

// checksum is that of TCP (RFC 9293 §3.1) over both addresses and the segment,
// whose own field is 0.
func checksum(addresses, tcp []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP + len(tcp))
	for _, part := range [][]byte{addresses, tcp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
