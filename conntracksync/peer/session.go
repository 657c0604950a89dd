package peer

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// session is the connection with a peer while it lives, three goroutines: a
// reader, a writer, and the peer's own, which calls the handler.
type session struct {
	*stream
	out   *outbox
	in    *inbox
	pause func(time.Duration)
	heard func() // a heartbeat came
	born  time.Time

	blame sync.Once
	cause *fault
	dead  chan struct{} // it has a cause
	over  chan struct{} // reader and writer ended: no frame comes any more
}

func newSession(st *stream, queue int) *session {
	return &session{
		stream: st, out: newOutbox(queue, st.accepted), in: newInbox(), born: time.Now(), heard: func() {},
		dead: make(chan struct{}), over: make(chan struct{}),
	}
}

// begin starts to read and to write.
func (s *session) begin() {
	s.raw.start()
	var wg sync.WaitGroup
	wg.Go(func() { s.end(s.read()) })
	wg.Go(func() { s.end(s.write()) })
	go func() {
		wg.Wait()
		close(s.over)
	}()
}

// end closes the connection; the first cause is that of the session. No error
// is no end.
func (s *session) end(err error) {
	if err == nil {
		return
	}
	s.because(faultOf(err, ReasonLost), 0)
	s.close()
}

// because takes the first cause, with the word for the other side that belongs
// to it (0: none).
func (s *session) because(f *fault, why byte) {
	s.blame.Do(func() {
		s.cause = f
		s.out.close(why)
		close(s.dead)
	})
}

// farewell ends the session and tells the other side why.
func (s *session) farewell(why byte, f *fault) {
	s.because(f, why)
	time.AfterFunc(farewellWithin, s.close)
}

// write sends until the session ends; nil after the farewell.
func (s *session) write() error {
	pulse := time.NewTimer(beatEvery)
	defer pulse.Stop()
	beat := func(now time.Time) {
		s.out.beat(now, now.Sub(s.born))
		pulse.Reset(beatEvery)
	}
	record := make([]byte, 0, recordSize)
	var before time.Time
	beat(s.born)
	for {
		if d := linger - time.Since(before); d > 0 && s.out.mayLinger() {
			s.pause(d)
		}
		var last bool
		if record, last = s.out.record(record[:0]); len(record) == 0 {
			pulse.Reset(s.out.untilBeat(time.Now()))
			select {
			case <-s.out.wake:
			case now := <-pulse.C:
				beat(now)
			case <-s.dead:
				if !s.out.leaving() {
					return nil
				}
			}
			continue
		}
		before = time.Now()
		s.raw.SetWriteDeadline(before.Add(writeWithin))
		if _, err := s.conn.Write(record); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if last {
			// Not closed: what is unread here would make a reset of it, which
			// takes the farewell away from the other side.
			if tcp, ok := s.raw.Conn.(*net.TCPConn); ok {
				tcp.CloseWrite()
			}
			return nil
		}
		select {
		case now := <-pulse.C:
			beat(now)
		default:
		}
	}
}

