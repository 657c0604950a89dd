package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// arpSocket asks and hears the neighbours on one device. A goroutine reads it
// until it is closed or the device is lost.
type arpSocket struct {
	conn   *packet.Conn
	index  int
	closed chan struct{} // by close
	lost   chan struct{} // closed when the reader has ended
}

// onlyReplies keeps the requests of a busy segment out: on a cable network
// they come by the hundreds a second. A cooked socket begins at the ARP header.
var onlyReplies = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(arp.OperationReply), SkipTrue: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 64},
}

// openARP opens a socket on the device and starts its reader, which hands on
// whose replies it hears.
func openARP(d device, heard chan<- netip.Addr) (*arpSocket, error) {
	filter, err := bpf.Assemble(onlyReplies)
	if err != nil {
		return nil, fmt.Errorf("assemble the ARP filter: %w", err)
	}
	ifi := &net.Interface{Index: d.index(), Name: d.link.Attrs().Name, HardwareAddr: d.hw()}
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open an ARP socket: %w", err)
	}
	s := &arpSocket{conn: conn, index: d.index(), closed: make(chan struct{}), lost: make(chan struct{})}
	go func() {
		defer close(s.lost)
		b := make([]byte, 64)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				// Closed by close, or ENETDOWN: the next round opens anew.
				return
			}
			if who, ok := replier(b[:n]); ok {
				select {
				case heard <- who:
				case <-s.closed:
				}
			}
		}
	}()
	return s, nil
}

// ask sends one request for a neighbour's address.
func (s *arpSocket) ask(hw net.HardwareAddr, sender, neighbour netip.Addr) error {
	p, err := arp.NewPacket(arp.OperationRequest, hw, sender, net.HardwareAddr{0, 0, 0, 0, 0, 0}, neighbour)
	if err != nil {
		return err
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = s.conn.WriteTo(b, &packet.Addr{HardwareAddr: ethernet.Broadcast})
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// usable says whether the socket still hears the device with this index.
func (s *arpSocket) usable(index int) bool {
	select {
	case <-s.lost:
		return false
	default:
		return s.index == index
	}
}

// close closes the socket and waits for its reader.
func (s *arpSocket) close() {
	close(s.closed)
	// Nothing was written that could get lost.
	_ = s.conn.Close()
	<-s.lost
}

// replier returns the sender of an ARP reply for IPv4 over Ethernet, and false
// for anything else.
func replier(b []byte) (netip.Addr, bool) {
	var p arp.Packet
	if p.UnmarshalBinary(b) != nil || p.Operation != arp.OperationReply ||
		p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) ||
		p.HardwareAddrLength != 6 || !p.SenderIP.Is4() {
		return netip.Addr{}, false
	}
	return p.SenderIP, true
}
