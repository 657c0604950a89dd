package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// maxIgnored bounds the addresses in a filter program: its jumps reach 255 steps.
const maxIgnored = 100

// filter is a program of the kernel for a listener's socket: no event of the
// changes that are made from a port, and none of the beginning and the changes
// of an IPv4 connection that begins or ends at one of these addresses. An end is
// always told. Each event comes in a datagram of its own.
func filter(port uint32, ignored []netip.Addr) ([]unix.SockFilter, error) {
	const accept, drop = -1, -2 // where a jump leads; 0: on
	type step struct {
		bpf.Instruction
		yes, no int
	}
	var steps []step
	load := func(offset, size int) {
		steps = append(steps, step{Instruction: bpf.LoadAbsolute{Off: uint32(offset), Size: size}})
	}
	is := func(value uint32, yes, no int) {
		steps = append(steps, step{bpf.JumpIf{Cond: bpf.JumpEqual, Val: value}, yes, no})
	}
	// The program compares in network byte order what stands there in the machine's.
	half := func(n uint16) uint32 { return uint32(binary.BigEndian.Uint16(native.AppendUint16(nil, n))) }
	if port != 0 {
		load(12, 4) // nlmsg_pid
		is(binary.BigEndian.Uint32(native.AppendUint32(nil, port)), drop, 0)
	}
	var addresses []uint32
	for _, a := range ignored {
		if a = a.Unmap(); a.Is4() && len(addresses) < maxIgnored {
			b := a.As4()
			addresses = append(addresses, binary.BigEndian.Uint32(b[:]))
		}
	}
	if len(addresses) > 0 {
		load(4, 2) // nlmsg_type: begun or changed
		is(half(ofFlow|msgNew), 0, accept)
		load(16, 1)
		is(unix.AF_INET, 0, accept)
		// As ctnetlink writes them: the nested attributes, and within them source
		// and destination. What is written otherwise is told.
		for _, attr := range []struct {
			at   int
			kind uint16
		}{{22, ctaTupleOrig | unix.NLA_F_NESTED}, {26, ctaTupleIP | unix.NLA_F_NESTED}, {30, ctaIPv4Src}, {38, ctaIPv4Dst}} {
			load(attr.at, 2)
			is(half(attr.kind), 0, accept)
		}
		for _, at := range []int{32, 40} {
			load(at, 4)
			for _, a := range addresses {
				is(a, drop, 0)
			}
		}
	}
	n := len(steps)
	skip := func(i, to int) uint8 {
		switch to {
		case accept:
			return uint8(n - i - 1)
		case drop:
			return uint8(n - i)
		}
		return 0
	}
	program := make([]bpf.Instruction, 0, n+2)
	for i, s := range steps {
		if jump, ok := s.Instruction.(bpf.JumpIf); ok {
			jump.SkipTrue, jump.SkipFalse = skip(i, s.yes), skip(i, s.no)
			s.Instruction = jump
		}
		program = append(program, s.Instruction)
	}
	raw, err := bpf.Assemble(append(program, bpf.RetConstant{Val: 1<<32 - 1}, bpf.RetConstant{Val: 0}))
	if err != nil {
		return nil, fmt.Errorf("assemble a filter of events: %w", err)
	}
	out := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		out[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return out, nil
}

// Ignore has the kernel not tell of the beginning and the changes of IPv4
// connections that begin or end at these addresses, of the first hundred, until
// the next call; their ends it tells. It may be called at any time, by any
// goroutine; after Close it does nothing.
func (l *Listener) Ignore(addresses []netip.Addr) error {
	program, err := filter(l.ignore, addresses)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	if err := unix.SetsockoptSockFprog(l.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return fmt.Errorf("ignore events of some addresses: %w", err)
	}
	return nil
}
