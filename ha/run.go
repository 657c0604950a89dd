package ha

import (
	"context"
	"errors"
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
	own     chan Event // what this node's own parts tell: never lost
	urgent  chan Event // adverts, words of other nodes
	normal  chan Event
	ended   chan struct{} // closed when nobody takes events any more
	lost    atomic.Uint64 // events for which there was no room
	asks    chan ask
	machine *Machine
	writer  stateWriter
	workers workers
	pending map[uint64]chan string // commands that wait for their Answer
	nextID  uint64
	exit    *Exit

	toldLost time.Time

	start time.Time
	ran   time.Time    // when the loop ran last
	beat  atomic.Int64 // the same for others, nanoseconds since start
	sure  atomic.Bool  // what the machine said then
	awake atomic.Bool
	limit atomic.Int64 // how old beat may be, nanoseconds
}

type ask struct {
	verb   Verb
	args   Args
	answer chan string
	status chan Status
}

// NewLoop returns a loop that Run starts.
func NewLoop(cfg Config, ports Ports, log *slog.Logger) *Loop {
	return &Loop{
		cfg: cfg, ports: ports, log: log,
		own: make(chan Event, 256), urgent: make(chan Event, 4096), normal: make(chan Event, 1024),
		ended: make(chan struct{}), asks: make(chan ask),
		pending: map[uint64]chan string{}, start: time.Now(),
	}
}

// MayRepair tells whether virtual addresses that are gone may be put back: only
// while this loop is at work and sure of its role.
func (l *Loop) MayRepair() bool {
	return l.sure.Load() && time.Since(l.start)-time.Duration(l.beat.Load()) < time.Duration(l.limit.Load())
}

// Awake tells whether what another program took away may be put back, apart from
// virtual addresses: on a backup too.
func (l *Loop) Awake() bool {
	return l.awake.Load() && time.Since(l.start)-time.Duration(l.beat.Load()) < time.Duration(l.limit.Load())
}

// Post hands an event over. What comes from outside never blocks: in a flood it
// is lost, and comes again by itself (adverts, probes, states). What this node's
// own parts tell once is never lost: Post waits until there is room.
func (l *Loop) Post(ev Event) {
	queue := l.normal
	switch ev.(type) {
	case Links, Found, Switched, SwitchesKept, Applied, Synced, Flushed, Forwarded, Fenced, Checked, Rested, FileSeen, Reconfigured, Repaired, Condition, CheckRan:
		select {
		case l.own <- ev:
		case <-l.ended:
		}
		return
	case Advert, Told, PeerTold, Asked, Reached:
		queue = l.urgent
	}
	select {
	case queue <- ev:
	default:
		l.lost.Add(1)
	}
}

// tellLost logs, once a second at most, that events were lost.
func (l *Loop) tellLost(now time.Time) {
	if now.Sub(l.toldLost) < time.Second {
		return
	}
	l.toldLost = now
	if n := l.lost.Swap(0); n > 0 {
		l.log.Warn("events lost: more came in than this node can look at", "events", n)
	}
}

// Run lives until the machine says Exit or ctx ends, and tells how to leave.
func (l *Loop) Run(ctx context.Context) (Exit, error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	l.workers.start(ctx, &wg, l)
	defer wg.Wait()
	defer close(l.ended)
	defer cancel()

	start := time.Now()
	l.machine = NewMachine(l.replicates(l.cfg), start)
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.ran = start
	for l.exit == nil {
		l.awoke()
		now := time.Now()
		advertise := l.machine.cfg.Advertise
		every, limit := restLimit(advertise), sleepLimit(advertise)
		l.ran = now
		l.sure.Store(l.machine.Sure())
		l.awake.Store(l.machine.Awake())
		l.beat.Store(int64(now.Sub(l.start)))
		l.limit.Store(int64(limit))
		l.ports.Adverts.Renew()
		l.ports.Beat()
		l.tellLost(now)

		if ev, ok := l.next(); ok { // what waits comes before any timer
			l.handle(ev, time.Now())
			continue
		}
		due := l.machine.Deadline(now)
		timer.Reset(max(0, min(due.Sub(now), every)))
		select {
		case <-ctx.Done():
			return Exit{}, nil
		case ev := <-l.own:
			l.awoke()
			l.handle(ev, time.Now())
		case ev := <-l.urgent:
			l.awoke()
			l.handle(ev, time.Now())
		case ev := <-l.normal:
			l.awoke()
			l.handle(ev, time.Now())
		case a := <-l.asks:
			l.awoke()
			l.ask(a)
		case <-timer.C:
			if !l.awoke() { // or the deadline is of before
				l.tick(due)
			}
		}
	}
	l.workers.finish()
	return *l.exit, nil
}

