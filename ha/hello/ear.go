package hello

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
)

// protocol is the EtherType of our frames: IEEE 802 local experimental.
const protocol = 0x88b5

// ear is a packet socket on one device, for one protocol. A goroutine reads it
// until it is closed or the device is lost.
type ear struct {
	conn  *packet.Conn
	index int
	mac   net.HardwareAddr
	stop  chan struct{}
	done  chan struct{} // closed when the reader has ended
}

// packetIn is what came on a device.
type packetIn struct {
	device string
	host   bool // an answer of one that was asked, not a frame of ours
	bytes  []byte
}

// openEar listens on a device. Frames that this machine sends are not heard: a
// socket for one protocol does not see them.
func openEar(ifi *net.Interface, proto int, filter []bpf.Instruction, heard chan<- packetIn) (*ear, error) {
	cfg := &packet.Config{}
	if filter != nil {
		raw, err := bpf.Assemble(filter)
		if err != nil {
			return nil, fmt.Errorf("assemble a filter: %w", err)
		}
		cfg.Filter = raw
	}
	conn, err := packet.Listen(ifi, packet.Datagram, proto, cfg)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", ifi.Name, err)
	}
	e := &ear{conn: conn, index: ifi.Index, mac: slices.Clone(ifi.HardwareAddr), stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		b := make([]byte, 2048)
		for {
			n, _, err := conn.ReadFrom(b)
			if err != nil {
				return // closed, or ENETDOWN: whoever looks next opens anew
			}
			select {
			case heard <- packetIn{ifi.Name, proto != protocol, bytes.Clone(b[:n])}:
			case <-e.stop:
				return
			}
		}
	}()
	return e, nil
}

// broadcast sends to all on the wire. It does not wait for a device that takes
// nothing.
func (e *ear) broadcast(b []byte) error { return e.send(b, ethernet.Broadcast) }

func (e *ear) send(b []byte, to net.HardwareAddr) error {
	_ = e.conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
	_, err := e.conn.WriteTo(b, &packet.Addr{HardwareAddr: to})
	return err
}

// good tells whether the socket still hears this device.
func (e *ear) good(ifi *net.Interface) bool {
	select {
	case <-e.done:
		return false
	default:
		return e.index == ifi.Index && bytes.Equal(e.mac, ifi.HardwareAddr)
	}
}

// close closes the socket and waits for its reader.
func (e *ear) close() {
	close(e.stop)
	_ = e.conn.Close() // nothing was written that could get lost
	<-e.done
}
