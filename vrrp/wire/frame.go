package wire

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Frame is an advert ready for somebody else to send.
type Frame struct {
	Device  string     `json:"device,omitempty"` // "" by the routing table
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	TTL     int        `json:"ttl"`
	Payload []byte     `json:"payload"` // without IP header
}

// Frames returns the packets that would tell this priority on every path that
// leads somewhere now. They are out of date once an address changes.
func (t *Transport) Frames(priority uint8) ([]Frame, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Frame
	for _, p := range t.packets(priority, t.cfg.Interval) {
		out = append(out, Frame{
			Device: p.path.device, Src: p.path.src, Dst: p.path.dst, TTL: ttl, Payload: p.payload(),
		})
	}
	return out, nil
}

// FrameSender sends frames over sockets that were opened beforehand: whoever
// fences must not have to ask for anything first.
type FrameSender struct {
	fd4 int
	fd6 int // -1 where the kernel has no IPv6
}

// NewFrameSender opens the sockets; it needs CAP_NET_RAW.
func NewFrameSender() (*FrameSender, error) {
	fd4, err := openRaw4()
	if err != nil {
		return nil, fmt.Errorf("prepare to send farewells: %w", err)
	}
	fd6, err := openRaw6()
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		_ = unix.Close(fd4)
		return nil, fmt.Errorf("prepare to send farewells: %w", err)
	}
	return &FrameSender{fd4: fd4, fd6: fd6}, nil
}

// Send sends each frame and waits for none; one that cannot be sent does not
// hold up the others and is told in the error.
func (s *FrameSender) Send(frames []Frame) error {
	var failed error
	for _, f := range frames {
		if err := s.send(f); err != nil {
			failed = errors.Join(failed, fmt.Errorf("send an advert to %v: %w", f.Dst, err))
		}
	}
	return failed
}

func (s *FrameSender) send(f Frame) error {
	fd := s.fd4
	switch {
	case !f.Src.IsValid() || f.Src.BitLen() != f.Dst.BitLen():
		return fmt.Errorf("from %v: not of one family", f.Src)
	case f.Src.Is6() && s.fd6 < 0:
		return errors.New("this kernel has no IPv6")
	case f.Src.Is6():
		fd = s.fd6
	}
	index := 0
	if f.Device != "" {
		var err error
		if index, err = deviceIndex(s.fd4, f.Device); err != nil {
			return err
		}
	}
	return newPacket(nil, index, f.Src, f.Dst, f.TTL, f.Payload).send(fd)
}

// Close closes the sockets.
func (s *FrameSender) Close() error {
	err := unix.Close(s.fd4)
	if s.fd6 >= 0 {
		err = errors.Join(err, unix.Close(s.fd6))
	}
	return err
}

// SendFrames sends frames over a socket of the moment.
func SendFrames(frames []Frame) error {
	s, err := NewFrameSender()
	if err != nil {
		return err
	}
	return errors.Join(s.Send(frames), s.Close())
}
