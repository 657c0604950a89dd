package probe

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// witness tells, while probes get no answer, whether the line works all the same:
// behind the queue of a full upload an answer may take seconds. It counts the
// TCP acknowledgements that carry nothing else and come in on the device, not
// from the gateway. Whoever sends those has just received what was sent over this
// line: on one that is dead, in whichever direction, they end at once. What else
// comes in proves less: a modem chats without a line behind it, and servers
// repeat what they had sent when nothing reaches them any more.
//
// It is a packet socket whose packets nobody reads, the kernel counts what passes
// its filter; it is open only while rounds are bad.
type witness struct {
	conn  *packet.Conn
	index int
	seen  []count
}

// count is how many were seen until then.
type count struct {
	at time.Time
	n  uint64
}

const (
	// witnessFor is the time by which the line is judged, where rounds do not
	// come more slowly.
	witnessFor = time.Second
	// witnessRate is how many a second are proof enough, and witnessLeast how
	// many at least: a few idle connections make some by themselves.
	witnessRate  = 5
	witnessLeast = 2
)

// acknowledgements is the filter: it lets TCP segments pass that come from another
// machine than the gateway, are no answer to a SYN and have no data.
func acknowledgements(gateway netip.Addr) []bpf.Instruction {
	const (
		outgoing = 4 // PACKET_OUTGOING
		flags    = 0x17
		ack      = 0x10
	)
	from := uint32(0)
	if gateway.Is4() {
		b := gateway.As4()
		from = uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	}
	// Each test skips to the last instruction if it fails.
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: outgoing, SkipTrue: 20},
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 18},
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 16},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 14}, // not the first fragment
		bpf.LoadAbsolute{Off: 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: from, SkipTrue: 12},
		bpf.LoadMemShift{Off: 0}, // X: length of the IP header
		bpf.LoadIndirect{Off: 13, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flags},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ack, SkipTrue: 8},
		bpf.LoadIndirect{Off: 12, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2}, // length of the TCP header
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.TAX{},
		bpf.LoadAbsolute{Off: 2, Size: 2}, // of the packet
		bpf.JumpIfX{Cond: bpf.JumpNotEqual, SkipTrue: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{Val: 0},
	}
}

// openWitness begins to count on a device.
func openWitness(d device, gateway netip.Addr, now time.Time) (*witness, error) {
	filter, err := bpf.Assemble(acknowledgements(gateway))
	if err != nil {
		return nil, fmt.Errorf("assemble the filter for acknowledgements: %w", err)
	}
	ifi := &net.Interface{Index: d.index(), Name: d.link.Attrs().Name, HardwareAddr: d.hw()}
	// All protocols: a device with a virtual MAC takes its packets from this one
	// before sockets for IP alone see them.
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open a socket that counts acknowledgements: %w", err)
	}
	return &witness{conn: conn, index: d.index(), seen: []count{{at: now}}}, nil
}

// saw tells, at the time now, whether the line works as far as this one saw; the
// rounds are so far apart.
func (w *witness) saw(now time.Time, interval time.Duration) bool {
	stats, err := w.conn.Stats() // since the call before
	if err != nil {
		return false
	}
	last := w.seen[len(w.seen)-1]
	w.seen = append(w.seen, count{now, last.n + uint64(stats.Packets)})
	return enough(&w.seen, max(witnessFor, interval+interval/2))
}

// enough judges by the counts of the last so long, and forgets the older ones.
func enough(seen *[]count, within time.Duration) bool {
	s := *seen
	now := s[len(s)-1]
	for len(s) > 2 && now.at.Sub(s[0].at) > within {
		s = s[1:]
	}
	*seen = s
	n, passed := now.n-s[0].n, now.at.Sub(s[0].at)
	return n >= witnessLeast && float64(n) >= witnessRate*passed.Seconds()
}

func (w *witness) close() { _ = w.conn.Close() }
