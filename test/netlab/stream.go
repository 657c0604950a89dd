package netlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// stream is one established TCP flow of a client.
type stream struct {
	group  TCPFlows
	number uint32
	conn   *net.TCPConn
	tick   chan struct{} // a message is due
	quit   chan struct{}
	wrote  sync.WaitGroup
	read   chan struct{} // closed when the reader has ended

	mu  sync.Mutex
	rec Stream
}

// The first byte a client sends says what the connection is for.
const (
	askEcho, askSink, askSource = 'e', 's', 'd'
)

// bulkRequest is what follows the first byte of a flow in bulk: the flow's
// number, which makes its bytes, and in what pieces and how often they are sent
// (nanoseconds; 0 as fast as it goes).
//
//	0 flow  4 size of a piece  8 interval
const bulkRequestSize = 16

func bulkRequest(flow uint32, g TCPFlows) []byte {
	b := binary.BigEndian.AppendUint32(nil, flow)
	b = binary.BigEndian.AppendUint32(b, uint32(g.Size))
	return binary.BigEndian.AppendUint64(b, uint64(g.Interval))
}

// sendBulk writes a flow's bytes until quit is closed or they cannot be written;
// sent is told how many more were.
func sendBulk(w io.Writer, flow uint32, size int, every time.Duration, quit <-chan struct{}, sent func(n int)) error {
	bytes := pattern{flow: flow}
	b := make([]byte, size)
	var tick <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	} else {
		always := make(chan time.Time)
		close(always)
		tick = always
	}
	for {
		select {
		case <-quit:
			return nil
		case <-tick:
		}
		select {
		case <-quit:
			return nil
		default:
		}
		bytes.fill(b)
		n, err := w.Write(b)
		sent(n)
		if err != nil {
			return err
		}
	}
}

// sinkVerdict is what a server says of an upload at its end: how many bytes it
// had, and whether all were in their place.
//
//	0 bytes  8 1 if all were right
const sinkVerdictSize = 9

// greetingSize is the length of a server's first words: the source it sees,
// as text, filled up with blanks to a line.
const greetingSize = 64

func greeting(seen netip.AddrPort) []byte {
	return fmt.Appendf(nil, "%-*s\n", greetingSize-1, seen)
}

func readGreeting(conn net.Conn) (netip.AddrPort, error) {
	b := make([]byte, greetingSize)
	if _, err := io.ReadFull(conn, b); err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(string(bytes.TrimSpace(b)))
}

func dialStream(number uint32, g TCPFlows) (*stream, error) {
	if g.Size == 0 {
		g.Size = 64
		if g.Mode != Echo {
			g.Size = patternBlock
		}
	}
	g.Size = max(g.Size, 16)
	s := &stream{group: g, number: number, tick: make(chan struct{}, 256), quit: make(chan struct{}), read: make(chan struct{})}
	d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: -1} // an idle flow is to be idle
	conn, err := d.Dial("tcp", g.Server.String())
	if err != nil {
		return nil, fmt.Errorf("open tcp flow %d: %w", number, err)
	}
	s.conn = conn.(*net.TCPConn)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	seen, err := readGreeting(conn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open tcp flow %d: %w", number, err), conn.Close())
	}
	_ = conn.SetReadDeadline(time.Time{})
	local, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	s.rec = Stream{Flow: Flow{Name: fmt.Sprintf("tcp%d", number), Target: g.Server, Interval: g.Interval,
		Seen: []Sighting{{At: Now(), From: seen}}}, Local: local, Mode: g.Mode}
	return s, nil
}

func (s *stream) start() {
	ask := map[Mode]byte{Echo: askEcho, Upload: askSink, Download: askSource}[s.group.Mode]
	s.wrote.Add(1)
	go func() {
		defer s.wrote.Done()
		request := []byte{ask}
		if s.group.Mode != Echo {
			request = append(request, bulkRequest(s.number, s.group)...)
		}
		if _, err := s.conn.Write(request); err != nil {
			s.fail(err)
			return
		}
		switch s.group.Mode {
		case Echo:
			s.writeMessages()
		case Upload:
			s.writeBulk()
		}
	}()
	go func() {
		defer close(s.read)
		switch s.group.Mode {
		case Echo:
			s.readMessages()
		case Upload:
			s.readVerdict()
		case Download:
			s.readBulk()
		}
	}()
}

