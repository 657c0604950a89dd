package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// sighting is a machine that named itself the holder of one of our addresses.
type sighting struct {
	device string
	ip     netip.Addr
	mac    net.HardwareAddr
}

// station is a device as its network sees it, and what of ours is there.
type station struct {
	index int
	mac   string
	ips   []netip.Addr // sorted
}

// place is a device, and the family of the addresses that it is about: those
// of IPv4 are told by ARP, those of IPv6 by neighbour discovery.
type place struct {
	device string
	six    bool
}

func (p place) String() string {
	if p.six {
		return p.device + " over IPv6"
	}
	return p.device
}

// ear hears on one device who else holds what is ours there. A goroutine reads
// it until it is closed or the device is lost.
type ear struct {
	conn *packet.Conn
	six  bool
	at   station
	done chan struct{} // closed when the reader has ended
	stop chan struct{}
}

// sameSighting is how soon a machine that says the same again is not heard:
// a storm of frames is no news.
const sameSighting = 20 * time.Millisecond

// maxLast bounds what is remembered for that.
const maxLast = 1024

func openEar(p place, at station, heard chan<- sighting) (*ear, error) {
	filter, err := at.filter(p.six)
	if err != nil {
		return nil, err
	}
	ifi := &net.Interface{Index: at.index, Name: p.device, HardwareAddr: net.HardwareAddr(at.mac)}
	protocol := unix.ETH_P_ARP
	if p.six {
		protocol = unix.ETH_P_IPV6
	}
	conn, err := packet.Listen(ifi, packet.Datagram, protocol, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	e := &ear{conn: conn, six: p.six, at: at, done: make(chan struct{}), stop: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.read(p.device, heard)
	}()
	return e, nil
}

func (e *ear) read(name string, heard chan<- sighting) {
	last := map[netip.Addr]time.Time{} // of our addresses, or ones that end like them: the filter lets no other through
	holder := holder4
	if e.six {
		holder = holder6
	}
	b := make([]byte, 128)
	for {
		n, _, err := e.conn.ReadFrom(b)
		if err != nil {
			return // closed, or ENETDOWN: whoever looks next opens anew
		}
		ip, mac, ok := holder(b[:n])
		now := time.Now()
		if !ok || now.Sub(last[ip]) < sameSighting {
			continue
		}
		if len(last) > maxLast {
			clear(last)
		}
		last[ip] = now
		select {
		case heard <- sighting{device: name, ip: ip, mac: mac}:
		case <-e.stop:
			return
		}
	}
}

// lost tells whether the reader has ended.
func (e *ear) lost() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// retune changes what is listened for.
func (e *ear) retune(at station) error {
	filter, err := at.filter(e.six)
	if err != nil {
		return err
	}
	if err := e.conn.SetBPF(filter); err != nil {
		return fmt.Errorf("change the filter: %w", err)
	}
	e.at = at
	return nil
}

// close closes the socket and waits for its reader.
func (e *ear) close() {
	close(e.stop)
	_ = e.conn.Close() // nothing was written that could get lost
	<-e.done
}

func (s station) equal(o station) bool {
	return s.index == o.index && s.mac == o.mac && slices.Equal(s.ips, o.ips)
}

// filter is for the sockets of a family. A cooked one begins at the header of
// ARP or IP, and hears nothing that this machine sends.
func (s station) filter(six bool) ([]bpf.RawInstruction, error) {
	if six {
		return s.filter6()
	}
	return s.filter4()
}

// filter4 lets only ARP through whose sender has one of our addresses and not
// the device's own MAC.
func (s station) filter4() ([]bpf.RawInstruction, error) {
	mac := net.HardwareAddr(s.mac)
	if len(mac) != 6 {
		return nil, errors.New("no Ethernet address to tell ours from others")
	}
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: 14, Size: 4}}
	for i, ip := range s.ips {
		rest := uint32(len(s.ips) - 1 - i)
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: be32(ip.AsSlice()), SkipFalse: 1},
			bpf.Jump{Skip: 2*rest + 1}) // conditional jumps are too short for many
	}
	prog = append(prog,
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: 8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: be32(mac[:4]), SkipTrue: 3},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(mac[4])<<8 | uint32(mac[5]), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 64})
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, fmt.Errorf("assemble the ARP filter: %w", err)
	}
	return raw, nil
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// filter6 lets only neighbour advertisements through about an address that ends
// like one of ours.
func (s station) filter6() ([]bpf.RawInstruction, error) {
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: ipv6HeaderLen, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: neighbourAdvert, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: ipv6HeaderLen + 20, Size: 4},
	}
	for _, ip := range s.ips {
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: be32(ip.AsSlice()[12:]), SkipTrue: 1},
			bpf.RetConstant{Val: 128})
	}
	raw, err := bpf.Assemble(append(prog, bpf.RetConstant{Val: 0}))
	if err != nil {
		return nil, fmt.Errorf("assemble the filter of neighbours: %w", err)
	}
	return raw, nil
}

// holder4 returns who an ARP packet for IPv4 over Ethernet says it comes from.
func holder4(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	var p arp.Packet
	if p.UnmarshalBinary(b) != nil || p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) ||
		p.HardwareAddrLength != 6 || !p.SenderIP.Is4() {
		return netip.Addr{}, nil, false
	}
	return p.SenderIP, bytes.Clone(p.SenderHardwareAddr), true
}
