package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

const (
	ipHeaderLen = 20
	// control is the class of service of routing protocols (RFC 9568 leaves it
	// open; keepalived and FRR use it too).
	tosControl = 0xc0
	ttl        = 255
)

// path is one way out for adverts: the group on a lan, or one peer. It has a
// socket of its own, so that a device which takes nothing any more fills no
// buffer but its own; the socket is not bound, so that it outlives devices.
type path struct {
	name   string // for the log
	device string // "" unicast: the routing table decides
	dst    netip.Addr
	listed []netip.Addr // none: the source
	fd     int
	errno  atomic.Int32 // of the last send

	lead // now; guarded by Transport.mu
}

func newPath(name, device string, dst netip.Addr, listed []netip.Addr) *path {
	return &path{name: name, device: device, dst: dst, listed: listed, fd: -1}
}

// leads tells whether anything can be sent there.
func (p *path) leads() bool { return p.src.IsValid() && (p.device == "" || p.index != 0) }

func (p *path) open() error {
	fd, err := openRaw()
	if err != nil {
		return fmt.Errorf("send adverts to %s: %w", p.name, err)
	}
	p.fd = fd
	return nil
}

func (p *path) close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// openRaw opens a socket for whole packets: IPPROTO_RAW receives nothing and
// takes the IP header from us (raw(7)).
func openRaw() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return -1, fmt.Errorf("open a raw socket (needs CAP_NET_RAW): %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("switch the loop of a raw socket off: %w", err)
	}
	// Before all else in the queues of the device; 7 would need CAP_NET_ADMIN.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 6); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set the priority of a raw socket: %w", err)
	}
	return fd, nil
}

// packet is a complete IP packet and where it goes; sending it takes one system
// call and no memory.
type packet struct {
	path    *path
	bytes   []byte
	control []byte
	to      *unix.SockaddrInet4
}

func newPacket(p *path, index int, src, dst netip.Addr, ttl int, payload []byte) packet {
	b := make([]byte, ipHeaderLen, ipHeaderLen+len(payload))
	b[0], b[1] = 0x45, tosControl
	binary.BigEndian.PutUint16(b[2:], uint16(ipHeaderLen+len(payload)))
	b[8], b[9] = byte(ttl), vrrp.Protocol // the kernel fills in id and checksum
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return packet{
		path: p, bytes: append(b, payload...),
		// The kernel refuses a source that is not on this machine, and lets
		// rules that look at it choose the route.
		control: unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: s}),
		to:      &unix.SockaddrInet4{Addr: d},
	}
}

func (p packet) send(fd int) error {
	_, err := unix.SendmsgN(fd, p.bytes, p.control, p.to, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return err
}

// packets makes an advert ready for every path that leads somewhere. The
// caller holds mu.
func (t *Transport) packets(priority uint8, interval time.Duration) []packet {
	var out []packet
	for _, p := range t.paths {
		if !p.leads() {
			continue
		}
		msg, err := t.cfg.advert(priority, interval, p, p.src).Append(nil, p.src, p.dst, t.cfg.Checksum)
		if err != nil {
			continue // cannot be: check has tried the same on every path, Advertise has checked the interval
		}
		out = append(out, newPacket(p, p.index, p.src, p.dst, ttl, msg))
	}
	return out
}
