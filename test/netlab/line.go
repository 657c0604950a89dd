package netlab

import (
	"math/rand/v2"
	"time"
)

// Line is what a line does to the frames of one direction. The zero value is a
// perfect one.
type Line struct {
	Delay  time.Duration // added to every frame
	Jitter time.Duration // and up to so much more, evenly spread; order is kept
	Loss   float64       // share of frames that are lost, 0 … 1
	Rate   int64         // bit/s of Ethernet frames; 0: no limit
	Queue  int           // bytes that wait for the line at most; 0: 100 ms worth of Rate
}

// lane holds the frames of one direction that are under way. It is pure: time
// is an argument.
type lane struct {
	line  Line
	rng   *rand.Rand
	busy  Instant // when the line has sent what waits for it
	last  Instant // when the frame before arrives
	queue []held
	head  int
}

type held struct {
	due   Instant
	frame []byte
}

// offer takes a frame and tells what becomes of it; a lost one stays the
// caller's.
func (l *lane) offer(now Instant, frame []byte) fate {
	if l.line.Loss > 0 && l.rng.Float64() < l.line.Loss {
		return fateLost
	}
	due := now
	if l.line.Rate > 0 {
		limit := l.line.Queue
		if limit == 0 {
			limit = int(l.line.Rate / 8 / 10)
		}
		l.busy = max(l.busy, now)
		waiting := int64(l.busy.Sub(now)) * l.line.Rate / 8 / int64(time.Second)
		if waiting > 0 && waiting+int64(len(frame)) > int64(limit) {
			return fateOverflow
		}
		l.busy = l.busy.Add(time.Duration(int64(len(frame)) * 8 * int64(time.Second) / l.line.Rate))
		due = l.busy
	}
	due = due.Add(l.line.Delay)
	if l.line.Jitter > 0 {
		due = due.Add(time.Duration(l.rng.Int64N(int64(l.line.Jitter))))
	}
	l.last = max(l.last, due)
	l.queue = append(l.queue, held{l.last, frame})
	return fateSent
}

type fate uint8

const (
	fateSent fate = iota
	fateLost
	fateOverflow
)

// take gives back the next frame that has arrived by now.
func (l *lane) take(now Instant) ([]byte, bool) {
	if l.head == len(l.queue) || l.queue[l.head].due > now {
		return nil, false
	}
	frame := l.queue[l.head].frame
	l.queue[l.head] = held{}
	if l.head++; l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head > 1024 && l.head > len(l.queue)/2 {
		l.queue = append(l.queue[:0], l.queue[l.head:]...)
		l.head = 0
	}
	return frame, true
}

// next is when the next frame arrives.
func (l *lane) next() (Instant, bool) {
	if l.head == len(l.queue) {
		return 0, false
	}
	return l.queue[l.head].due, true
}

// set changes the line; what is under way keeps its time.
func (l *lane) set(line Line, now Instant) {
	if line.Rate != l.line.Rate {
		l.busy = now
	}
	l.line = line
}
