package wire

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"harouter/vrrp"
)

// order is what the deciding loop said last.
type order struct {
	seq      uint64
	priority uint8
	interval time.Duration // 0: silence
}

// burst is an order ready to be sent. It is never changed, only replaced.
type burst struct {
	seq      uint64
	prompt   uint64 // another one than before: due at once
	interval time.Duration
	lease    time.Duration
	packets  []packet
}

// request is a burst that is sent once.
type request struct {
	packets []packet
	done    chan struct{}
}

// onceLimit is how long Once waits for the sender.
const onceLimit = 20 * time.Millisecond

// Advertise sends on every path at once and then each interval, until told
// otherwise or until the lease has run out: after that nothing is sent before
// the next Advertise, since whoever slept that long must ask first whether it
// is still master. It does not block. An interval that the version cannot
// express is replaced by the configured one.
func (t *Transport) Advertise(priority uint8, interval time.Duration) {
	t.Renew()
	t.mu.Lock()
	if vrrp.CheckInterval(t.cfg.Version, interval) != nil {
		interval = t.cfg.Interval
	}
	t.command(priority, interval)
	t.mu.Unlock()
	t.rouse()
}

// Silence ends the repetition. It does not block; an advert that is on its way
// at this moment is not held back.
func (t *Transport) Silence() {
	t.mu.Lock()
	t.command(0, 0)
	t.mu.Unlock()
	t.rouse()
}

// command gives a new order. The caller holds mu, and rouses the sender then.
func (t *Transport) command(priority uint8, interval time.Duration) {
	t.order = order{seq: t.order.seq + 1, priority: priority, interval: interval}
	t.publish()
}

// publish gives the sender the present order on the present paths. The caller
// holds mu.
func (t *Transport) publish() {
	b := &burst{seq: t.order.seq, prompt: t.prompt, interval: t.order.interval, lease: t.cfg.Lease}
	if b.interval > 0 {
		b.packets = t.packets(t.order.priority, b.interval)
	}
	t.burst.Store(b)
}

// Once sends one advert on every path and waits until it is out, 20 ms at most.
// It follows whatever Advertise and Silence said before, and needs no lease.
func (t *Transport) Once(priority uint8) {
	limit := time.NewTimer(onceLimit)
	defer limit.Stop()
	r := request{done: make(chan struct{})}
	t.mu.Lock()
	r.packets = t.packets(priority, t.cfg.Interval)
	t.mu.Unlock()
	select {
	case t.once <- r:
	case <-limit.C:
		return
	}
	t.rouse()
	select {
	case <-r.done:
	case <-limit.C:
	}
}

// rouse ends the sender's sleep.
func (t *Transport) rouse() {
	one := [8]byte{1} // any number but 0
	_, _ = t.wake.Write(one[:])
}

// coarse is from when on the sender sleeps by the Go scheduler. A thread that
// waits in the kernel keeps the scheduler's monitor awake for ten milliseconds
// each time: at ten adverts a second that is one per cent of a core, more than
// all the rest of an idle pair. A millisecond of lateness costs nothing then.
const coarse = 40 * time.Millisecond

// rtPriority is below that of the guard: a fence comes before an advert.
const rtPriority = 40

// hurry gives the calling thread real-time priority, best effort: it runs for
// microseconds at a time, and is late by milliseconds without it where others
// want the processor. A thread that it might start does not inherit it.
func hurry() {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: rtPriority, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	}
}

// runSender is the advert thread. It shares nothing but atomics with the rest
// of the program, does no I/O but its own: no log or lock of somebody else's holds an advert up.
// At short intervals it allocates nothing and sleeps in the kernel rather than by
// a Go timer, which is late by a millisecond and needs a free processor of the Go
// scheduler to fire.
func (t *Transport) runSender() {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	hurry()
	var (
		fds   = []unix.PollFd{{Fd: int32(t.wakeFD), Events: unix.POLLIN}}
		clear [8]byte
		s     schedule
	)
	for !t.quit.Load() {
		// In this order, what was said before Once is also done before it.
		var r request
		select {
		case r = <-t.once:
		default:
		}
		wait := time.Duration(0)
		if b := t.burst.Load(); b != nil {
			s.lease = b.lease
			s.hurry(b.prompt, time.Since(t.start))
			for send := true; send; {
				if send, wait = s.step(b.seq, b.interval, time.Since(t.start), time.Duration(t.lease.Load())); send {
					t.transmit(b.packets) // takes time: ask again how long to sleep
				}
			}
		}
		if r.done != nil {
			t.transmit(r.packets)
			close(r.done)
			continue // there may be another one
		}
		if wait == 0 || wait >= coarse {
			var until time.Time
			if wait > 0 {
				until = time.Now().Add(wait)
			}
			_ = t.wake.SetReadDeadline(until)
			_, _ = t.wake.Read(clear[:]) // its time-out is as good as a word
			continue
		}
		var limit *unix.Timespec
		if wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			limit = &ts
		}
		if n, err := unix.Ppoll(fds, limit, nil); err == nil && n > 0 {
			_, _ = unix.Read(int(fds[0].Fd), clear[:])
		}
	}
}

// transmit sends on every path; one that fails does not hold up the others.
// The keeper is told when that begins or ends, and logs it.
func (t *Transport) transmit(packets []packet) {
	for i := range packets {
		p := packets[i].path
		errno := unix.Errno(0)
		if err := packets[i].send(p.fd); err != nil {
			var ok bool
			if errno, ok = err.(unix.Errno); !ok { // not errors.As: it allocates
				errno = unix.EIO
			}
		}
		if unix.Errno(p.errno.Swap(int32(errno))) != errno {
			t.poke()
		}
	}
}

// schedule says when to send. All times are since one start, on a clock that
// no one sets.
type schedule struct {
	lease  time.Duration
	seq    uint64 // of the order that next belongs to
	next   time.Duration
	lapsed bool // the lease ran out under this order
	prompt uint64
}

// hurry makes what is repeated due at once if the prompt is a new one. The
// order stays the same: a lease that ran out is not taken up again.
func (s *schedule) hurry(prompt uint64, now time.Duration) {
	if prompt != s.prompt {
		s.prompt, s.next = prompt, now
	}
}

// step tells whether to send now, else how long to sleep, 0 being for ever.
func (s *schedule) step(seq uint64, interval, now, renewed time.Duration) (send bool, wait time.Duration) {
	if seq != s.seq { // a new order is obeyed at once
		s.seq, s.next, s.lapsed = seq, now, false
	}
	if interval <= 0 || s.lapsed {
		return false, 0
	}
	if now < s.next {
		return false, s.next - now
	}
	if now-renewed > s.lease {
		s.lapsed = true
		return false, 0
	}
	s.next += interval // no drift: from when it was due, not from when it was done
	if s.next <= now {
		s.next = now + interval // late by a whole interval: no bursts to catch up
	}
	return true, 0
}
