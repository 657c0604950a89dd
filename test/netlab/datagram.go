package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A datagram of a UDP flow. The server fills the second half and sends it back.
//
//	 0 magic  4 client  8 flow  12 length of the header  16 sequence number
//	24 time of sending  32 time at the server  40 datagrams of this flow that
//	   the server has had  48 source as the server sees it (16 bytes)  64 port
const (
	datagramMagic = 0x6e6c6162
	datagramSize  = 66
)

type datagram struct {
	client, flow uint32
	seq          uint64
	sent, server Instant
	got          uint64
	seen         netip.AddrPort
}

func (d datagram) put(b []byte) {
	be := binary.BigEndian
	be.PutUint32(b, datagramMagic)
	be.PutUint32(b[4:], d.client)
	be.PutUint32(b[8:], d.flow)
	be.PutUint32(b[12:], datagramSize)
	be.PutUint64(b[16:], d.seq)
	be.PutUint64(b[24:], uint64(d.sent))
	be.PutUint64(b[32:], uint64(d.server))
	be.PutUint64(b[40:], d.got)
	addr := d.seen.Addr().As16()
	copy(b[48:64], addr[:])
	be.PutUint16(b[64:], d.seen.Port())
}

func parseDatagram(b []byte) (datagram, bool) {
	be := binary.BigEndian
	if len(b) < datagramSize || be.Uint32(b) != datagramMagic || be.Uint32(b[12:]) != datagramSize {
		return datagram{}, false
	}
	return datagram{
		client: be.Uint32(b[4:]), flow: be.Uint32(b[8:]), seq: be.Uint64(b[16:]),
		sent: Instant(be.Uint64(b[24:])), server: Instant(be.Uint64(b[32:])), got: be.Uint64(b[40:]),
		seen: netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[48:64])).Unmap(), be.Uint16(b[64:])),
	}, true
}

// pulse is one flow of numbered questions and answers: UDP echo or ping.
type pulse struct {
	fd     int
	ping   bool
	client uint32
	number uint32
	buf    []byte
	flow   Flow
	last   Instant // the last answer, or the start
	top    uint64  // the highest number answered so far, plus one
}

func newUDPPulse(client, number uint32, f UDPFlows) (*pulse, error) {
	fd, err := socketTo(f.Server, unix.SOCK_DGRAM, 0)
	if err != nil {
		return nil, fmt.Errorf("open udp flow to %s: %w", f.Server, err)
	}
	return &pulse{fd: fd, client: client, number: number, buf: make([]byte, max(f.Size, datagramSize)),
		flow: Flow{Name: fmt.Sprintf("udp%d", number), Target: f.Server, Interval: f.Interval}}, nil
}

func newPingPulse(number uint32, p Ping) (*pulse, error) {
	to, protocol := netip.AddrPortFrom(p.Target, 0), unix.IPPROTO_ICMP
	if p.Target.Is6() {
		protocol = unix.IPPROTO_ICMPV6
	}
	fd, err := socketTo(to, unix.SOCK_RAW, protocol)
	if err != nil {
		return nil, fmt.Errorf("open ping to %s: %w", p.Target, err)
	}
	return &pulse{fd: fd, ping: true, number: number, buf: make([]byte, 24),
		flow: Flow{Name: "ping " + p.Target.String(), Target: to, Interval: p.Interval}}, nil
}

func socketTo(to netip.AddrPort, kind, protocol int) (int, error) {
	family, sa := socketAddress(to)
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(fd, sa); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func socketAddress(a netip.AddrPort) (family int, sa unix.Sockaddr) {
	if addr := a.Addr().Unmap(); addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: addr.As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// send asks the next question.
func (p *pulse) send(now Instant) {
	seq := uint64(len(p.flow.Sent))
	p.flow.Sent = append(p.flow.Sent, now)
	p.flow.Echo = append(p.flow.Echo, 0)
	if p.ping {
		p.putPing(seq)
	} else {
		datagram{client: p.client, flow: p.number, seq: seq, sent: now}.put(p.buf)
	}
	_, err := unix.Write(p.fd, p.buf)
	if errors.Is(err, unix.ECONNREFUSED) {
		// An ICMP error of an earlier datagram is told instead of sending.
		_, err = unix.Write(p.fd, p.buf)
	}
	if err != nil {
		p.flow.Unsent++
	}
}

// receive takes every answer that is there.
func (p *pulse) receive() {
	var buf [2048]byte
	for {
		n, err := unix.Read(p.fd, buf[:])
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH) ||
			errors.Is(err, unix.ENETUNREACH) {
			continue // a waiting ICMP error, now read
		}
		if err != nil {
			return
		}
		if p.ping {
			if seq, ok := p.parsePing(buf[:n]); ok {
				p.answered(seq, Now())
			}
			continue
		}
		d, ok := parseDatagram(buf[:n])
		if !ok || d.client != p.client || d.flow != p.number {
			continue
		}
		p.answered(d.seq, Now())
		p.flow.ServerGot = max(p.flow.ServerGot, d.got)
		if n := len(p.flow.Seen); n == 0 || p.flow.Seen[n-1].From != d.seen {
			p.flow.Seen = append(p.flow.Seen, Sighting{At: d.server, From: d.seen})
		}
	}
}

func (p *pulse) answered(seq uint64, now Instant) {
	if seq >= uint64(len(p.flow.Echo)) {
		return
	}
	if p.flow.Echo[seq] != 0 {
		p.flow.Duplicated++
		return
	}
	p.flow.Echo[seq] = now
	p.last = now
	if seq+1 < p.top {
		p.flow.Reordered++
	}
	p.top = max(p.top, seq+1)
}

// An echo request holds the number in full after the 16 bits of ICMP's own.
func (p *pulse) putPing(seq uint64) {
	be := binary.BigEndian
	b := p.buf
	clear(b)
	b[0] = 8 // echo request
	if p.flow.Target.Addr().Is6() {
		b[0] = 128
	}
	be.PutUint16(b[4:], uint16(p.number))
	be.PutUint16(b[6:], uint16(seq))
	be.PutUint32(b[8:], datagramMagic)
	be.PutUint64(b[16:], seq)
	be.PutUint16(b[2:], checksum(b)) // of ICMPv6 the kernel makes its own
}

func (p *pulse) parsePing(b []byte) (uint64, bool) {
	be := binary.BigEndian
	if len(b) < 20 {
		return 0, false
	}
	reply := byte(129)
	if p.flow.Target.Addr().Is4() {
		reply, b = 0, b[min(int(b[0]&15)*4, len(b)):] // a raw socket shows the IP header
	}
	if len(b) < 24 || b[0] != reply || be.Uint16(b[4:]) != uint16(p.number) || be.Uint32(b[8:]) != datagramMagic {
		return 0, false
	}
	return be.Uint64(b[16:]), true
}

// checksum is the internet checksum of b.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
