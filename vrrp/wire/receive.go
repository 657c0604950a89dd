package wire

import (
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
type socket struct{ file *os.File }

// openSocket opens a socket that sees each packet of its place, and no other:
// one that is bound to the group takes nothing that is sent to an address, and
// the other way round, so that nothing is reported twice.
func openSocket(p place, index int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, vrrp.Protocol)
	if err != nil {
		return nil, fmt.Errorf("open a raw socket (needs CAP_NET_RAW): %w", err)
	}
	if err := place.bind(p, fd, index); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &socket{file: os.NewFile(uintptr(fd), p.String())}, nil
}

func (p place) bind(fd, index int) error {
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

func (s *socket) close() { _ = s.file.Close() }

// terms say what is taken. They are never changed, only replaced.
type terms struct {
	vrid    uint8               // 0: any
	version vrrp.Version        // 0: any
	own     map[netip.Addr]bool // packets from own addresses are ignored
}

// run reports what comes until the socket is closed (nil) or fails.
func (s *socket) run(link string, terms *atomic.Pointer[terms], receive func(Received)) error {
	buf := make([]byte, 4096) // more than an advert of 255 addresses
	for {
		n, err := s.file.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		now := terms.Load()
		r, ok := judge(buf[:n], now.vrid, now.version)
		if !ok || now.own[r.Src] {
			continue
		}
		r.Link, r.At = link, time.Now()
		receive(r)
	}
}

// judge reads a whole IPv4 packet as a raw socket gives it. It is not ok if the
// kernel should not have let it through, or if it is of another virtual router:
// that one may speak as it likes (RFC 9568 §7.1).
func judge(b []byte, vrid uint8, version vrrp.Version) (Received, bool) {
	if len(b) < ipHeaderLen || b[0]>>4 != 4 {
		return Received{}, false
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipHeaderLen || len(b) < header {
		return Received{}, false
	}
	payload := b[header:]
	if total >= header && total < len(b) {
		payload = b[header:total]
	}
	if vrid != 0 && len(payload) > 1 && payload[1] != vrid {
		return Received{}, false
	}
	r := Received{
		Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])), TTL: int(b[8]),
	}
	if r.TTL != ttl { // RFC 9568 §5.1.1.3: it came through a router
		r.Drop = vrrp.DropTTL
		return r, true
	}
	var err error
	if r.Advert, r.Checksum, err = vrrp.Parse(payload, r.Src, r.Dst); err != nil {
		r.Drop = vrrp.DropLength
		var de *vrrp.DropError
		if errors.As(err, &de) {
			r.Drop = de.Reason
		}
		return r, true
	}
	if version != 0 && r.Advert.Version != version {
		r.Drop = vrrp.DropVersion
	}
	return r, true
}