// read takes frames until the session ends.
func (s *session) read() error {
	for {
		if err := s.sort(); err != nil {
			return err
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// sort gives the complete frames of the buffer to where they belong, those for
// the handler in one piece where they stand together.
func (s *session) sort() error {
	from, to, urgent := s.r, s.r, false // a run of frames for the handler
	flush := func() error {
		if from < to && !s.in.put(urgent, s.buf[from:to]) {
			return &fault{ReasonGarbage, fmt.Errorf("more than %d bytes on the way", window+urgentReserve)}
		}
		return nil
	}
	for {
		k, payload, size, err := parse(s.buf[s.r:s.w])
		if err != nil {
			return &fault{ReasonGarbage, err}
		}
		if size == 0 {
			return flush()
		}
		switch k {
		case kindData, kindMark, kindUrgent:
			if u := k == kindUrgent; u != urgent || s.r != to {
				if err := flush(); err != nil {
					return err
				}
				from, urgent = s.r, u
			}
			to = s.r + size
		default:
			if err := flush(); err != nil { // a farewell ends the session
				return err
			}
			from = to
			if err := s.obey(k, payload); err != nil {
				return err
			}
		}
		s.r += size
	}
}

// obey takes a control frame.
func (s *session) obey(k kind, payload []byte) error {
	switch k {
	case kindPing:
		s.heard()
		now := time.Now()
		s.out.pinged(numberOf(payload), now, now.Sub(s.born))
	case kindPong:
		s.out.ponged(numberOf(payload), time.Since(s.born))
	case kindDone:
		s.out.reached(numberOf(payload), time.Now())
	case kindCredit:
		if !s.out.granted(numberOf(payload)) {
			return &fault{ReasonGarbage, fmt.Errorf("credit for what was not sent")}
		}
	case kindBye:
		return &fault{ReasonLeft, farewellOf(payload[0])}
	case kindHello, kindGo, kindData, kindUrgent, kindMark:
		return &fault{ReasonGarbage, fmt.Errorf("a frame of kind %d in a session", k)}
	}
	return nil
}

var errAgain = errors.New("the other side starts over")

// spoilt tells whether the session ended for what was said in it.
func (f *fault) spoilt() bool {
	return f.reason == ReasonGarbage || f.reason == ReasonVersion || f.reason == ReasonOverflow || errors.Is(f.err, errAgain)
}

func farewellOf(why byte) error {
	switch why {
	case byeConfigured:
		return fmt.Errorf("the other side has another configuration now")
	case byeReplaced:
		return fmt.Errorf("the other side has a newer session")
	case byeAgain:
		return errAgain
	}
	return fmt.Errorf("the other side leaves")
}

// deliver calls the handler until the session is over, or a newer one is there.
func (s *session) deliver(h Handler, newer <-chan *stream) *stream {
	s.out.reopen()
	h.Up(s.node, s.remote)
	d := delivery{session: s, handler: h}
	var over bool
	var next *stream
	for {
		if s.out.hasOverflowed() {
			s.out.reopen()
			h.Overflow(s.node)
		}
		d.overtake()
		batch := s.in.take(d.batch)
		d.bulk(batch)
		d.batch = batch
		if len(batch) > 0 {
			continue
		}
		if over {
			return next
		}
		select {
		case <-s.in.wake:
		case <-s.over:
			over = true // what came last is still to be handled
		case next = <-newer:
			newer = nil
			s.farewell(byeReplaced, &fault{ReasonReplaced, fmt.Errorf("%s began a new session", s.node)})
		}
	}
}

// delivery is where the handler is.
type delivery struct {
	*session
	handler Handler
	batch   []byte
	handled uint64 // bytes
	told    uint64 // of these
}

// overtake gives the urgent frames to the handler.
func (d *delivery) overtake() {
	for d.in.overtaking.Load() {
		for b := d.in.takeUrgent(); len(b) > 0; {
			_, payload, size, _ := parse(b) // checked by the reader
			b = b[size:]
			d.handler.Frame(d.node, payload, len(b) > 0)
			d.done(size)
		}
	}
}

// bulk gives the others to it, and tells back the marks between them.
func (d *delivery) bulk(b []byte) {
	for len(b) > 0 {
		k, payload, size, _ := parse(b)
		b = b[size:]
		d.overtake() // also before a mark: they were sent before it
		if k == kindMark {
			d.out.control(kindDone, numberOf(payload))
		} else {
			d.handler.Frame(d.node, payload, len(b) > 0 && kind(b[0]) == kindData && !d.in.overtaking.Load())
		}
		d.done(size)
	}
}

// done grants credit for what was handled, a quarter of the window at once.
func (d *delivery) done(size int) {
	d.handled += uint64(size)
	if n := d.handled - d.told; n >= window/4 {
		d.told = d.handled
		d.in.release(int(n))
		d.out.control(kindCredit, d.told)
	}
}
