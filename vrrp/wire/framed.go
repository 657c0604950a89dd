package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

const (
	etherLen = 14
	ip6Len   = 40
	// maxFramed is the longest message that needs no fragments, which nobody
	// makes for a packet socket: Ethernet's 1500 bytes less the IPv6 header.
	maxFramed = 1500 - ip6Len
)

// openFramed opens a socket for whole Ethernet frames: only so can a packet
// leave with another MAC than its device's before the device with that MAC is
// up. Protocol 0 receives nothing.
func openFramed() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket (needs CAP_NET_RAW): %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 6); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set the priority of a packet socket: %w", err)
	}
	return fd, nil
}

// newFramed is a message to the path's group as a frame from mac.
func newFramed(p *path, mac net.HardwareAddr, payload []byte) packet {
	var (
		to  [6]byte
		typ uint16
		ip  []byte
	)
	if d := p.dst.As16(); p.dst.Is6() {
		typ, ip = unix.ETH_P_IPV6, header6(p.src, p.dst, len(payload))
		to = [6]byte{0x33, 0x33, d[12], d[13], d[14], d[15]} // RFC 2464 §7
	} else {
		typ, ip = unix.ETH_P_IP, header4(p.src, p.dst, len(payload))
		to = [6]byte{0x01, 0x00, 0x5e, d[13] & 0x7f, d[14], d[15]} // RFC 1112 §6.4
	}
	b := make([]byte, 0, etherLen+len(ip)+len(payload))
	b = append(b, to[:]...)
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = append(b, ip...)
	ll := &unix.SockaddrLinklayer{Protocol: networkOrder(typ), Ifindex: p.index, Halen: 6}
	copy(ll.Addr[:], to[:])
	return packet{path: p, header: len(b), bytes: append(b, payload...), to: ll}
}

// header4 is an IPv4 header, complete.
func header4(src, dst netip.Addr, payload int) []byte {
	b := make([]byte, ipHeaderLen)
	b[0], b[1] = 0x45, tosControl
	binary.BigEndian.PutUint16(b[2:], uint16(ipHeaderLen+payload))
	b[8], b[9] = ttl, vrrp.Protocol
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum))
	return b
}

// header6 is an IPv6 header.
func header6(src, dst netip.Addr, payload int) []byte {
	b := make([]byte, ip6Len)
	binary.BigEndian.PutUint32(b, 6<<28|tosControl<<20)
	binary.BigEndian.PutUint16(b[4:], uint16(payload))
	b[6], b[7] = vrrp.Protocol, ttl
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return b
}

// linkLayer is where a socket's filter finds the Ethernet header (SKF_LL_OFF).
const linkLayer = 0xffe00000

// openTap opens a socket on the device with the virtual MAC that sees the
// adverts which come with that MAC, and no others. It joins no group: the kernel
// would tell the network so, with that MAC and at times of its choice.
func openTap(p place, index int) (*socket, error) {
	ifi, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("read the MAC of %s: %w", p.device, err)
	}
	mac := ifi.HardwareAddr
	if len(mac) != 6 {
		return nil, fmt.Errorf("%s has no Ethernet address", p.device)
	}
	// Where protocol and destination stand in the header; of that the last four bytes.
	proto, last, group, typ, form := uint32(9), uint32(16), vrrp.Group4.AsSlice(), uint16(unix.ETH_P_IP), packet4
	if p.six {
		proto, last, group, typ, form = 6, 36, vrrp.Group6.AsSlice(), unix.ETH_P_IPV6, packet6
	}
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: linkLayer + 6, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(mac), SkipTrue: 7},
		bpf.LoadAbsolute{Off: linkLayer + 10, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(binary.BigEndian.Uint16(mac[4:])), SkipTrue: 5},
		bpf.LoadAbsolute{Off: proto, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: vrrp.Protocol, SkipTrue: 3},
		bpf.LoadAbsolute{Off: last, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(group[len(group)-4:]), SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble the filter of a MAC: %w", err)
	}
	raw := make([]unix.SockFilter, len(prog))
	for i, p := range prog {
		raw[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket (needs CAP_NET_RAW): %w", err)
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set the filter of a MAC: %w", err)
	}
	// From here on it receives.
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(typ), Ifindex: index}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("bind to %s: %w", p.device, err)
	}
	return &socket{file: os.NewFile(uintptr(fd), p.String()), form: form}, nil
}

// networkOrder is a number as the sockets of packets take it.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
