package wire

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

// Received is a packet of our virtual router from a socket. What Drop refuses is
// handed over all the same, up to a rate, so that somebody can raise an alarm.
type Received struct {
	Link     string // lan, "" for unicast
	Src, Dst netip.Addr
	TTL      int
	Advert   vrrp.Advert // empty if it could not be read
	Checksum vrrp.Checksum
	Drop     vrrp.DropReason // "" good
	At       time.Time
}

// socket receives at one place.
type socket struct {
	file *os.File
	form form
	dst  netip.Addr // of form6: the group, or the local address
}

// form is how packets come out of a socket.
type form uint8

const (
	packet4 form = iota // with their header
	packet6             // with their header
	form6               // the message alone
)

// openSocket opens a socket that sees each packet of its place, and no other:
// one that is bound to the group takes nothing that is sent to an address, and
// the other way round, so that nothing is reported twice.
func openSocket(p place, index int) (*socket, error) {
	if p.tap {
		return openTap(p, index)
	}
	family, bind := unix.AF_INET, place.bind4
	if p.six {
		family, bind = unix.AF_INET6, place.bind6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, vrrp.Protocol)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket (needs CAP_NET_RAW): %w", err)
	}
	if err := bind(p, fd, index); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	s := &socket{file: os.NewFile(uintptr(fd), p.String())}
	if p.six {
		s.form, s.dst = form6, vrrp.Group6
		if p.device == "" {
			s.dst = p.local
		}
	}
	return s, nil
}

func (p place) bind4(fd, index int) error {
	// Without this the groups that others joined count too (ip(7)).
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_ALL, 0); err != nil {
		return fmt.Errorf("keep to our own groups: %w", err)
	}
	if p.device == "" {
		// The address may come later.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1); err != nil {
			return fmt.Errorf("allow an address that is not there: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: p.local.As4()}); err != nil {
			return fmt.Errorf("bind to %v: %w", p.local, err)
		}
		return nil
	}
	if err := unix.BindToDevice(fd, p.device); err != nil {
		return fmt.Errorf("bind to %s: %w", p.device, err)
	}
	group := vrrp.Group4.As4()
	if err := unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: int32(index)}); err != nil {
		return fmt.Errorf("join %v on %s: %w", vrrp.Group4, p.device, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: group}); err != nil {
		return fmt.Errorf("bind to %v on %s: %w", vrrp.Group4, p.device, err)
	}
	return nil
}

func (p place) bind6(fd, index int) error {
	for _, o := range []option{
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL, 0, "keep to our own groups"},
		// The header does not come with the message.
		{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, "ask for the hop limit"},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("%s: %w", o.what, err)
		}
	}
	if p.device == "" {
		// The address may come later, or wait for the kernel's word that nobody else has it.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1); err != nil {
			return fmt.Errorf("allow an address that is not there: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: p.local.As16()}); err != nil {
			return fmt.Errorf("bind to %v: %w", p.local, err)
		}
		return nil
	}
	if err := unix.BindToDevice(fd, p.device); err != nil {
		return fmt.Errorf("bind to %s: %w", p.device, err)
	}
	group := vrrp.Group6.As16()
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: group, Interface: uint32(index)}); err != nil {
		return fmt.Errorf("join %v on %s: %w", vrrp.Group6, p.device, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: group, ZoneId: uint32(index)}); err != nil {
		return fmt.Errorf("bind to %v on %s: %w", vrrp.Group6, p.device, err)
	}
	return nil
}

func (s *socket) close() { _ = s.file.Close() }

// terms say what is taken. They are never changed, only replaced.
type terms struct {
	vrid   uint8               // 0: any
	links  map[string]uint8    // the same of links, by name
	own    map[netip.Addr]bool // packets from own addresses are ignored
	advert vrrp.Terms
}

// of is what is taken on a link, "" unicast.
func (t *terms) of(link string) (vrid uint8, advert vrrp.Terms) {
	return cmp.Or(t.links[link], t.vrid), t.advert
}

// datagram is a packet that came, read as far as IP goes.
type datagram struct {
	src, dst netip.Addr
	ttl      int // -1 not known
	payload  []byte
}

// run reports what comes until the socket is closed (nil) or fails.
func (s *socket) run(link string, terms *atomic.Pointer[terms], receive func(Received)) error {
	next, err := s.reader()
	if err != nil {
		return err
	}
	for {
		d, ok, err := next()
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		now := terms.Load()
		vrid, advert := now.of(link)
		if !ok || now.own[d.src] {
			continue
		}
		r, ok := judge(d, vrid, advert)
		if !ok {
			continue
		}
		r.Link, r.At = link, time.Now()
		receive(r)
	}
}

