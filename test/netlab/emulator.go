package netlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Emulator makes a port's cable a line with delay, jitter, loss and a rate. It
// stands between the switch's end of the cable and the switch: frames pass
// through two TAP devices and this process, on a thread of its own. Good for
// some 20,000 frames/s; frames wait about 0.1 ms longer than asked for.
type Emulator struct {
	port   *Port
	bridge string // the little bridge that the cable's end is on
	taps   [2]string
	fds    [2]int // 0: the node's side, 1: the switch's
	wake   int
	done   chan struct{}

	mu      sync.Mutex
	closing bool
	lanes   [2]lane // by where frames come from: 0 = out of the node
	stats   [2]LineStats
}

// LineStats counts the frames of one direction.
type LineStats struct {
	Frames, Bytes uint64 // let through
	Lost          uint64 // by Loss
	Overflowed    uint64 // the queue was full
}

const frameSize = 2048 // an Ethernet frame of MTU 1500 and to spare

var frames = sync.Pool{New: func() any { b := make([]byte, frameSize); return &b }}

// Emulate puts an emulator on the port, or changes the one that is there. out
// is what happens to frames from the node, in to those towards it. The switch
// is away for a few milliseconds when it is put in, so do that before traffic
// that counts: Emulate(Line{}, Line{}).
func (p *Port) Emulate(out, in Line) (*Emulator, error) {
	s := p.Node.site
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.emulator != nil {
		p.emulator.Set(out, in)
		return p.emulator, nil
	}
	s.taps++
	e := &Emulator{port: p, bridge: fmt.Sprintf("em%d", s.taps), done: make(chan struct{}),
		taps: [2]string{fmt.Sprintf("em%da", s.taps), fmt.Sprintf("em%db", s.taps)}}
	for i := range e.lanes {
		// The same losses in the same order at every run.
		e.lanes[i].rng = rand.New(rand.NewPCG(uint64(s.taps), uint64(i)))
	}
	e.Set(out, in)
	if err := e.insert(s); err != nil {
		e.closeAll()
		return nil, fmt.Errorf("emulate the line of %s: %w", p, err)
	}
	p.emulator = e
	s.emulators = append(s.emulators, e)
	go e.run()
	return e, nil
}

func (e *Emulator) insert(s *Site) (err error) {
	if e.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return err
	}
	for i, tap := range e.taps {
		if err := s.sw.in(func() (err error) { e.fds[i], err = openTap(tap); return err }); err != nil {
			return err
		}
	}
	return s.sw.IP(
		fmt.Sprintf("link add %s type bridge stp_state 0 forward_delay 0 mcast_snooping 0", e.bridge),
		fmt.Sprintf("link set %s txqueuelen 4000 master %s up", e.taps[0], e.bridge),
		fmt.Sprintf("link set %s txqueuelen 4000 master %s up", e.taps[1], e.port.segment.bridge),
		fmt.Sprintf("link set %s master %s", e.port.peer, e.bridge),
		fmt.Sprintf("link set %s up", e.bridge))
}

// Set changes the line at once; frames that are under way keep their time.
func (e *Emulator) Set(out, in Line) {
	now := Now()
	e.mu.Lock()
	e.lanes[0].set(out, now)
	e.lanes[1].set(in, now)
	e.mu.Unlock()
}

// Stats counts what passed since the emulator was put in.
func (e *Emulator) Stats() (out, in LineStats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats[0], e.stats[1]
}

// Remove makes the cable a plain one again; what is under way is lost.
func (e *Emulator) Remove() error {
	s := e.port.Node.site
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.emulators, e)
	if i < 0 {
		return nil
	}
	s.emulators = slices.Delete(slices.Clone(s.emulators), i, i+1)
	e.port.emulator = nil
	var err error
	if e.port.Node.on() {
		err = s.sw.IP(fmt.Sprintf("link set %s master %s", e.port.peer, e.port.segment.bridge))
	}
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(e.wake, one)
	<-e.done
	e.closeAll()
	return errors.Join(err, s.sw.IP("link del "+e.bridge))
}

// closeAll closes what is open; the TAP devices go with their descriptors.
func (e *Emulator) closeAll() {
	for _, fd := range []int{e.fds[0], e.fds[1], e.wake} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}

func (e *Emulator) run() {
	defer close(e.done)
	runtime.LockOSThread() // never unlocked: see Watch
	realtime(5)
	polls := []unix.PollFd{{Fd: int32(e.fds[0]), Events: unix.POLLIN}, {Fd: int32(e.fds[1]), Events: unix.POLLIN},
		{Fd: int32(e.wake), Events: unix.POLLIN}}
	for {
		wait, ok := e.turn()
		if !ok {
			return
		}
		_, _ = unix.Ppoll(polls, wait, nil)
	}
}

// turn moves every frame that is there or due and says how long to sleep; nil
// is until the next frame comes.
func (e *Emulator) turn() (*unix.Timespec, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return nil, false
	}
	for from := range e.lanes {
		e.read(from)
	}
	var next Instant
	for from := range e.lanes {
		l := &e.lanes[from]
		for now := Now(); ; {
			frame, ok := l.take(now)
			if !ok {
				break
			}
			if _, err := unix.Write(e.fds[1-from], frame); err == nil {
				e.stats[from].Frames++
				e.stats[from].Bytes += uint64(len(frame))
			}
			frame = frame[:frameSize]
			frames.Put(&frame)
		}
		if due, ok := l.next(); ok && (next == 0 || due < next) {
			next = due
		}
	}
	if next == 0 {
		return nil, true
	}
	ts := timespec(next.Sub(Now()))
	return &ts, true
}

// read offers what has come on one side to its lane; not without end, so that
// a flood one way does not hold up the other.
func (e *Emulator) read(from int) {
	for range 128 {
		buf := frames.Get().(*[]byte)
		n, err := unix.Read(e.fds[from], *buf)
		if err != nil || n <= 0 {
			frames.Put(buf)
			return
		}
		switch e.lanes[from].offer(Now(), (*buf)[:n]) {
		case fateSent:
			continue
		case fateLost:
			e.stats[from].Lost++
		case fateOverflow:
			e.stats[from].Overflowed++
		}
		frames.Put(buf)
	}
}
