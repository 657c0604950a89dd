package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

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
	vrid   uint8
	mac    net.HardwareAddr // the virtual one, that frames carry; nil: the device's
	listed []netip.Addr     // none: the source
	fd     int
	absent error        // the kernel has nothing to send there with
	errno  atomic.Int32 // of the last send

	lead // now; guarded by Transport.mu
}

func newPath(name, device string, dst netip.Addr, vrid uint8, listed []netip.Addr) *path {
	return &path{name: name, device: device, dst: dst, vrid: vrid, listed: listed, fd: -1}
}

// leads tells whether anything can be sent there.
func (p *path) leads() bool {
	return p.absent == nil && p.src.IsValid() && (p.device == "" || p.index != 0)
}

// kind is what a socket must be, to be good for a path.
type kind struct{ six, framed bool }

func (p *path) kind() kind { return kind{p.dst.Is6() && p.mac == nil, p.mac != nil} }

func (p *path) open() error {
	open := openRaw4
	switch k := p.kind(); {
	case k.framed:
		open = openFramed
	case k.six:
		open = openRaw6
	}
	fd, err := open()
	p.absent = nil
	if errors.Is(err, unix.EAFNOSUPPORT) { // IPv4 goes on
		p.absent = fmt.Errorf("this kernel has no IPv6: %w", err)
		return nil
	}
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

// openRaw4 opens a socket for whole packets: IPPROTO_RAW receives nothing and
// takes the IP header from us (raw(7)).
func openRaw4() (int, error) {
	return openRaw(unix.AF_INET, []option{
		{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, 0, "switch the loop off"},
	})
}

// openRaw6 opens a socket for messages: here the kernel makes the header, since
// a long list of IPv6 addresses needs fragments, which it makes of its own
// packets only. IPPROTO_RAW still receives nothing, and then takes the protocol
// from the destination's port (rawv6_sendmsg).
func openRaw6() (int, error) {
	return openRaw(unix.AF_INET6, []option{
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, 0, "switch the loop off"},
		{unix.IPPROTO_IPV6, unix.IPV6_HDRINCL, 0, "leave the header to the kernel"},
		{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tosControl, "set the class"},
	})
}

// option is one of a socket.
type option struct {
	level, name, value int
	what               string
}

func openRaw(family int, options []option) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return -1, fmt.Errorf("open a raw socket (needs CAP_NET_RAW): %w", err)
	}
	// Before all else in the queues of the device; 7 would need CAP_NET_ADMIN.
	options = append(options, option{unix.SOL_SOCKET, unix.SO_PRIORITY, 6, "set the priority"})
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("%s of a raw socket: %w", o.what, err)
		}
	}
	return fd, nil
}

// packet is a complete message and where it goes, over IPv4 with its header;
// sending it takes one system call and no memory.
type packet struct {
	path    *path
	header  int // so many of bytes
	bytes   []byte
	control []byte
	to      unix.Sockaddr
}

func newPacket(p *path, index int, src, dst netip.Addr, ttl int, payload []byte) packet {
	if src.Is6() {
		return packet{
			path: p, bytes: payload,
			control: append(unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: uint32(index), Addr: src.As16()}), hopLimit(ttl)...),
			to:      &unix.SockaddrInet6{Addr: dst.As16(), ZoneId: uint32(index), Port: vrrp.Protocol},
		}
	}
	b := make([]byte, ipHeaderLen, ipHeaderLen+len(payload))
	b[0], b[1] = 0x45, tosControl
	binary.BigEndian.PutUint16(b[2:], uint16(ipHeaderLen+len(payload)))
	b[8], b[9] = byte(ttl), vrrp.Protocol // the kernel fills in id and checksum
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return packet{
		path: p, header: ipHeaderLen, bytes: append(b, payload...),
		// The kernel refuses a source that is not on this machine, and lets
		// rules that look at it choose the route.
		control: unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(index), Spec_dst: s}),
		to:      &unix.SockaddrInet4{Addr: d},
	}
}

// hopLimit is the control message that sets it for one packet.
func hopLimit(n int) []byte {
	b := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], uint32(n))
	return b
}

// payload is the message without an IP header.
func (p packet) payload() []byte { return p.bytes[p.header:] }

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
		if p.mac == nil {
			out = append(out, newPacket(p, p.index, p.src, p.dst, ttl, msg))
			continue
		}
		mac := p.mac
		if priority == 0 { // said when that MAC is silent here, and may be another node's
			mac = p.own
		}
		out = append(out, newFramed(p, mac, msg))
	}
	return out
}
