package guard

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Run is the guard process: it returns when there is nothing left to guard, and
// the process must end then. fd is the socket to the daemon and fd+1 the shared
// page, as Start hands them over (3 and 4). An error means that the guard could
// not begin, or that addresses could not be taken away.
func Run(fd int, runDir string, ports Ports) error {
	runtime.LockOSThread()
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_SEQPACKET {
		return fmt.Errorf("run the guard: file %d is not the daemon's socket (the guard is started by the daemon, not by hand)", fd)
	}
	p, err := newProcess(fd, runDir, ports)
	if err != nil {
		p.tell(message{Kind: kindProblem, Text: err.Error()})
		return fmt.Errorf("run the guard: %w", err)
	}
	err = p.loop()
	p.journal.flush()
	return err
}

// process is the guard at work. All of it belongs to the loop's thread.
type process struct {
	machine machine
	daemon  int // socket, -1 when it has ended
	page    *page
	door    *door
	callers []int // connections to the door, the oldest first
	workers *workers
	journal *journal
	keeper  *keeper
	buf     []byte
	polled  []unix.PollFd
	litter  int // about the bytes of garbage since the last collection
	began   time.Duration
}

const (
	maxCallers = 8
	// litterLimit times what decoding leaves behind is still little memory.
	litterLimit = 256 << 10
)

func newProcess(fd int, runDir string, ports Ports) (*process, error) {
	p := &process{daemon: fd, buf: make([]byte, 64<<10), journal: startJournal(ports.Log)}
	var err error
	if p.page, err = openPage(fd + 1); err != nil {
		return p, err
	}
	unix.Close(fd + 1)
	if p.door, err = openDoor(runDir); err != nil {
		return p, err
	}
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	if lacking := harden(); lacking != nil {
		p.journal.warn("the guard may be slow on a busy machine", "lacking", lacking)
	}
	p.keeper = startKeeper(runDir, p.journal)
	if p.workers, err = startWorkers(ports, p.journal); err != nil {
		return p, err
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, unix.SIGTERM)
	go func() {
		for range terms {
			p.workers.post(told{})
		}
	}()
	go func() {
		if p.page.awaitDeath() {
			p.workers.post(dying{})
		}
	}()
	// A rehearsal: what a fence needs has been touched once.
	if err := errors.Join(ports.Remove(nil), ports.Send(nil), ports.tell(nil)); err != nil {
		p.journal.warn("rehearse the fence", "err", err)
	}
	p.tell(message{Kind: kindReady})
	return p, nil
}

// loop waits, then reads whatever there is in the order of its weight: the
// daemon's words before its end, its last beat before a deadline.
func (p *process) loop() error {
	var err error
	for p.machine.phase != over {
		p.wait()
		err = errors.Join(p.hearDaemon(), p.hearWorkers(), p.hearCallers(), p.hearClock())
		p.tidy(64)
	}
	p.keeper.forget()
	p.door.remove()
	for _, fd := range p.callers {
		unix.Close(fd)
	}
	p.workers.quiet()
	return err
}

