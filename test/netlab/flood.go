package netlab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Flood is many TCP connections that are opened through the routers and left
// open. No socket holds them: both ends make the packets of the handshake, so
// that only the routers know of them. They carry no data.
type Flood struct {
	From, To string     // nodes: the client's, which must have one IPv4 address, and the server's
	Target   netip.Addr // of the server
	// First and Flows say which: flow n has the client's port FloodClientPort
	// + n mod FloodClientPorts, and the next server's port after each round. Two
	// floods are to have different ones.
	First, Flows int
	Rate         int // new ones per second; 0: 30,000
}

// Flooded is what became of it.
type Flooded struct {
	Answered int           // whose handshake was complete
	Again    int           // first packets that had to be sent again
	Took     time.Duration // until the last was sent; a lab that is too slow takes longer
}

// The ports of a flood.
const (
	FloodClientPort  = 2000
	FloodClientPorts = 60000
	FloodPort        = 9100
	FloodPorts       = 8
)

func init() {
	roles["flood"] = flood
	roles["reflector"] = reflector
}

// Flood opens the connections and returns when all are open, or those that were
// not after three tries are given up.
func (s *Site) Flood(f Flood) (Flooded, error) {
	if f.Rate == 0 {
		f.Rate = 30000
	}
	done, err := s.flood(f)
	if err != nil {
		return done, fmt.Errorf("open %d connections from %s: %w", f.Flows, f.From, err)
	}
	return done, nil
}

func (s *Site) flood(f Flood) (done Flooded, err error) {
	client, server := s.Node(f.From), s.Node(f.To)
	if f.First < 0 || f.Flows < 1 || f.First+f.Flows > FloodClientPorts*FloodPorts {
		return done, fmt.Errorf("flows %d to %d: there are %d", f.First, f.First+f.Flows, FloodClientPorts*FloodPorts)
	}
	// The kernels of the two know no such connections, and would reset them.
	const quiet = `table ip netlab_flood
delete table ip netlab_flood
table ip netlab_flood { chain in { type filter hook prerouting priority raw; tcp %s %d-%d drop; }; }
`
	err = errors.Join(client.NFT(fmt.Sprintf(quiet, "sport", FloodPort, FloodPort+FloodPorts-1)),
		server.NFT(fmt.Sprintf(quiet, "dport", FloodPort, FloodPort+FloodPorts-1)))
	if err != nil {
		return done, err
	}
	own, err := client.firstAddress()
	if err != nil {
		return done, err
	}
	mirror, err := server.StartRole("reflector", "reflector")
	if err != nil {
		return done, err
	}
	defer func() { mirror.kill(); <-mirror.done }()
	ready := func() bool { _, err := os.Stat(filepath.Join(server.Dir(), "reflector.ready")); return err == nil }
	if err := WaitFor("the reflector", 5*time.Second, ready); err != nil {
		return done, err
	}
	defer os.Remove(filepath.Join(server.Dir(), "reflector.ready"))
	out := filepath.Join(client.Dir(), "flooded")
	p, err := client.StartRole("flood", "flood", out, own.String(), f.Target.String(), strconv.Itoa(f.First), strconv.Itoa(f.Flows), strconv.Itoa(f.Rate))
	if err != nil {
		return done, err
	}
	if code, err := p.Wait(time.Minute); err != nil || code != 0 {
		text, _ := os.ReadFile(p.Log)
		return done, errors.Join(err, fmt.Errorf("it ended with %d: %.300s", code, text))
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return done, err
	}
	return done, json.Unmarshal(text, &done)
}

