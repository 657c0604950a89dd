package netlab

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pulses runs all UDP flows and pings of a client on one thread: it sleeps in
// ppoll until an answer or the next sending is due. So a wave costs one waking,
// and the times it notes are not those of Go's timers (0.6 ms late).
type pulses struct {
	mu     sync.Mutex // held while a wave is handled
	beats  []*beat
	polls  []unix.PollFd
	lag    time.Duration // by how much the thread was late at worst
	ending Instant       // when the last answer is waited for; 0: running
	done   chan struct{}
}

// beat is a group of flows that send together.
type beat struct {
	every time.Duration
	next  Instant
	flows []*pulse
}

func (p *pulses) add(every time.Duration, flows ...*pulse) {
	p.beats = append(p.beats, &beat{every: max(every, 100*time.Microsecond), flows: flows})
	for _, f := range flows {
		p.polls = append(p.polls, unix.PollFd{Fd: int32(f.fd), Events: unix.POLLIN})
	}
}

func (p *pulses) start() {
	p.done = make(chan struct{})
	now := Now()
	for _, b := range p.beats {
		b.next = now
		for _, f := range b.flows {
			f.last = now
		}
	}
	go p.run()
}

func (p *pulses) run() {
	defer close(p.done)
	runtime.LockOSThread() // never unlocked: see Watch
	realtime(10)
	for {
		wait := p.wave()
		if wait < 0 {
			return
		}
		ts := timespec(wait)
		_, _ = unix.Ppoll(p.polls, &ts, nil) // EINTR is as good as a time-out
	}
}

// wave takes what has come, sends what is due and returns how long to sleep;
// less than nothing at the end.
func (p *pulses) wave() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.beats {
		for _, f := range b.flows {
			f.receive()
		}
	}
	now := Now()
	if p.ending != 0 {
		if now >= p.ending || p.complete() {
			return -1
		}
		return time.Millisecond
	}
	wait := 50 * time.Millisecond
	for _, b := range p.beats {
		if late := now.Sub(b.next); late >= 0 {
			p.lag = max(p.lag, late)
			for _, f := range b.flows {
				f.send(Now())
			}
			b.next = b.next.Add(b.every)
			if b.next < now { // what was missed is not made up for: it would be a burst
				b.next = now.Add(b.every)
			}
		}
		wait = min(wait, b.next.Sub(Now()))
	}
	return max(wait, 0)
}

func (p *pulses) complete() bool {
	for _, b := range p.beats {
		for _, f := range b.flows {
			if n := len(f.flow.Echo); n > 0 && f.flow.Echo[n-1] == 0 {
				return false
			}
		}
	}
	return true
}

// stop ends the sending and waits for answers for at most that long.
func (p *pulses) stop(drain time.Duration) {
	p.mu.Lock()
	p.ending = Now().Add(drain)
	p.mu.Unlock()
	<-p.done
	for _, b := range p.beats {
		for _, f := range b.flows {
			unix.Close(f.fd)
		}
	}
}

// each calls do for every flow; the wave waits meanwhile.
func (p *pulses) each(do func(*pulse)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.beats {
		for _, f := range b.flows {
			do(f)
		}
	}
}