// wait polls: the daemon, the workers, the door and the callers, in this order.
func (p *process) wait() {
	p.polled = p.polled[:0]
	for _, fd := range [...]int{p.daemon, p.workers.wake, p.door.fd} {
		p.polled = append(p.polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}) // the kernel skips -1
	}
	for _, fd := range p.callers {
		p.polled = append(p.polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	var timeout *unix.Timespec
	if at, ok := p.machine.deadline(); ok {
		ts := unix.NsecToTimespec(int64(max(at-monotonic(), 0)))
		timeout = &ts
	}
	if n, err := unix.Ppoll(p.polled, timeout, nil); err != nil || n == 0 {
		for i := range p.polled { // what the kernel leaves there after EINTR is not told
			p.polled[i].Revents = 0
		}
	}
}

func (p *process) hearDaemon() error {
	for p.daemon >= 0 && p.polled[0].Revents != 0 {
		b, err := pull(p.daemon, &p.buf)
		if err == unix.EAGAIN {
			break
		}
		if err != nil { // errEnd, or a socket that is of no use any more
			unix.Close(p.daemon)
			p.daemon = -1
			return p.step(gone{})
		}
		m, err := decodeMessage(b)
		if err != nil {
			p.journal.warn("a message of the daemon is not understood", "err", err)
			continue
		}
		switch m.Kind {
		case kindState:
			p.workers.open(m.State.Farewell)
			p.keeper.put(*m.State)
			err = p.step(gotState{State: *m.State})
			p.tidy(len(b))
		case kindPing:
			p.page.pings.Add(1)
		case kindRetire:
			err = p.step(retire{})
		case kindRelease:
			err = p.step(release{})
		}
		if err != nil || p.machine.phase == over {
			return err
		}
	}
	if at := p.page.lastBeat(); at > p.machine.lastBeat {
		return p.step(beat{At: at})
	}
	return nil
}

func (p *process) hearWorkers() error {
	if p.polled[1].Revents == 0 {
		return nil
	}
	var count [8]byte
	unix.Read(p.workers.wake, count[:]) // before the results: a later one rings again
	for p.machine.phase != over {
		ev := p.workers.next()
		if ev == nil {
			break
		}
		if err := p.step(ev); err != nil {
			return err
		}
	}
	return nil
}

// hearCallers lets the next daemon in. A caller that says something else, or
// ends, is forgotten, and so is the oldest when they are too many.
func (p *process) hearCallers() error {
	if !slices.ContainsFunc(p.polled[2:], func(f unix.PollFd) bool { return f.Revents != 0 }) {
		return nil
	}
	for {
		fd, err := p.door.accept()
		if err == unix.EACCES || err == unix.ECONNABORTED || err == unix.EINTR {
			continue
		}
		if err != nil {
			break
		}
		if len(p.callers) == maxCallers {
			unix.Close(p.callers[0])
			p.callers = slices.Delete(p.callers, 0, 1)
		}
		p.callers = append(p.callers, fd)
	}
	asked := false
	p.callers = slices.DeleteFunc(p.callers, func(fd int) bool {
		b, err := pull(fd, &p.buf)
		if err == unix.EAGAIN {
			return false
		}
		if err == nil {
			if m, err := decodeMessage(b); err == nil && m.Kind == kindTakeOver {
				asked = true
				return false
			}
		}
		unix.Close(fd)
		return true
	})
	if !asked {
		return nil
	}
	return p.step(takeOver{})
}

func (p *process) hearClock() error {
	if at, ok := p.machine.deadline(); ok && monotonic() >= at {
		return p.step(tick{})
	}
	return nil
}

// step asks the machine and does what it says.
func (p *process) step(ev event) error {
	from, now := p.machine.phase, monotonic()
	actions := p.machine.step(now, ev)
	var problem error
	for _, a := range actions {
		switch a := a.(type) {
		case remove:
			p.workers.removal <- a.Addresses // the remover is idle, the machine waits for its answer
		case send:
			select {
			case p.workers.sending <- a.farewell:
			default: // one of an earlier fence is stuck, and another waits behind it
				p.journal.warn("the farewell cannot be sent, an earlier one blocks")
			}
		case listen:
			p.workers.listen(a.State)
		case unlisten:
			p.workers.quiet()
		case tellFence:
			p.page.fences.Add(1)
			p.tell(message{Kind: kindFenced})
		case tellLeft:
			p.tell(message{Kind: kindLeft})
		case answer:
			// The names go first: the next guard's may stand there at once.
			p.keeper.forget()
			p.door.remove()
			p.reply(message{Kind: kindTaken, State: &a.State})
		case refuse:
			p.reply(message{Kind: kindBusy})
		case exit:
			problem = a.Problem
		}
	}
	p.report(from, now, ev)
	return problem
}

// report logs transitions and failures.
func (p *process) report(from phase, now time.Duration, ev event) {
	to := p.machine.phase
	if from != to && to == fencing {
		p.began = now
	}
	switch ev := ev.(type) {
	case removed:
		p.result("addresses removed", "remove the addresses", now-p.began, ev.Err)
	case sent:
		p.result("farewell sent", "send the farewell", now-p.began, ev.Err)
	}
	if from != to {
		p.journal.info("guard", "from", from.String(), "to", to.String(), "reason", ev.String())
	}
}

func (p *process) result(good, bad string, after time.Duration, err error) {
	if err != nil {
		p.journal.warn(bad, "err", err, "after", after)
		return
	}
	p.journal.info(good, "after", after)
}

// tell never blocks; a daemon that does not read learns of a fence by the page.
func (p *process) tell(m message) {
	if b, err := m.encode(); err == nil && p.daemon >= 0 {
		push(p.daemon, b)
	}
}

// reply answers every caller; those that did not ask yet get the same answer.
func (p *process) reply(m message) {
	b, err := m.encode()
	for _, fd := range p.callers {
		if err == nil {
			push(fd, b)
		}
		unix.Close(fd)
	}
	p.callers = nil
}

// tidy collects garbage when there is some and nothing is wrong.
func (p *process) tidy(n int) {
	p.litter += n
	if p.litter >= litterLimit && p.machine.phase == watching {
		p.litter = 0
		runtime.GC()
	}
}
