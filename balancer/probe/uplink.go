package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"harouter/balancer"
)

const (
	// backlog is how many rounds may wait for a slow receiver, beyond those
	// that overlap anyway.
	backlog = 12
	// A deadline that is noticed overslept too late means that this process
	// did not run (stopped, a frozen machine). Answers may lie unread in the
	// sockets; they get drain to be read before they count as missing.
	overslept = 25 * time.Millisecond
	drain     = 50 * time.Millisecond
	// kickAgain is the least time between two rounds, whoever wishes for them.
	kickAgain = 10 * time.Millisecond
	// homelessMost is how long rounds without their source are taken for a change
	// of the role that is under way.
	homelessMost = 3 * time.Second
)

// answer is what one target did.
type answer struct {
	round *round
	who   int
	rtt   time.Duration
	err   error
}

// uplink runs the rounds of one uplink; all but source, told, gateway and kick
// belongs to the goroutine of run, or of Prober.
type uplink struct {
	Uplink
	given           Uplink // before defaults were filled in
	log             *slog.Logger
	source, gateway atomic.Pointer[netip.Addr]
	told            atomic.Bool // of the source
	kick            chan struct{}

	after <-chan struct{} // rounds may not begin before this is closed
	ended chan struct{}   // nothing is reported after this
	stop  context.CancelFunc
	busy  atomic.Bool // in Report

	asking   sync.WaitGroup
	answers  chan answer
	heard    chan netip.Addr
	socket   *arpSocket // nil until it is needed
	open     []*round   // not over yet, in the order of their deadlines
	queue    []*round   // not handed on yet, in the order of their beginning
	jammed   bool
	homeless time.Time // when the first of the rounds without a source began; zero: the last one had it
	witness  *witness  // nil: the last round was good, or it cannot be had
}

// closed is the after of an uplink that needs not wait.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func newUplink(c Uplink, log *slog.Logger) *uplink {
	given := c
	if c.Interval <= 0 {
		c.Interval = time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = 800 * time.Millisecond
	}
	u := &uplink{
		Uplink: c, given: given, log: log,
		after: closed, ended: closed, stop: func() {},
		kick:    make(chan struct{}, 1),
		answers: make(chan answer),
		heard:   make(chan netip.Addr),
	}
	u.source.Store(&netip.Addr{})
	u.gateway.Store(&c.Gateway)
	return u
}

// run probes until ctx ends and hands the rounds on; it returns when all that
// it started has ended.
func (u *uplink) run(ctx context.Context, rounds chan<- balancer.Round) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		u.hangUp()
		u.dismiss()
		u.asking.Wait()
	}()
	next := time.Now()
	var last time.Time
	begin, deadline := time.NewTimer(0), time.NewTimer(0)
	defer begin.Stop()
	defer deadline.Stop()

	for {
		var out chan<- balancer.Round
		var head balancer.Round
		for len(u.queue) > 0 && u.queue[0].decided && u.isVoid(u.queue[0]) {
			u.queue = u.queue[1:]
		}
		if len(u.queue) > 0 && u.queue[0].decided {
			u.weigh(u.queue[0])
			out, head = rounds, u.queue[0].result
		}
		if ctx.Err() != nil { // the others may be ready, too
			return
		}
		select {
		case <-ctx.Done():
			return
		case out <- head:
			u.queue = u.queue[1:]
		case a := <-u.answers:
			u.take(a)
		case who := <-u.heard:
			u.hear(who)
		case <-deadline.C:
			u.expire()
		case <-u.kick:
			if soon := latest(time.Now(), last.Add(min(u.Interval/10, kickAgain))); soon.Before(next) {
				next = soon
			}
		case <-begin.C:
			now := time.Now()
			if now.Before(next) {
				break
			}
			u.begin(ctx, now)
			last, next = now, next.Add(u.Interval)
			if next.Before(now) {
				// Rounds that were slept through are not made up for.
				next = now.Add(u.Interval)
			}
		}
		begin.Reset(time.Until(next))
		if len(u.open) > 0 {
			deadline.Reset(time.Until(u.open[0].deadline))
		} else {
			deadline.Stop()
		}
	}
}