// reader returns what reads one packet; it is not ok if it is none.
func (s *socket) reader() (func() (datagram, bool, error), error) {
	if s.form == form6 {
		return s.reader6()
	}
	read := read4
	if s.form == packet6 {
		read = read6
	}
	buf := make([]byte, 4096) // more than an advert of 255 addresses, or one frame
	return func() (datagram, bool, error) {
		n, err := s.file.Read(buf)
		if err != nil {
			return datagram{}, false, err
		}
		d, ok := read(buf[:n])
		return d, ok, nil
	}, nil
}

// read6 reads a whole IPv6 packet without extensions, as a packet socket gives it.
func read6(b []byte) (datagram, bool) {
	if len(b) < ip6Len || b[0]>>4 != 6 || b[6] != vrrp.Protocol {
		return datagram{}, false
	}
	payload := b[ip6Len:]
	if n := int(binary.BigEndian.Uint16(b[4:])); n < len(payload) {
		payload = payload[:n]
	}
	return datagram{src: netip.AddrFrom16([16]byte(b[8:24])), dst: netip.AddrFrom16([16]byte(b[24:40])), ttl: int(b[7]), payload: payload}, true
}

// read4 reads a whole IPv4 packet as a raw socket gives it. It is not ok if the
// kernel should not have let it through.
func read4(b []byte) (datagram, bool) {
	if len(b) < ipHeaderLen || b[0]>>4 != 4 {
		return datagram{}, false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipHeaderLen || len(b) < header {
		return datagram{}, false
	}
	payload := b[header:]
	if total >= header && total < len(b) {
		payload = b[header:total]
	}
	return datagram{
		src: netip.AddrFrom4([4]byte(b[12:16])), dst: netip.AddrFrom4([4]byte(b[16:20])), ttl: int(b[8]), payload: payload,
	}, true
}

// reader6 is the like of a raw socket over IPv6, where the message comes alone:
// the socket is bound to one address only, the hop limit comes beside.
func (s *socket) reader6() (func() (datagram, bool, error), error) {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("receive over IPv6: %w", err)
	}
	buf, control := make([]byte, 8192), make([]byte, 256)
	return func() (d datagram, ok bool, err error) {
		var n, nc int
		var from unix.Sockaddr
		waited := raw.Read(func(fd uintptr) bool {
			for {
				n, nc, _, from, err = unix.Recvmsg(int(fd), buf, control, unix.MSG_DONTWAIT)
				if !errors.Is(err, unix.EINTR) {
					return !errors.Is(err, unix.EAGAIN)
				}
			}
		})
		if waited != nil || err != nil {
			return datagram{}, false, cmp.Or(waited, err)
		}
		src, ok := from.(*unix.SockaddrInet6)
		if !ok {
			return datagram{}, false, nil
		}
		return datagram{src: netip.AddrFrom16(src.Addr), dst: s.dst, ttl: readHopLimit(control[:nc]), payload: buf[:n]}, true, nil
	}, nil
}

// readHopLimit finds it among control messages, -1 if it is not there.
func readHopLimit(b []byte) int {
	for len(b) >= unix.CmsgLen(0) {
		h, data, rest, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			break
		}
		if h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4 {
			return int(int32(binary.NativeEndian.Uint32(data)))
		}
		b = rest
	}
	return -1
}

// judge reads the message. It is not ok if it is of another virtual router:
// that one may speak as it likes (RFC 9568 §7.1).
func judge(d datagram, vrid uint8, terms vrrp.Terms) (Received, bool) {
	if vrid != 0 && len(d.payload) > 1 && d.payload[1] != vrid {
		return Received{}, false
	}
	r := Received{Src: d.src, Dst: d.dst, TTL: d.ttl}
	if r.TTL != ttl { // RFC 9568 §5.1.1.3, §5.1.2.3: it came through a router
		r.Drop = vrrp.DropTTL
		return r, true
	}
	var err error
	if r.Advert, r.Checksum, err = vrrp.Parse(d.payload, r.Src, r.Dst); err != nil {
		r.Drop = vrrp.DropLength
		var de *vrrp.DropError
		if errors.As(err, &de) {
			r.Drop = de.Reason
		}
		return r, true
	}
	r.Drop = terms.Refuse(r.Advert)
	return r, true
}
