package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// announcer sends ARP frames. arp.Client wants a device with an IPv4 address
// and looks it up each time, so the frames go out over packet sockets of ours.
type announcer struct {
	log    *slog.Logger
	socks  map[string]*socket
	failed map[string]string
}

type socket struct {
	index int
	mac   net.HardwareAddr
	conn  *packet.Conn
}

func newAnnouncer(log *slog.Logger) *announcer {
	return &announcer{log: log, socks: map[string]*socket{}, failed: map[string]string{}}
}

func (n *announcer) close() {
	for _, s := range n.socks {
		_ = s.conn.Close()
	}
	clear(n.socks)
}

// announce sends, for each address, a gratuitous ARP request and reply (some
// hosts believe the one, some the other), and asks the gateway for its address
// in the virtual address's name: many ISP routers ignore gratuitous ARP but
// learn from a request.
func (n *announcer) announce(as []Address) {
	for _, a := range as {
		err := n.send(a)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if n.failed[a.Device] != text && err != nil {
			n.log.Warn("announce", "address", a, "error", err)
		}
		n.failed[a.Device] = text
	}
}

func (n *announcer) send(a Address) error {
	s, err := n.open(a.Device)
	if err != nil {
		return err
	}
	ip := a.Prefix.Addr()
	var failed error
	for _, f := range []struct {
		op     arp.Operation
		target net.HardwareAddr
		ip     netip.Addr
	}{
		{arp.OperationRequest, make(net.HardwareAddr, 6), ip},
		{arp.OperationReply, ethernet.Broadcast, ip},
		{arp.OperationRequest, make(net.HardwareAddr, 6), a.Gateway},
	} {
		if !f.ip.Is4() {
			continue
		}
		if err := s.write(f.op, ip, f.target, f.ip); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil { // the device may have been made anew
		_ = s.conn.Close()
		delete(n.socks, a.Device)
	}
	return failed
}

func (s *socket) write(op arp.Operation, src netip.Addr, dstMAC net.HardwareAddr, dst netip.Addr) error {
	p, err := arp.NewPacket(op, s.mac, src, dstMAC, dst)
	if err != nil {
		return fmt.Errorf("make an ARP packet for %v: %w", dst, err)
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return fmt.Errorf("make an ARP packet for %v: %w", dst, err)
	}
	frame, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: s.mac, EtherType: ethernet.EtherTypeARP, Payload: body}).MarshalBinary()
	if err != nil {
		return fmt.Errorf("make an ARP frame for %v: %w", dst, err)
	}
	_, err = s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast})
	return err
}

// open returns the socket of a device, a new one if the device is another than
// before.
func (n *announcer) open(device string) (*socket, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", device, err)
	}
	if s := n.socks[device]; s != nil {
		if s.index == ifi.Index && s.mac.String() == ifi.HardwareAddr.String() {
			return s, nil
		}
		_ = s.conn.Close()
		delete(n.socks, device)
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s has no Ethernet address", device)
	}
	// Protocol 0: this socket receives nothing.
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", device, err)
	}
	s := &socket{index: ifi.Index, mac: ifi.HardwareAddr, conn: conn}
	n.socks[device] = s
	return s, nil
}
