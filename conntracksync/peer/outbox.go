package peer

import (
	"errors"
	"sync"
	"time"

	"harouter/ha"
)

// outbox is what waits for the other side. Senders and the session's reader
// put in, its writer takes out, record by record.
type outbox struct {
	limit int
	wake  chan struct{} // for the writer, when it found nothing

	mu           sync.Mutex
	accepted     bool // the other side has connected
	open         bool // frames are taken
	closed       bool // for good
	overflowed   bool // and the handler does not know yet
	idle         bool // the writer waits
	hurry        bool // somebody waits for what is in bulk
	urgent, bulk lane

	// Credit: bytes of frames, and of marks, since the session began.
	sent, handled uint64

	// Each of these is sent in the next record; a newer number makes an older
	// one superfluous, so they need no queue.
	start              bool
	ping, pong         number
	done, credit       number
	bye                byte
	marks              []mark
	lastMark           uint64
	waiting            map[uint64]chan<- error
	roundTrip, handing time.Duration // as last measured
	nextBeat           time.Time
}

// number is a control frame that waits, if it does.
type number struct {
	n   uint64
	set bool
}

// mark is one that the other side did not tell back yet.
type mark struct {
	n  uint64
	at time.Time
}

// maxMarks is how many marks of heartbeats may be on the way.
const maxMarks = 8

var (
	errOverflow = errors.New("the queue was full, and what waited was dropped")
	errClosed   = errors.New("the session ended before the other side had handled all")
)

// newOutbox makes one. The side that accepted starts with its answer to kindGo.
func newOutbox(limit int, accepted bool) *outbox {
	return &outbox{limit: limit, wake: make(chan struct{}, 1), accepted: accepted, start: accepted, waiting: map[uint64]chan<- error{}}
}

// signal wakes the writer if it waits. The lock is held.
func (o *outbox) signal() {
	if o.idle {
		o.idle = false
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// sent tells what became of a frame.
type sent uint8

const (
	sentNo sent = iota
	sentYes
	sentOverflow // this one, and all that waited
)

func (o *outbox) send(k kind, frame []byte) sent {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open {
		return sentNo
	}
	l := &o.bulk
	if k == kindUrgent {
		l = &o.urgent
	}
	size := headerSize + len(frame)
	if o.bulk.bytes+o.urgent.bytes+size > o.limit || k == kindUrgent && l.bytes+size > urgentQueue {
		o.overflow()
		return sentOverflow
	}
	l.push(k, frame)
	o.signal()
	return sentYes
}

func (o *outbox) overflow() {
	o.open, o.overflowed = false, true
	o.bulk.clear()
	o.urgent.clear()
	o.marks = o.marks[:0]
	o.release(errOverflow)
}

// release ends all barriers.
func (o *outbox) release(err error) {
	for n, c := range o.waiting {
		c <- err
		delete(o.waiting, n)
	}
}

// reopen takes frames (again). It tells whether the handler must be told of an
// overflow.
func (o *outbox) reopen() (overflowed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	overflowed, o.overflowed = o.overflowed, false
	o.open = !o.closed
	return overflowed
}

func (o *outbox) hasOverflowed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.overflowed
}

// close takes no frames any more. The next record ends with a farewell, if
// there is to be one (why is not 0).
func (o *outbox) close(why byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.closed, o.overflowed = false, true, false
	o.release(errClosed)
	if o.bye = why; why != 0 {
		o.signal()
	}
}

// barrier puts a mark behind all that waits. The channel gets one answer.
func (o *outbox) barrier(now time.Time) (<-chan error, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.overflowed {
		return nil, errOverflow
	}
	if !o.open {
		return nil, errClosed
	}
	c := make(chan error, 1)
	o.waiting[o.mark(now)] = c
	o.hurry = true
	o.signal()
	return c, nil
}

func (o *outbox) mark(now time.Time) uint64 {
	o.lastMark++
	o.marks = append(o.marks, mark{o.lastMark, now})
	o.bulk.pushNumber(kindMark, o.lastMark)
	return o.lastMark
}

// beat puts in what shows that this side lives, and measures. since is the age
// of the session.
func (o *outbox) beat(now time.Time, since time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pulse(now, since)
	o.nextBeat = now.Add(ha.Together(now, beatEvery))
	if o.accepted { // the other side is to be first
		o.nextBeat = now.Add(beatEvery + beatEvery/6)
	}
}

// untilBeat is when this side is to beat by itself.
func (o *outbox) untilBeat(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return max(o.nextBeat.Sub(now), 0)
}

// pinged answers the other side's beat. The own one goes with the answer unless
// there was one a moment ago: one record less, and one wake-up on each side. The
// other side then has time to be first the next time too.
func (o *outbox) pinged(n uint64, now time.Time, since time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pong = number{n, true}
	if o.nextBeat.Sub(now) < beatEvery/2 {
		o.pulse(now, since)
		o.nextBeat = now.Add(beatEvery + beatEvery/6)
	}
	o.signal()
}

func (o *outbox) pulse(now time.Time, since time.Duration) {
	o.ping = number{uint64(since), true}
	if o.open && len(o.marks) < maxMarks {
		o.mark(now)
		o.hurry = true
	}
}

// ponged takes an answer to a ping.
func (o *outbox) ponged(n uint64, since time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if d := since - time.Duration(n); d >= 0 {
		o.roundTrip = d
	}
}

// reached takes the number of a mark that the other side has handled.
func (o *outbox) reached(n uint64, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.marks) > 0 && o.marks[0].n <= n {
		o.handing = now.Sub(o.marks[0].at)
		o.marks = o.marks[1:]
	}
	for m, c := range o.waiting {
		if m <= n {
			c <- nil
			delete(o.waiting, m)
		}
	}
}