// isVoid tells whether a bad round says nothing about the line: its source has
// left this machine. A virtual address goes when the role does, or when the guard
// takes it, a moment before the source is told anew; answers to what was asked
// from it go to another node. Were these rounds counted, a change of the role on
// a slow machine would end the connections of a line that works.
func (u *uplink) isVoid(r *round) bool {
	if r.result.Good || !r.homeless {
		u.homeless = time.Time{}
		return !r.result.Good && r.source.IsValid() && r.source != *u.source.Load()
	}
	if u.homeless.IsZero() {
		u.homeless = r.began
	}
	return r.began.Sub(u.homeless) < homelessMost
}

// weigh asks, for a round that is bad, whether the line carries traffic all the
// same. The first of several calls a witness; those after it hear what it saw
// since.
func (u *uplink) weigh(r *round) {
	if r.weighed {
		return
	}
	r.weighed = true
	if r.result.Good {
		u.dismiss()
		return
	}
	dev, err := lookDevice(u.Device)
	if err != nil || u.witness != nil && u.witness.index != dev.index() {
		u.dismiss()
		return
	}
	if u.witness != nil {
		r.result.Carries = u.witness.saw(time.Now())
		return
	}
	if u.witness, err = openWitness(dev, *u.gateway.Load()); err != nil {
		u.log.Warn("see whether a line carries traffic that is not answered", "error", err)
	}
}

// dismiss lets the witness go.
func (u *uplink) dismiss() {
	if u.witness != nil {
		u.witness.close()
		u.witness = nil
	}
}

// begin starts a round: every target is asked, or the gateway.
func (u *uplink) begin(ctx context.Context, now time.Time) {
	if full := len(u.queue) >= backlog+int(u.Timeout/u.Interval); full != u.jammed {
		u.jammed = full
		if full {
			u.log.Warn("rounds are not taken, probing pauses", "waiting", len(u.queue))
		}
	}
	if u.jammed {
		return
	}
	source := *u.source.Load()
	noSource := !source.IsValid() || source.IsUnspecified()
	onlyARP := noSource && slices.ContainsFunc(u.Targets, func(t Target) bool { return t.Method != ARP })
	r := &round{
		began: now, timeout: u.Timeout, deadline: now.Add(u.Timeout), quorum: 1,
		result: balancer.Round{Uplink: u.Name, OnlyARP: onlyARP},
		cancel: func() {},
	}
	u.queue = append(u.queue, r)
	err := carries(u.Device)
	switch {
	case err != nil:
		r.refuse(err.Error())
	case u.gateway.Load().IsUnspecified() && noSource, u.OwnOnly && noSource && u.told.Load():
		r.refuse("the line has no address")
	case u.gateway.Load().IsUnspecified() && len(u.Targets) == 0: // there is nobody else to ask
		r.decided, r.result.Good = true, true
	case onlyARP:
		if err := u.askGateway(r, source); err != nil {
			r.refuse(fmt.Sprintf("no own address to probe from; %v", err))
		}
	case len(u.Targets) == 0:
		if err := u.askGateway(r, source); err != nil {
			r.refuse(err.Error())
		}
	default:
		u.askTargets(ctx, r, source)
	}
	if !r.over() {
		u.open = append(u.open, r)
	}
}