// firstAddress is the first IPv4 address of the first port that has one.
func (n *Node) firstAddress() (netip.Addr, error) {
	all, err := n.Addresses()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, p := range n.Ports() {
		for _, a := range all[p.Device] {
			if a.Addr().Is4() {
				return a.Addr(), nil
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no IPv4 address", n.Name)
}

const (
	tcpSYN, tcpACK = 0x02, 0x10
	// floodISN is where the numbering of both directions begins.
	floodISN = 1000
)

// floodFilter lets incoming TCP packets through that have a port of floods at
// that offset of the frame: 34 the source's, 36 the destination's.
func floodFilter(offset uint32) []unix.SockFilter {
	return []unix.SockFilter{
		{Code: 0x28, K: 12},                                       // load EtherType
		{Code: 0x15, Jt: 0, Jf: 6, K: 0x0800},                     // not IPv4: drop
		{Code: 0x30, K: 23},                                       // load protocol
		{Code: 0x15, Jt: 0, Jf: 4, K: 6},                          // not TCP: drop
		{Code: 0x28, K: offset},                                   // load the port
		{Code: 0x35, Jt: 0, Jf: 2, K: FloodPort},                  // less: drop
		{Code: 0x25, Jt: 1, Jf: 0, K: FloodPort + FloodPorts - 1}, // greater: drop
		{Code: 0x06, K: 0xffff}, {Code: 0x06, K: 0},
	}
}

// listenRaw hears such frames on all devices.
func listenRaw(offset uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	filter := floodFilter(offset)
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	all := uint16(unix.ETH_P_IP)
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8}),
	)
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// reflector answers each first packet with the second.
func reflector(ctx context.Context, _ []string) error {
	runtime.LockOSThread()
	fd, err := listenRaw(36)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := os.WriteFile("reflector.ready", nil, 0o644); err != nil {
		return err
	}
	var b [256]byte
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(fd, b[:], 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		device, ok := from.(*unix.SockaddrLinklayer)
		if !ok || device.Pkttype == unix.PACKET_OUTGOING || n < 54 || b[14] != 0x45 || b[47] != tcpSYN {
			continue
		}
		f := b[:54]
		var swap [6]byte
		copy(swap[:], f[0:6])
		copy(f[0:6], f[6:12])
		copy(f[6:12], swap[:])
		copy(swap[:4], f[26:30])
		copy(f[26:30], f[30:34])
		copy(f[30:34], swap[:4])
		copy(swap[:2], f[34:36])
		copy(f[34:36], f[36:38])
		copy(f[36:38], swap[:2])
		acknowledge := binary.BigEndian.Uint32(f[38:]) + 1
		f[22] = 64
		binary.BigEndian.PutUint16(f[16:], 40)
		tcpHead(f[34:54], floodISN, acknowledge, tcpSYN|tcpACK)
		sums(f[14:])
		to := &unix.SockaddrLinklayer{Ifindex: device.Ifindex, Halen: 6}
		if err := unix.Sendto(fd, f, 0, to); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}

// tcpHead fills in a TCP header without options; its ports stay.
func tcpHead(h []byte, sequence, acknowledge uint32, flags byte) {
	binary.BigEndian.PutUint32(h[4:], sequence)
	binary.BigEndian.PutUint32(h[8:], acknowledge)
	h[12], h[13] = 5<<4, flags
	binary.BigEndian.PutUint16(h[14:], 65000)
	binary.BigEndian.PutUint32(h[16:], 0) // checksum, urgent pointer
}

// sums fills in the checksums of an IPv4 packet with TCP.
func sums(p []byte) {
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^fold(add(0, p[:20])))
	p[36], p[37] = 0, 0
	sum := add(uint32(6+len(p)-20), p[12:20])
	binary.BigEndian.PutUint16(p[36:], ^fold(add(sum, p[20:])))
}

func add(sum uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// flooder is the client's end.
type flooder struct {
	own, target netip.Addr
	first       int
	send        int // socket

	mu       sync.Mutex
	open     []bool
	answered int
}

func flood(ctx context.Context, args []string) error {
	if len(args) != 6 {
		return errors.New("want a file, two addresses and three numbers")
	}
	var number [3]int
	for i, text := range args[3:] {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		number[i] = n
	}
	f := &flooder{own: netip.MustParseAddr(args[1]), target: netip.MustParseAddr(args[2]), first: number[0], open: make([]bool, number[1])}
	rate := number[2]
	var err error
	if f.send, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return err
	}
	hear, err := listenRaw(34)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- f.answer(ctx, hear) }()

	runtime.LockOSThread()
	var result Flooded
	begin := time.Now()
	var packet [40]byte
	for try := range 3 {
		sent, start := 0, time.Now()
		for n := range f.open {
			if try > 0 && f.isOpen(n) {
				continue
			}
			for due := sent * int(time.Second) / rate; int(time.Since(start)) < due; {
				time.Sleep(time.Millisecond)
			}
			if err := f.write(packet[:], n, floodISN, 0, tcpSYN); err != nil {
				return err
			}
			sent++
		}
		if try == 0 {
			result.Took = time.Since(begin)
		} else {
			result.Again += sent
		}
		for until := time.Now().Add(400 * time.Millisecond); f.count() < len(f.open) && time.Now().Before(until); {
			time.Sleep(5 * time.Millisecond)
		}
		if f.count() == len(f.open) {
			break
		}
	}
	stop()
	err = <-ended
	result.Answered = f.count()
	text, e := json.Marshal(result)
	return errors.Join(err, e, os.WriteFile(args[0], text, 0o644))
}