// awoke tells the machine when this process did not run for longer than it may,
// before anything that would be decided by what was heard before.
func (l *Loop) awoke() bool {
	now := time.Now()
	gap := now.Sub(l.ran)
	if gap <= sleepLimit(l.machine.cfg.Advertise) {
		return false
	}
	l.ran = now
	l.handle(Overslept{For: gap}, now)
	return true
}

// replicates turns the replication of flows off where there is none to be had.
func (l *Loop) replicates(cfg Config) Config {
	cfg.Sync = cfg.Sync && l.ports.Flows != nil
	return cfg
}

// next takes an event that waits, urgent ones first.
func (l *Loop) next() (Event, bool) {
	select {
	case ev := <-l.own:
		return ev, true
	default:
	}
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
// What lies in them unread is waited for longer: there the master's advert may
// be, and the receivers have not had a processor for as long as this loop.
const (
	late   = 3 * time.Millisecond
	grace  = 3 * time.Millisecond
	unread = 50 * time.Millisecond
)

func (l *Loop) tick(due time.Time) {
	now := time.Now()
	if now.Before(due) {
		return
	}
	wait := time.Duration(0)
	if now.Sub(due) > late {
		wait = grace
	}
	for l.ports.Adverts.Unread() || wait > 0 {
		pause := time.NewTimer(max(wait, time.Millisecond))
		select {
		case ev := <-l.urgent:
			pause.Stop()
			l.handle(ev, time.Now())
			return
		case <-pause.C:
		}
		wait = 0
		if time.Since(now) > unread { // a flood of something else
			break
		}
	}
	l.handle(Tick{}, time.Now())
}

func (l *Loop) handle(ev Event, now time.Time) {
	if _, silent := ev.(Unanswered); silent && l.ports.Adverts.Unread() {
		return // it will be told again; what waits there comes first
	}
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
	case Once, Activate, AddAddresses, Ready, Announce, YieldFlows:
		l.workers.switching <- a
	case RemoveAddresses:
		l.workers.remove(a)
	case TakeFlows:
		l.workers.take(a)
	case FlushFlows:
		l.workers.flush(a)
	case WatchForwarding:
		l.workers.watch(a)
	case ApplyPlan:
		l.workers.plan(a)
	case DeleteFlows:
		l.workers.deletions <- a
	case MoveFlows:
		l.workers.moves <- a
	case DropAddresses:
		l.workers.drops <- a
	case Source:
		l.ports.Probe(a)
	case Publish:
		state := l.writer.encode(a.State)
		l.ports.Gossip.Publish(state)
		if l.ports.Lans != nil {
			l.ports.Lans.Publish(state)
		}
	case Look:
		if l.ports.Lans != nil {
			l.ports.Lans.Look(a)
		}
	case Pulse:
		if l.ports.Pulse != nil {
			l.ports.Pulse(a)
		}
	case Send:
		if a.Wide && l.ports.Lans != nil {
			l.ports.Lans.Send(a.To, a.Message.Encode())
		}
		l.workers.send(a)
	case SendTo:
		if err := l.ports.Gossip.SendTo(a.To, string(a.Message.Kind), a.Message.Encode()); err != nil {
			l.log.Debug("tell a stranger", "error", err)
		}
	case Remember:
		l.workers.remember(a)
	case ReadFile, Adopt, Rest, KeepSwitches:
		l.workers.files <- a
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
	l.handle(Command{ID: l.nextID, Verb: a.verb, Args: a.args}, time.Now())
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
func (l *Loop) Command(ctx context.Context, verb Verb, args Args) error {
	a := ask{verb: verb, args: args, answer: make(chan string, 1)}
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
