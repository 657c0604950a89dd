package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ping sends one echo request from source to target with the mark set and
// waits for the answer until ctx ends. answered is called with the round trip
// the moment the answer is there. An error says why there can be no answer; it
// is nil when there was one and when ctx ended first.
func ping(ctx context.Context, source, target netip.Addr, mark uint32, answered func(time.Duration)) error {
	rtt, err := exchange(ctx, source, target, mark)
	switch {
	case err == nil:
		answered(rtt)
		return nil
	case ctx.Err() != nil:
		return nil
	}
	return fmt.Errorf("%v from %v: %w", target, source, err)
}

func exchange(ctx context.Context, source, target netip.Addr, mark uint32) (time.Duration, error) {
	to, err := sockaddr(target)
	if err != nil {
		return 0, err
	}
	e := newEcho(target.Is6())
	fd, err := openICMP(e, source, mark)
	if err != nil {
		return 0, err
	}
	conn := os.NewFile(uintptr(fd), "icmp") // not blocking: it waits without a thread
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	began := time.Now()
	if err := unix.Sendto(fd, e.request(), unix.MSG_DONTWAIT, to); err != nil {
		return 0, err
	}
	for b := make([]byte, 128); ; {
		n, err := conn.Read(b)
		if err != nil {
			return 0, err
		}
		if e.answeredBy(b[:n]) {
			return time.Since(began), nil
		}
	}
}

// openICMP opens a socket that hears the reply to e and next to nothing else,
// and whose packets can leave by one uplink only (as dialer says).
func openICMP(e echo, source netip.Addr, mark uint32) (int, error) {
	if source.Is6() != e.v6 {
		return 0, unix.EAFNOSUPPORT // the kernel does not look at it
	}
	from, err := sockaddr(source)
	if err != nil {
		return 0, err
	}
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if e.v6 {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return 0, err
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, onlyReply(e))
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	}
	if err == nil {
		err = unix.Bind(fd, from)
	}
	if err != nil {
		_ = unix.Close(fd) // nothing was sent
		return 0, err
	}
	return fd, nil
}

// onlyReply keeps out what other pings of this machine are answered: each of
// its ICMP sockets would wake up for each.
func onlyReply(e echo) *unix.SockFprog {
	reply, head := uint32(echoReply6), bpf.Instruction(bpf.LoadConstant{Dst: bpf.RegX})
	if !e.v6 { // where the IP header comes first
		reply, head = echoReply4, bpf.LoadMemShift{}
	}
	program := []bpf.Instruction{
		head,
		bpf.LoadIndirect{Off: 0, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: reply, SkipTrue: 3},
		bpf.LoadIndirect{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(e.id), SkipTrue: 1},
		bpf.RetConstant{Val: 128},
		bpf.RetConstant{},
	}
	filter := make([]unix.SockFilter, len(program))
	for i, in := range program {
		raw, err := in.Assemble()
		if err != nil {
			panic(err) // the program is a constant but for two numbers
		}
		filter[i] = unix.SockFilter{Code: raw.Op, Jt: raw.Jt, Jf: raw.Jf, K: raw.K}
	}
	return &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
}

func sockaddr(a netip.Addr) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}, nil
	}
	s := &unix.SockaddrInet6{Addr: a.As16()}
	if zone := a.Zone(); zone != "" {
		ifi, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", zone, err)
		}
		s.ZoneId = uint32(ifi.Index)
	}
	return s, nil
}