// fail notes the first error: from then on the flow is dead.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rec.Err == "" {
		s.rec.Err, s.rec.ErrAt = err.Error(), Now()
	}
}

// failUnlessQuit is fail for what stop itself causes.
func (s *stream) failUnlessQuit(err error) {
	select {
	case <-s.quit:
	default:
		s.fail(err)
	}
}

func (s *stream) writeMessages() {
	b := make([]byte, s.group.Size)
	for {
		select {
		case <-s.quit:
			return
		case <-s.tick:
		}
		s.mu.Lock()
		fillMessage(b, s.number, uint64(len(s.rec.Sent)))
		s.rec.Sent = append(s.rec.Sent, Now())
		s.rec.Echo = append(s.rec.Echo, 0)
		s.mu.Unlock()
		n, err := s.conn.Write(b)
		s.mu.Lock()
		s.rec.BytesSent += int64(n)
		s.mu.Unlock()
		if err != nil {
			s.failUnlessQuit(err)
			return
		}
	}
}

func (s *stream) readMessages() {
	got, want := make([]byte, s.group.Size), make([]byte, s.group.Size)
	for next := uint64(0); ; next++ {
		n, err := io.ReadFull(s.conn, got)
		s.mu.Lock()
		s.rec.BytesBack += int64(n)
		if err == nil && next < uint64(len(s.rec.Echo)) {
			s.rec.Echo[next] = Now()
		}
		s.mu.Unlock()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			s.fail(err)
			return
		}
		if fillMessage(want, s.number, next); !bytes.Equal(got, want) {
			s.fail(fmt.Errorf("message %d came back changed", next))
			s.conn.Close()
			return
		}
	}
}

func (s *stream) writeBulk() {
	err := sendBulk(s.conn, s.number, s.group.Size, s.group.Interval, s.quit, func(n int) { s.progress(n, &s.rec.BytesSent) })
	if err != nil {
		s.failUnlessQuit(err)
	}
}

func (s *stream) readBulk() {
	want := pattern{flow: s.number}
	b := make([]byte, 64<<10)
	for {
		n, err := s.conn.Read(b)
		s.progress(n, &s.rec.BytesBack)
		if !want.accept(b[:n]) {
			s.fail(fmt.Errorf("a byte among the %d before %d came changed", n, want.at))
			s.conn.Close()
			return
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// readVerdict reads what the server has had, told at the end.
func (s *stream) readVerdict() {
	var b [sinkVerdictSize]byte
	if _, err := io.ReadFull(s.conn, b[:]); err != nil {
		s.fail(err)
		return
	}
	if b[8] != 1 {
		s.fail(errors.New("a byte came to the server changed"))
	}
	s.mu.Lock()
	s.rec.BytesBack = int64(binary.BigEndian.Uint64(b[:]))
	s.mu.Unlock()
}

// progress adds to a counter and notes it ten times a second.
func (s *stream) progress(n int, counter *int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*counter += int64(n)
	now := Now()
	if k := len(s.rec.Progress); k == 0 || now.Sub(s.rec.Progress[k-1].At) >= 100*time.Millisecond {
		s.rec.Progress = append(s.rec.Progress, Sample{At: now, Bytes: *counter})
	}
}

// stop closes the flow in good order and waits for every byte that is still
// under way, at most until the deadline.
func (s *stream) stop(deadline time.Time) Stream {
	close(s.quit)
	if s.group.Mode == Upload {
		_ = s.conn.SetWriteDeadline(time.Now()) // a full pipe holds the writer
	}
	_ = s.conn.SetReadDeadline(deadline)
	wrote := make(chan struct{})
	go func() { s.wrote.Wait(); close(wrote) }()
	select {
	case <-wrote:
		_ = s.conn.CloseWrite()
	case <-time.After(time.Until(deadline)):
	}
	<-s.read
	s.conn.Close()
	<-wrote
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rec.Clean = s.rec.Err == "" && (s.group.Mode == Download || s.rec.BytesSent == s.rec.BytesBack)
	return s.rec
}
