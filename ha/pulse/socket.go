package pulse

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

// socket hears the answers on one device: ARP replies, or neighbour
// advertisements (nd.go). Nobody is woken by one: they are read when the next
// question is due.
type socket struct {
	fd       int
	index    int
	mac      net.HardwareAddr
	protocol uint16     // in network order
	from     netip.Addr // of neighbour discovery: this node's link-local address there
}

// arpProtocol is ETH_P_ARP in network order.
const arpProtocol = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP<<8&0xff00

// openSocket opens one for ARP, or for neighbour discovery from an address that
// linkLocal names, if there is any.
func openSocket(ifi *net.Interface, linkLocal func(index int) (netip.Addr, error)) (*socket, error) {
	fail := func(what string, err error) (*socket, error) {
		return nil, fmt.Errorf("%s on %s: %w", what, ifi.Name, err)
	}
	// No protocol yet: nothing is heard before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail("open a socket for neighbours", err)
	}
	s := &socket{fd: fd, index: ifi.Index, mac: slices.Clone(ifi.HardwareAddr), protocol: arpProtocol}
	filter := vrrp.OnlyARPReplies
	if linkLocal != nil {
		s.protocol, filter = sixProtocol, vrrp.OnlyNeighbours
		if s.from, err = linkLocal(ifi.Index); err != nil {
			s.close()
			return fail("find an address to ask neighbours from", err)
		}
	}
	if err := s.filter(filter); err != nil {
		s.close()
		return fail("filter a socket for neighbours", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: s.protocol, Ifindex: ifi.Index}); err != nil {
		s.close()
		return fail("bind a socket for neighbours", err)
	}
	return s, nil
}

func (s *socket) filter(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

func (s *socket) close() { _ = unix.Close(s.fd) } // nothing was written that could get lost

// ask sends one request. With sender 0.0.0.0 it changes nobody's table
// (RFC 5227 §2.1.1); it is answered as well.
func (s *socket) ask(q question) error {
	if q.Address.Is6() {
		return s.solicit(q)
	}
	source, to := q.Source, q.mac
	if !source.IsValid() {
		source = netip.IPv4Unspecified()
	}
	if q.wide || to == nil {
		to = ethernet.Broadcast
	}
	p, err := arp.NewPacket(arp.OperationRequest, s.mac, source, make(net.HardwareAddr, 6), q.Address)
	if err != nil {
		return fmt.Errorf("ask for %v: %w", q.Address, err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return fmt.Errorf("ask for %v: %w", q.Address, err)
	}
	return s.send(b, to)
}

func (s *socket) send(b []byte, to net.HardwareAddr) error {
	at := &unix.SockaddrLinklayer{Protocol: s.protocol, Ifindex: s.index, Halen: 6}
	copy(at.Addr[:], to)
	return unix.Sendto(s.fd, b, unix.MSG_DONTWAIT, at)
}

// answerIn is how long a neighbour's kernel takes to answer, with much to spare.
const answerIn = time.Millisecond

// await waits until something was heard, for answerIn at most.
func (s *socket) await() {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}, int(answerIn.Milliseconds()))
}

// perRead bounds what is read at once: a flood must not hold up the questions.
const perRead = 64

// read takes what came since the last time.
func (s *socket) read(heard func(netip.Addr, net.HardwareAddr)) {
	var b [128]byte
	for range perRead {
		n, err := unix.Read(s.fd, b[:])
		if err != nil {
			return // EAGAIN, or ENETDOWN: whoever looks next opens anew
		}
		if ip, mac, ok := s.answer(b[:n]); ok {
			heard(ip, mac)
		}
	}
}

// answer tells who answers, in a packet of what the socket is for.
func (s *socket) answer(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	if !s.from.IsValid() {
		return replier(b)
	}
	ip, mac, ok := vrrp.Neighbour(b)
	return ip, mac, ok
}

// replier returns the sender of an ARP reply for IPv4 over Ethernet.
func replier(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	var p arp.Packet
	if p.UnmarshalBinary(b) != nil || p.Operation != arp.OperationReply || p.HardwareType != 1 ||
		p.ProtocolType != uint16(ethernet.EtherTypeIPv4) || p.HardwareAddrLength != 6 || !p.SenderIP.Is4() {
		return netip.Addr{}, nil, false
	}
	return p.SenderIP, slices.Clone(p.SenderHardwareAddr), true
}