func (f *flooder) isOpen(n int) bool { f.mu.Lock(); defer f.mu.Unlock(); return f.open[n] }
func (f *flooder) count() int        { f.mu.Lock(); defer f.mu.Unlock(); return f.answered }

// write sends one packet of a flow.
func (f *flooder) write(p []byte, n int, sequence, acknowledge uint32, flags byte) error {
	n += f.first
	clear(p)
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_TCP
	own, target := f.own.As4(), f.target.As4()
	copy(p[12:], own[:])
	copy(p[16:], target[:])
	binary.BigEndian.PutUint16(p[2:], 40)
	binary.BigEndian.PutUint16(p[20:], uint16(FloodClientPort+n%FloodClientPorts))
	binary.BigEndian.PutUint16(p[22:], uint16(FloodPort+n/FloodClientPorts))
	tcpHead(p[20:], sequence, acknowledge, flags)
	sums(p)
	for {
		err := unix.Sendto(f.send, p, 0, &unix.SockaddrInet4{Addr: target})
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// answer sends the third packet of each handshake after the second.
func (f *flooder) answer(ctx context.Context, fd int) error {
	runtime.LockOSThread()
	defer unix.Close(fd)
	var b [256]byte
	var packet [40]byte
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(fd, b[:], 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if d, ok := from.(*unix.SockaddrLinklayer); !ok || d.Pkttype == unix.PACKET_OUTGOING || n < 54 || b[47] != tcpSYN|tcpACK {
			continue
		}
		flow := int(binary.BigEndian.Uint16(b[34:])-FloodPort)*FloodClientPorts + int(binary.BigEndian.Uint16(b[36:])) - FloodClientPort - f.first
		if flow < 0 || flow >= len(f.open) {
			continue
		}
		if err := f.write(packet[:], flow, floodISN+1, floodISN+1, tcpACK); err != nil {
			return err
		}
		f.mu.Lock()
		if !f.open[flow] {
			f.open[flow] = true
			f.answered++
		}
		f.mu.Unlock()
	}
	return nil
}

// FloodFlows lists the flows of floods in a router's connection table.
func (n *Node) FloodFlows() ([]Connection, error) {
	all, err := n.Connections(0, 0)
	if err != nil {
		return nil, err
	}
	found := all[:0]
	for _, c := range all {
		if p := c.Dst.Port(); c.Protocol == unix.IPPROTO_TCP && p >= FloodPort && p < FloodPort+FloodPorts {
			found = append(found, c)
		}
	}
	return found, nil
}
