package ha

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Loop feeds the machine and carries its actions to the ports. One goroutine,
// the caller of Run, owns the machine; slow ports have workers of their own, so
// that nothing holds up the election.
type Loop struct {
	cfg     Config
	ports   Ports
	log     *slog.Logger
	urgent  chan Event // adverts, links, words of other nodes
	normal  chan Event
	asks    chan ask
	machine *Machine
	workers workers
	pending map[uint64]chan string // commands that wait for their Answer
	nextID  uint64
	exit    *Exit

	start time.Time
	beat  atomic.Int64 // when the loop ran last, nanoseconds since start
	sure  atomic.Bool  // what the machine said then
}

type ask struct {
	verb   Verb
	to     string
	answer chan string
	status chan Status
}

// NewLoop returns a loop that Run starts.
func NewLoop(cfg Config, ports Ports, log *slog.Logger) *Loop {
	return &Loop{
		cfg: cfg, ports: ports, log: log,
		urgent: make(chan Event, 4096), normal: make(chan Event, 1024), asks: make(chan ask),
		pending: map[uint64]chan string{}, start: time.Now(),
	}
}

// MayRepair tells whether virtual addresses that are gone may be put back: only
// while this loop is at work and sure of its role.
func (l *Loop) MayRepair() bool {
	return l.sure.Load() && time.Since(l.start)-time.Duration(l.beat.Load()) < sleepLimit(l.cfg.Advertise)
}

// Post hands an event over. It never blocks: under a flood, events that come
// again by themselves (adverts, probes, drops) are the ones that are lost.
func (l *Loop) Post(ev Event) {
	queue := l.normal
	switch ev.(type) {
	case Advert, Links, Told, PeerTold, Fenced, Switched:
		queue = l.urgent
	}
	select {
	case queue <- ev:
	default:
		l.log.Warn("event lost, the queue is full", "event", fmt.Sprintf("%T", ev))
	}
}

// Run lives until the machine says Exit or ctx ends, and tells how to leave.
func (l *Loop) Run(ctx context.Context) (Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	l.workers.start(ctx, &wg, l)
	defer wg.Wait()
	defer cancel()

	start := time.Now()
	l.machine = NewMachine(l.cfg, start)
	every := Lease(l.cfg.Advertise) / 3
	limit := sleepLimit(l.cfg.Advertise)
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := start
	for l.exit == nil {
		now := time.Now()
		if gap := now.Sub(last); gap > limit {
			l.handle(Overslept{For: gap}, now)
		}
		last = now
		l.sure.Store(l.machine.Sure())
		l.beat.Store(int64(now.Sub(l.start)))
		l.ports.Adverts.Renew()
		l.ports.Beat()

		if ev, ok := l.next(); ok { // what waits comes before any timer
			l.handle(ev, time.Now())
			continue
		}
		due := l.machine.Deadline(now)
		timer.Reset(max(0, min(due.Sub(now), every)))
		select {
		case <-ctx.Done():
			return Exit{}, nil
		case ev := <-l.urgent:
			l.handle(ev, time.Now())
		case ev := <-l.normal:
			l.handle(ev, time.Now())
		case a := <-l.asks:
			l.ask(a)
		case <-timer.C:
			l.tick(due)
		}
	}
	l.workers.finish()
	return *l.exit, nil
}

// next takes an event that waits, urgent ones first.
func (l *Loop) next() (Event, bool) {
	select {
	case ev := <-l.urgent:
		return ev, true
	default:
	}
	select {
	case ev := <-l.normal:
		return ev, true
	case a := <-l.asks:
		l.ask(a)
	default:
	}
	return nil, false
}

// late is how far behind its deadline a tick may come before the receivers are
// given a moment: a machine that was busy must not take a peer for dead whose
// adverts lie in the sockets.
const (
	late  = 3 * time.Millisecond
	grace = 3 * time.Millisecond
)

func (l *Loop) tick(due time.Time) {
	now := time.Now()
	if now.Before(due) {
		return
	}
	if now.Sub(due) > late {
		wait := time.NewTimer(grace)
		defer wait.Stop()
		select {
		case ev := <-l.urgent:
			l.handle(ev, time.Now())
			return
		case <-wait.C:
		}
	}
	l.handle(Tick{}, time.Now())
}

func (l *Loop) handle(ev Event, now time.Time) {
	for _, a := range l.machine.Handle(ev, now) {
		l.perform(a)
	}
}

func (l *Loop) perform(a Action) {
	switch a := a.(type) {
	case Advertise:
		l.ports.Adverts.Advertise(a.Priority, a.Interval)
	case Silence:
		l.ports.Adverts.Silence()
	case Farewell, Activate, AddAddresses, RemoveAddresses, Announce:
		l.workers.switching <- a
	case ApplyPlan:
		l.workers.plan(a)
	case DeleteFlows:
		l.workers.deletions <- a
	case Source:
		l.ports.Probe(a)
	case Publish:
		l.ports.Gossip.Publish(a.State.Encode())
	case Send:
		l.workers.send(a)
	case Remember:
		l.workers.remember(a)
	case Guard:
		l.ports.Guard(a)
	case Answer:
		if ch := l.pending[a.ID]; ch != nil {
			delete(l.pending, a.ID)
			ch <- a.Error
		}
	case Record:
		level := slog.LevelInfo
		if a.Kind == "alarm" && a.To == "on" {
			level = slog.LevelWarn
		}
		l.log.Log(context.Background(), level, a.Kind, "subject", a.Subject, "from", a.From, "to", a.To, "reason", a.Reason)
		l.ports.Record(a)
	case Exit:
		l.exit = &a
	}
}

func (l *Loop) ask(a ask) {
	if a.status != nil {
		a.status <- l.machine.Status(time.Now())
		return
	}
	l.nextID++
	l.pending[l.nextID] = a.answer
	l.handle(Command{ID: l.nextID, Verb: a.verb, To: a.to}, time.Now())
}

// errEnded is what a caller gets whose question came too late.
var errEnded = errors.New("the daemon is ending")

// Status asks the machine for what it knows.
func (l *Loop) Status(ctx context.Context) (Status, error) {
	a := ask{status: make(chan Status, 1)}
	select {
	case l.asks <- a:
	case <-ctx.Done():
		return Status{}, errEnded
	}
	select {
	case s := <-a.status:
		return s, nil
	case <-ctx.Done():
		return Status{}, errEnded
	}
}

// Command carries out an operator's command; the error is a sentence for him.
func (l *Loop) Command(ctx context.Context, verb Verb, to string) error {
	a := ask{verb: verb, to: to, answer: make(chan string, 1)}
	select {
	case l.asks <- a:
	case <-ctx.Done():
		return errEnded
	}
	select {
	case text := <-a.answer:
		if text != "" {
			return errors.New(text)
		}
		return nil
	case <-ctx.Done():
		return errEnded
	}
}