// askTargets asks every target by its method.
func (u *uplink) askTargets(ctx context.Context, r *round, source netip.Addr) {
	ctx, r.cancel = context.WithCancel(ctx)
	r.quorum = min(max(u.Quorum, 1), len(u.Targets))
	for _, t := range u.Targets { // all are counted before the first can fail
		r.ask(t.String())
	}
	arp := false
	for who, t := range u.Targets {
		if t.Method != ARP {
			r.source = source
		} else {
			arp = true
			r.neighbours[who] = t.Address
			if err := u.send(source, t.Address); err != nil {
				r.failed(who, fmt.Sprintf("%v: %v", t, err))
			}
			continue
		}
		tell := func(a answer) {
			select {
			case u.answers <- a:
			case <-ctx.Done():
			}
		}
		u.asking.Go(func() {
			err := t.ask(ctx, source, u.Mark, func(rtt time.Duration) {
				tell(answer{round: r, who: who, rtt: rtt})
			})
			if err != nil {
				tell(answer{round: r, who: who, err: err})
			}
		})
	}
	if !arp {
		u.hangUp()
	}
	if r.over() {
		r.cancel()
	}
}

// askGateway asks the gateway by ARP.
func (u *uplink) askGateway(r *round, own netip.Addr) error {
	gateway := *u.gateway.Load()
	if !gateway.IsValid() {
		return fmt.Errorf("no gateway of %s is known to ask", u.Name)
	}
	if err := u.send(own, gateway); err != nil {
		return fmt.Errorf("gateway %v: %w", gateway, err)
	}
	r.neighbours[r.ask(fmt.Sprintf("gateway %v", gateway))] = gateway
	return nil
}

// send sends an ARP request, with own as the sender where that is possible.
func (u *uplink) send(own, neighbour netip.Addr) error {
	if !neighbour.Is4() {
		return errors.New("no IPv4 address to ask for")
	}
	dev, err := lookDevice(u.Device)
	switch {
	case err != nil:
		return err
	case !dev.speaksARP():
		return fmt.Errorf("%s does not speak ARP: the probe needs targets of another method", u.Device)
	}
	if u.socket != nil && !u.socket.usable(dev.index()) {
		u.hangUp()
	}
	if u.socket == nil {
		if u.socket, err = openARP(dev, u.heard); err != nil {
			return err
		}
	}
	if err := u.socket.ask(dev.hw(), dev.sender(own, neighbour), neighbour); err != nil {
		return fmt.Errorf("ask on %s: %w", u.Device, err)
	}
	return nil
}

// take takes in what a target did.
func (u *uplink) take(a answer) {
	if a.err != nil {
		a.round.homeless = a.round.homeless || errors.Is(a.err, syscall.EADDRNOTAVAIL)
		a.round.failed(a.who, a.err.Error())
	} else {
		a.round.answered(a.who, a.rtt)
	}
	u.sweep()
}

// hear takes in an ARP reply. It does not tell which request it answers, so it
// counts for every round that asked for that address: the neighbour lives.
func (u *uplink) hear(who netip.Addr) {
	for _, r := range u.open {
		for n, asked := range r.neighbours {
			if asked == who {
				r.answered(n, time.Since(r.began))
			}
		}
	}
	u.sweep()
}

// expire ends the rounds whose time is up; if it comes too late for that
// itself, they get one more moment.
func (u *uplink) expire() {
	for quiet := false; !quiet; {
		select {
		case a := <-u.answers:
			u.take(a)
		case who := <-u.heard:
			u.hear(who)
		default:
			quiet = true
		}
	}
	now := time.Now()
	late := len(u.open) > 0 && now.Sub(u.open[0].deadline) > overslept
	for _, r := range u.open {
		if late && !r.extended {
			r.extended, r.deadline = true, latest(r.deadline, now.Add(drain))
		}
		if !r.deadline.After(now) {
			r.expire()
		}
	}
	u.sweep()
}

// sweep lets go of the rounds that are over.
func (u *uplink) sweep() {
	u.open = slices.DeleteFunc(u.open, func(r *round) bool {
		if r.over() {
			r.cancel()
		}
		return r.over()
	})
}

// hangUp closes the ARP socket.
func (u *uplink) hangUp() {
	if u.socket != nil {
		u.socket.close()
		u.socket = nil
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
