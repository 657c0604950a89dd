package netlab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Packet is a frame that was seen on a port.
type Packet struct {
	At    Instant
	Out   bool // it came from the port's node; else it went there
	Frame []byte
}

// Capture records frames at the switch's end of a port, with the kernel's
// time stamps. Frames that the node sends are seen also when they are dropped
// afterwards (Drop, Blackhole); frames towards it only when they get there.
type Capture struct {
	port *Port
	keep func(Packet) bool
	file *os.File
	fd   int
	done chan struct{}

	raw syscall.RawConn

	mu      sync.Mutex
	buf     [64 << 10]byte
	oob     [128]byte
	packets []Packet
}

// Capture begins to record. Without a function it keeps ARP and VRRP, chosen
// in the kernel; with one it is shown every frame and keeps those for which it
// returns true (the frame is only valid during the call).
func (p *Port) Capture(keep func(Packet) bool) (*Capture, error) {
	c := &Capture{port: p, keep: keep, done: make(chan struct{})}
	fail := func(err error) (*Capture, error) {
		return nil, fmt.Errorf("capture on %s: %w", p, err)
	}
	if err := p.Node.site.sw.in(func() error { return c.open() }); err != nil {
		return fail(err)
	}
	if err := c.bind(); err != nil {
		return fail(errors.Join(err, c.file.Close()))
	}
	s := p.Node.site
	s.mu.Lock()
	s.captures = append(s.captures, c)
	s.mu.Unlock()
	go c.run()
	return c, nil
}

func (c *Capture) open() (err error) {
	// Protocol 0: nothing is heard before bind.
	c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if c.keep == nil {
		program := unix.SockFprog{Len: uint16(len(controlOnly)), Filter: &controlOnly[0]}
		err = unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}
	err = errors.Join(err, unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	c.file = os.NewFile(uintptr(c.fd), "capture on "+c.port.String())
	if err == nil {
		c.raw, err = c.file.SyscallConn()
	}
	return err
}

// bind ties the socket to the port's device, at first and when a node that was
// switched off has a new one.
func (c *Capture) bind() error {
	return c.port.Node.site.sw.in(func() error {
		link, err := c.port.Node.site.links.LinkByName(c.port.peer)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: link.Attrs().Index})
	})
}

// Close ends the recording; what was recorded stays readable.
func (c *Capture) Close() {
	s := c.port.Node.site
	s.mu.Lock()
	s.captures = slices.DeleteFunc(slices.Clone(s.captures), func(o *Capture) bool { return o == c })
	s.mu.Unlock()
	c.catchUp()
	_ = c.file.Close() // wakes the reader; a second time is no harm
	<-c.done
}

func (c *Capture) run() {
	defer close(c.done)
	// The callback wants more until the file is closed, which ends Read.
	_ = c.raw.Read(func(fd uintptr) bool { c.drain(int(fd)); return false })
}

// catchUp takes what the kernel has already heard.
func (c *Capture) catchUp() {
	_ = c.raw.Control(func(fd uintptr) { c.drain(int(fd)) }) // closed: there is nothing more
}

func (c *Capture) drain(fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		p, err := receivePacket(fd, c.buf[:], c.oob[:])
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue // ENETDOWN, told once: the node lost its power; bind will come
		}
		if err != nil {
			return // EAGAIN: no more for now
		}
		if c.keep != nil && !c.keep(p) {
			continue
		}
		p.Frame = slices.Clone(p.Frame)
		c.packets = append(c.packets, p)
	}
}

func receivePacket(fd int, buf, oob []byte) (Packet, error) {
	n, oobn, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
	if err != nil {
		return Packet{}, err
	}
	p := Packet{At: Now(), Frame: buf[:n]}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		p.Out = ll.Pkttype != unix.PACKET_OUTGOING // seen from the switch it came in
	}
	if stamp, ok := packetStamp(oob[:oobn]); ok {
		// The stamp is of the wall clock; both clocks are read here, so its
		// steps between packets do no harm.
		p.At = p.At.Add(-clock(unix.CLOCK_REALTIME).Sub(stamp))
	}
	return p, nil
}

func packetStamp(oob []byte) (Instant, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return Instant(nativeInt64(m.Data)*1e9 + nativeInt64(m.Data[8:])), true
		}
	}
	return 0, false
}

// Packets are all frames so far, in the order of their time stamps.
func (c *Capture) Packets() []Packet {
	c.catchUp()
	c.mu.Lock()
	packets := slices.Clone(c.packets)
	c.mu.Unlock()
	slices.SortStableFunc(packets, func(a, b Packet) int { return int(a.At - b.At) })
	return packets
}

// controlOnly is a filter program of the kernel: ARP, or IPv4 or IPv6 with
// protocol 112.
var controlOnly = []unix.SockFilter{
	{Code: 0x28, K: 12},                         // 0 load EtherType
	{Code: 0x15, Jt: 6, Jf: 0, K: 0x0806},       // 1 ARP: 8
	{Code: 0x15, Jt: 0, Jf: 2, K: 0x0800},       // 2 not IPv4: 5
	{Code: 0x30, K: 23},                         // 3 load protocol
	{Code: 0x15, Jt: 3, Jf: 4, K: 112},          // 4 VRRP: 8, else 9
	{Code: 0x15, Jt: 0, Jf: 3, K: 0x86dd},       // 5 not IPv6: 9
	{Code: 0x30, K: 20},                         // 6 load next header
	{Code: 0x15, Jt: 0, Jf: 1, K: 112},          // 7 VRRP: 8, else 9
	{Code: 0x06, K: 0xffff}, {Code: 0x06, K: 0}, // 8 keep, 9 leave
}
