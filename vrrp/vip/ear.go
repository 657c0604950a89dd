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

// ear hears on one device who else holds what is ours there. A goroutine reads
// it until it is closed or the device is lost.
type ear struct {
	conn *packet.Conn
	at   station
	done chan struct{} // closed when the reader has ended
	stop chan struct{}
}

// sameSighting is how soon a machine that says the same again is not heard:
// a storm of frames is no news.
const sameSighting = 20 * time.Millisecond

func openEar(name string, at station, heard chan<- sighting) (*ear, error) {
	filter, err := at.filter()
	if err != nil {
		return nil, err
	}
	ifi := &net.Interface{Index: at.index, Name: name, HardwareAddr: net.HardwareAddr(at.mac)}
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open an ARP socket: %w", err)
	}
	e := &ear{conn: conn, at: at, done: make(chan struct{}), stop: make(chan struct{})}
	go func() {
		defer close(e.done)
		e.read(name, heard)
	}()
	return e, nil
}

func (e *ear) read(name string, heard chan<- sighting) {
	last := map[netip.Addr]time.Time{} // of our addresses: the filter lets no other through
	b := make([]byte, 64)
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
	filter, err := at.filter()
	if err != nil {
		return err
	}
	if err := e.conn.SetBPF(filter); err != nil {
		return fmt.Errorf("change the ARP filter: %w", err)
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

// filter lets only ARP through whose sender has one of our addresses and not
// the device's own MAC. A cooked socket begins at the ARP header, and hears
// nothing that this machine sends.
func (s station) filter() ([]bpf.RawInstruction, error) {
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

// holder returns who an ARP packet for IPv4 over Ethernet says it comes from.
func holder(b []byte) (netip.Addr, net.HardwareAddr, bool) {
	var p arp.Packet
	if p.UnmarshalBinary(b) != nil || p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) ||
		p.HardwareAddrLength != 6 || !p.SenderIP.Is4() {
		return netip.Addr{}, nil, false
	}
	return p.SenderIP, bytes.Clone(p.SenderHardwareAddr), true
}
