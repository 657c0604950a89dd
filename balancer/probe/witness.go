package probe

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// witness tells, while probes get no answer, whether the line works all the same:
// behind the queue of a full line an answer may take seconds. It looks at TCP
// segments that come in on the device, not from the gateway, for connections that
// make progress: what is acknowledged was received by somebody beyond this line,
// and who goes on sending new data was told that the former came here. On a line
// that is dead, in whichever direction, both end at once, or with what is still
// under way. What else comes in proves less: a modem chats without a line behind
// it, and servers repeat what they had sent when nothing reaches them any more.
//
// It is a packet socket with room for some hundred packets, open only while
// rounds are bad, and read once a round: at any speed of the line that is enough.
type witness struct {
	conn  *packet.Conn
	index int
	batch int // how often the socket was read
	flows map[flow]*progress
	last  time.Time // when progress was seen
}

// flow is one direction of a connection: source, destination, ports.
type flow [12]byte

// progress is how far a flow was seen to be.
type progress struct {
	batch        int    // in which it was seen last
	before       uint32 // end of its data as of the batch before that
	known        bool   // there was one
	data         uint32 // end of its data
	acknowledged uint32
}

// credit is for how long progress counts: a connection that lost packets in a full
// queue may pause for that long. A line that dies while it is full does so later
// by that.
const credit = time.Second

// mostFlows bounds what is remembered; more make room for new ones.
const mostFlows = 4096

// segments is the filter: it lets the first 64 bytes of TCP segments pass that come
// from another machine than the gateway and neither begin nor break a connection.
func segments(gateway netip.Addr) []bpf.Instruction {
	const (
		outgoing = 4 // PACKET_OUTGOING
		flags    = 0x16
		ack      = 0x10
		headers  = 64
	)
	from := uint32(0)
	if gateway.Is4() {
		b := gateway.As4()
		from = binary.BigEndian.Uint32(b[:])
	}
	// Each test skips to the last instruction if it fails.
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: outgoing, SkipTrue: 13},
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 11},
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 9},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 7}, // not the first fragment
		bpf.LoadAbsolute{Off: 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: from, SkipTrue: 5},
		bpf.LoadMemShift{Off: 0}, // X: length of the IP header
		bpf.LoadIndirect{Off: 13, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flags},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ack, SkipTrue: 1},
		bpf.RetConstant{Val: headers},
		bpf.RetConstant{Val: 0},
	}
}

// openWitness begins to look at a device.
func openWitness(d device, gateway netip.Addr) (*witness, error) {
	filter, err := bpf.Assemble(segments(gateway))
	if err != nil {
		return nil, fmt.Errorf("assemble the filter for TCP: %w", err)
	}
	ifi := &net.Interface{Index: d.index(), Name: d.link.Attrs().Name, HardwareAddr: d.hw()}
	// All protocols: a device with a virtual MAC takes its packets from this one
	// before sockets for IP alone see them.
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open a socket that sees TCP: %w", err)
	}
	return &witness{conn: conn, index: d.index(), flows: map[flow]*progress{}}, nil
}

// saw tells whether connections made progress in the last moments.
func (w *witness) saw(now time.Time) bool {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return false
	}
	w.batch++
	moved := false
	b := make([]byte, 128)
	err = raw.Read(func(fd uintptr) bool {
		for {
			n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if err != nil {
				return true
			}
			moved = w.look(b[:n]) || moved
		}
	})
	if err == nil && moved {
		w.last = now
	}
	return !w.last.IsZero() && now.Sub(w.last) < credit
}

// look takes in one packet, from its IP header on, and tells whether it proves
// anything. New data does only after a batch in which the flow was seen: until it
// notices that nobody answers a server sends a window of them.
func (w *witness) look(b []byte) bool {
	s, ok := readSegment(b)
	if !ok {
		return false
	}
	p := w.flows[s.flow]
	if p == nil {
		if len(w.flows) >= mostFlows {
			clear(w.flows)
		}
		w.flows[s.flow] = &progress{batch: w.batch, data: s.end, acknowledged: s.ack}
		return false
	}
	if p.batch != w.batch {
		p.batch, p.before, p.known = w.batch, p.data, true
	}
	moved := later(s.ack, p.acknowledged) || p.known && later(s.end, p.before)
	if later(s.ack, p.acknowledged) {
		p.acknowledged = s.ack
	}
	if later(s.end, p.data) {
		p.data = s.end
	}
	return moved
}

// later compares numbers that wrap around.
func later(a, b uint32) bool { return int32(a-b) > 0 }

type segment struct {
	flow     flow
	end, ack uint32 // of its data, and of what it acknowledges
}

// readSegment reads the headers of a TCP segment in IPv4.
func readSegment(b []byte) (s segment, ok bool) {
	if len(b) < 20 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP {
		return s, false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || len(b) < header+20 {
		return s, false
	}
	t := b[header:]
	offset := int(t[12]>>4) * 4
	if offset < 20 || total < header+offset {
		return s, false
	}
	copy(s.flow[:8], b[12:20])
	copy(s.flow[8:], t[:4])
	s.end = binary.BigEndian.Uint32(t[4:]) + uint32(total-header-offset)
	s.ack = binary.BigEndian.Uint32(t[8:])
	return s, true
}

func (w *witness) close() { _ = w.conn.Close() }
