package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Forgery is an IPv4 packet of the test's own making.
type Forgery struct {
	Device   string
	Src, Dst netip.Addr // Src may be anybody's
	TTL      uint8      // 64 if 0
	Protocol uint8      // 112: VRRP
	Payload  []byte     // what follows the IP header
}

// SendIP sends a packet from the node as it is.
func (n *Node) SendIP(f Forgery) error {
	if !f.Src.Is4() || !f.Dst.Is4() {
		return fmt.Errorf("send from %s: want IPv4 addresses, not %s and %s", n.Name, f.Src, f.Dst)
	}
	if f.TTL == 0 {
		f.TTL = 64
	}
	packet := make([]byte, 20, 20+len(f.Payload)) // the kernel fills in length, id and checksum
	packet[0], packet[8], packet[9] = 0x45, f.TTL, f.Protocol
	copy(packet[12:], f.Src.AsSlice())
	copy(packet[16:], f.Dst.AsSlice())
	packet = append(packet, f.Payload...)
	err := n.in(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if f.Device != "" {
			err = unix.BindToDevice(fd, f.Device)
		}
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
		if err != nil {
			return err
		}
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: f.Dst.As4()})
	})
	if err != nil {
		return fmt.Errorf("send protocol %d to %s: %w", f.Protocol, f.Dst, err)
	}
	return nil
}

// SendUDP sends a UDP datagram from the node; the source may be anybody's.
func (n *Node) SendUDP(device string, src, dst netip.AddrPort, ttl uint8, payload []byte) error {
	udp := make([]byte, 8, 8+len(payload)) // checksum 0: none, which IPv4 allows
	binary.BigEndian.PutUint16(udp, src.Port())
	binary.BigEndian.PutUint16(udp[2:], dst.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	return n.SendIP(Forgery{Device: device, Src: src.Addr(), Dst: dst.Addr(), TTL: ttl,
		Protocol: unix.IPPROTO_UDP, Payload: append(udp, payload...)})
}

// SendFrame sends a whole Ethernet frame from a device of the node: forged ARP.
func (n *Node) SendFrame(device string, frame []byte) error {
	err := n.in(func() error {
		dev, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index, Halen: 6})
	})
	if err != nil {
		return fmt.Errorf("send a frame on %s: %w", device, err)
	}
	return nil
}
