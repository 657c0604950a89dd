package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announcer sends ARP frames, and neighbour advertisements. arp.Client wants a device with an IPv4 address,
// and waits while the device takes nothing; these sockets, one for each device
// so that none fills another's buffer, neither receive nor wait.
type announcer struct {
	log    *slog.Logger
	fds    map[string]int
	failed map[string]bool
}

func newAnnouncer(log *slog.Logger) *announcer {
	return &announcer{log: log, fds: map[string]int{}, failed: map[string]bool{}}
}

func (n *announcer) close() {
	for _, fd := range n.fds {
		_ = unix.Close(fd)
	}
	clear(n.fds)
}

// announce tells a device's network that an address is here, and logs when
// that begins or ceases to fail.
func (n *announcer) announce(link netlink.Link, a Address) {
	if !speaksARP(link) {
		return
	}
	fs, err := frames(link.Attrs().HardwareAddr, a)
	if err == nil {
		err = n.send(link, fs)
	}
	switch failed := n.failed[a.Device]; {
	case err != nil && !failed:
		n.log.Warn("announce", "address", a.Prefix, "device", a.Device, "from", "working", "to", "failing", "reason", err)
	case err == nil && failed:
		n.log.Info("announce", "address", a.Prefix, "device", a.Device, "from", "failing", "to", "working")
	}
	n.failed[a.Device] = err != nil
}

// probe asks who has an address, in nobody's name. That it cannot be sent is
// told by announce.
func (n *announcer) probe(link netlink.Link, ip netip.Addr) {
	if !speaksARP(link) {
		return
	}
	if ip.Is6() {
		_ = n.send(link, [][]byte{solicitation(link.Attrs().HardwareAddr, ip)})
		return
	}
	if f, err := frame(arp.OperationRequest, link.Attrs().HardwareAddr, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), ip); err == nil {
		_ = n.send(link, [][]byte{f})
	}
}

// speaksARP tells whether anybody resolves addresses on a device.
func speaksARP(link netlink.Link) bool {
	a := link.Attrs()
	return a.EncapType == "ether" && a.RawFlags&unix.IFF_NOARP == 0 && len(a.HardwareAddr) == 6
}

func (n *announcer) send(link netlink.Link, frames [][]byte) error {
	name := link.Attrs().Name
	fd, ok := n.fds[name]
	if !ok {
		var err error
		// Protocol 0 receives nothing; the device is named with each frame.
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open a packet socket: %w", err)
		}
		n.fds[name] = fd
	}
	to := &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6}
	var failed error
	for _, f := range frames {
		copy(to.Addr[:], f[:6])
		to.Protocol = binary.NativeEndian.Uint16(f[12:]) // as it stands there: in network order
		if err := unix.Sendto(fd, f, unix.MSG_DONTWAIT, to); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// frames are, for one IPv6 address, a neighbour advertisement; else a gratuitous ARP request and reply (some hosts
// believe the one, some the other; RFC 5227 §3), and a request for the gateway
// in the virtual address's name: many ISP routers ignore gratuitous ARP but
// learn from whoever asks them.
func frames(mac net.HardwareAddr, a Address) ([][]byte, error) {
	ip := a.Prefix.Addr()
	if ip.Is6() {
		return [][]byte{neighbour(mac, ip)}, nil
	}
	nobody := make(net.HardwareAddr, 6)
	var out [][]byte
	for _, f := range []struct {
		op     arp.Operation
		target net.HardwareAddr
		ip     netip.Addr
	}{
		{arp.OperationRequest, nobody, ip},
		{arp.OperationReply, ethernet.Broadcast, ip},
		{arp.OperationRequest, nobody, a.Gateway},
	} {
		if !f.ip.Is4() {
			continue
		}
		one, err := frame(f.op, mac, ip, f.target, f.ip)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// frame is one ARP packet to all, from mac and in the name of ip.
func frame(op arp.Operation, mac net.HardwareAddr, ip netip.Addr, target net.HardwareAddr, about netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, mac, ip, target, about)
	if err != nil {
		return nil, fmt.Errorf("make an ARP packet for %v: %w", about, err)
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("make an ARP packet for %v: %w", about, err)
	}
	f, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: mac, EtherType: ethernet.EtherTypeARP, Payload: body}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("make an ARP frame for %v: %w", about, err)
	}
	return f, nil
}