// granted takes how many bytes the other side has handled. It is false for
// more than were sent.
func (o *outbox) granted(n uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n > o.sent {
		return false
	}
	o.handled = max(o.handled, n)
	o.signal()
	return true
}

// control puts in a control frame.
func (o *outbox) control(k kind, n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch k {
	case kindDone:
		o.done = number{n, true}
	case kindCredit:
		o.credit = number{n, true}
	default:
		panic("no control frame")
	}
	o.signal()
}

func (n *number) take(b []byte, k kind) []byte {
	if n.set {
		n.set = false
		b = appendNumber(b, k, n.n)
	}
	return b
}

// mayLinger tells whether the next record would be a small one for which
// nobody waits.
func (o *outbox) mayLinger() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.bulk.chunks) == 1 && len(o.urgent.chunks) == 0 && !o.hurry && o.bye == 0 &&
		!o.start && !o.ping.set && !o.pong.set && !o.done.set && !o.credit.set
}

// record appends what one TLS record takes, control frames first, then urgent
// ones, then bulk as far as there is credit. Nothing means that the writer is
// woken when there is something. last says that it ends with the farewell.
func (o *outbox) record(b []byte) (_ []byte, last bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.start {
		o.start = false
		b = appendFrame(b, kindGo, nil)
	}
	b = o.pong.take(b, kindPong)
	b = o.ping.take(b, kindPing)
	b = o.done.take(b, kindDone)
	b = o.credit.take(b, kindCredit)
	b = o.move(b, &o.urgent, window+urgentReserve)
	if o.bye != 0 {
		return appendFrame(b, kindBye, []byte{o.bye}), true
	}
	b = o.move(b, &o.bulk, window)
	if len(o.bulk.chunks) == 0 {
		o.hurry = false
	}
	o.idle = len(b) == 0
	return b, false
}

// move appends chunks of a lane as long as they fit, and fit the credit.
// Room for the farewell stays.
func (o *outbox) move(b []byte, l *lane, credit uint64) []byte {
	for len(l.chunks) > 0 {
		c := l.chunks[0]
		if len(b) > 0 && len(b)+len(c) > recordSize-headerSize-1 || o.sent+uint64(len(c)) > o.handled+credit {
			break
		}
		b = append(b, c...)
		o.sent += uint64(len(c))
		l.pop()
	}
	return b
}

// Lag is how far the other side is behind.
type Lag struct {
	RoundTrip time.Duration // of the network and both daemons, as last measured; 0 before
	Behind    time.Duration // age of what the other side's Handler has still to handle, at most 470 ms old
	Queued    int           // bytes that wait here
}

func (o *outbox) lag(now time.Time) Lag {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := Lag{o.roundTrip, o.handing, o.bulk.bytes + o.urgent.bytes}
	if len(o.marks) > 0 {
		l.Behind = max(l.Behind, now.Sub(o.marks[0].at))
	}
	return l
}

// leaving tells whether the farewell has still to be sent.
func (o *outbox) leaving() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bye != 0
}
