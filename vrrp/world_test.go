package vrrp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// world plays a script: the election alone, of some speakers in virtual time,
// over wires that lose, delay, copy and reorder adverts. All that happens by
// chance stands in the script, so that it can be played again and shortened.
// See watch for what may never be.
type world struct {
	script   script
	now      time.Duration
	seq      int
	queue    worldQueue
	speakers []*speaker
	wires    [][]wire // from, to
	watch    watch
	log      []string
}

// speaker is one node, or a router that is none of ours.
type speaker struct {
	spec
	index   int
	address netip.Addr
	elect   elector
	up      bool
	asleep  bool
	since   time.Duration // asleep
	rules   time.Duration // since when it is master
	waits   []packet      // in its socket meanwhile
	life    int           // of the process: what an earlier one began is void
	turn    int           // of its adverts
	alarm   int           // the wake-up that is pending
	says    Advertise     // zero Interval: silent

	claims  int
	handing int           // where to, plus one
	until   time.Duration // then it is off
}

// elector is a Machine, or a plainRouter.
type elector interface {
	Handle(Event, time.Time) []Action
	Deadline() time.Time
	State() State
}

// packet is an advert, or a word between two of our nodes.
type packet struct {
	from int
	word word
	Heard
}

type word uint8

const (
	noWord word = iota
	wordClaim
	wordHandover
	wordTaken
	wordCancel
	wordRefused
)

// wire is one direction between two speakers.
type wire struct {
	cut         bool
	lose, delay int // adverts, of the next
	late        time.Duration
	again       time.Duration // the next advert comes a second time, so long after
}

const (
	wireTakes = 500 * time.Microsecond
	workTakes = 2 * time.Millisecond // addresses in the kernel
	// asLong is how long a hand-over may take, and nodes ask so often (package ha).
	asLong, askings = time.Second, 3
)

type worldEvent struct {
	at   time.Duration
	seq  int
	node int // -1 of none
	life int // of the node
	turn int // 0, or of its adverts
	// What happens: the first of these that is set.
	alarm  int
	packet *packet
	do     func()
}

// worldQueue is a heap; container/heap takes twice the time.
type worldQueue []worldEvent

func (q worldQueue) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}

func (q *worldQueue) push(ev worldEvent) {
	*q = append(*q, ev)
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *worldQueue) pop() worldEvent {
	h := *q
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		down := 2*i + 1
		if down+1 < last && h.less(down+1, down) {
			down++
		}
		if down >= last || !h.less(down, i) {
			return first
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
}

// dawn is when the clocks begin. Each runs by its own drift.
var dawn = time.Unix(1_000_000, 0)

func (s *speaker) clock(now time.Duration) time.Time {
	return dawn.Add(now + now*time.Duration(s.drift)/1_000_000)
}

// when is the time at which the clock of s shows t.
func (s *speaker) when(t time.Time) time.Duration {
	local := t.Sub(dawn)
	at := local * 1_000_000 / time.Duration(1_000_000+s.drift)
	for s.clock(at).Before(t) {
		at++
	}
	return at
}

func newWorld(sc script) *world {
	w := &world{script: sc}
	for i, sp := range sc.speakers {
		w.speakers = append(w.speakers, &speaker{spec: sp, index: i, address: netip.AddrFrom4([4]byte{192, 0, 2, sp.name[1] - '0'})})
		w.wires = append(w.wires, make([]wire, len(sc.speakers)))
	}
	w.watch = newWatch(w)
	for _, h := range sc.happenings {
		w.push(worldEvent{at: h.at, node: -1, do: func() { w.happen(h) }})
	}
	return w
}

func (w *world) push(ev worldEvent) {
	w.seq++
	ev.seq = w.seq
	w.queue.push(ev)
}

// play runs the script to its end and tells what was wrong.
func (w *world) play() []string {
	for len(w.queue) > 0 && w.queue[0].at <= w.script.end && len(w.watch.wrong) == 0 {
		ev := w.queue.pop()
		w.watch.until(ev.at)
		w.now = ev.at
		if ev.node >= 0 {
			w.arrive(ev)
		} else {
			ev.do()
		}
		w.watch.look()
	}
	if len(w.watch.wrong) == 0 {
		w.watch.until(w.script.end)
	}
	return w.watch.wrong
}

func (w *world) note(format string, a ...any) {
	if w.script.verbose {
		w.log = append(w.log, fmt.Sprintf("%v ", w.now)+fmt.Sprintf(format, a...))
	}
}

func (w *world) arrive(ev worldEvent) {
	s := w.speakers[ev.node]
	if !s.up || ev.packet == nil && ev.life != s.life {
		return
	}
	switch {
	case ev.packet != nil:
		if s.asleep {
			s.waits = append(s.waits, *ev.packet)
			return
		}
		w.receive(s, *ev.packet)
	case s.asleep && ev.do == nil: // its timers and adverts go on when it wakes up
	case ev.alarm > 0:
		if ev.alarm == s.alarm {
			w.handle(s, Tick{})
			if due := s.elect.Deadline(); !due.IsZero() && !due.After(s.clock(w.now)) {
				w.watch.fail("%s spins: a deadline of %v ago stays", s.name, s.clock(w.now).Sub(due))
			}
		}
	case ev.turn > 0:
		if ev.turn == s.turn {
			w.repeat(s)
		}
	default:
		ev.do()
	}
}

// happen does one line of the script.
func (w *world) happen(h happening) {
	w.note("--- %s", h)
	w.watch.disturb()
	for _, i := range h.nodes {
		s := w.speakers[i]
		switch h.what {
		case "boot":
			w.boot(s)
		case "crash":
			s.up, s.asleep, s.waits, s.says = false, false, nil, Advertise{}
			s.life++
		case "stop":
			if s.up && !s.asleep {
				w.handle(s, Stop{Reason: "leaving"})
				s.up = false
				s.life++
			}
		case "sleep":
			w.sleep(s, h.d)
		case "priority":
			if s.up && !s.asleep && !s.foreign {
				s.priority = uint8(h.n)
				w.handle(s, SetPriority{Priority: s.priority})
			}
		case "interval":
			s.interval = h.d // a restarted one reads it too
			if s.up && !s.asleep {
				w.handle(s, Configure{Version: w.script.version, Interval: h.d, Rank: s.address, Preempt: w.script.preempt, PreemptDelay: w.script.delay})
			}
		}
	}
	if len(h.nodes) != 2 && h.what != "mend" {
		return
	}
	switch h.what {
	case "cut":
		w.wires[h.nodes[0]][h.nodes[1]].cut = true
	case "lose":
		w.wires[h.nodes[0]][h.nodes[1]].lose = h.n
	case "delay":
		wr := &w.wires[h.nodes[0]][h.nodes[1]]
		wr.delay, wr.late = h.n, h.d
	case "copy":
		w.wires[h.nodes[0]][h.nodes[1]].again = h.d
	case "mend":
		if len(h.nodes) == 2 {
			w.wires[h.nodes[0]][h.nodes[1]] = wire{}
			return
		}
		for i := range w.wires {
			clear(w.wires[i])
		}
	}
}

func (w *world) boot(s *speaker) {
	if s.up {
		return
	}
	s.life++
	s.up, s.asleep, s.waits, s.claims, s.handing = true, false, nil, 0, 0
	if s.foreign {
		s.elect = &plainRouter{version: w.script.version, priority: s.priority, interval: cmp.Or(s.interval, w.script.interval), address: s.address, preempt: s.preempt}
	} else {
		s.elect = NewMachine(MachineConfig{
			Version: w.script.version, Priority: s.priority, Interval: cmp.Or(s.interval, w.script.interval), Rank: s.address,
			Preempt: w.script.preempt, PreemptDelay: w.script.delay,
		})
	}
	w.handle(s, Start{})
}

// sleep lets a machine stand still: what comes waits in its sockets.
func (w *world) sleep(s *speaker, d time.Duration) {
	if !s.up || s.asleep {
		return
	}
	s.asleep, s.since = true, w.now
	w.push(worldEvent{at: w.now + d, node: s.index, life: s.life, do: func() { w.wake(s) }})
}

// wake is what the loop of package ha does: it notices first that it slept, then
// reads what waits, then looks at the timers.
func (w *world) wake(s *speaker) {
	w.note("--- %s wakes up", s.name)
	w.watch.disturb()
	s.asleep = false
	if slept := w.now - s.since; !s.foreign && slept > max(w.script.interval, 50*time.Millisecond) {
		w.handle(s, Overslept{})
		w.watch.listens = w.now + listening(w.watch.longest) + comeRound - 3*w.watch.longest
	}
	waits := s.waits
	s.waits = nil
	for _, p := range waits {
		w.receive(s, p)
	}
	if s.says.Interval > 0 {
		w.repeat(s)
	}
	w.wakeUp(s)
}

func (w *world) wakeUp(s *speaker) {
	s.alarm++
	if due := s.elect.Deadline(); !due.IsZero() {
		w.push(worldEvent{at: max(s.when(due), w.now), node: s.index, life: s.life, alarm: s.alarm})
	}
}

func (w *world) handle(s *speaker, ev Event) {
	due := s.elect.Deadline()
	for _, a := range s.elect.Handle(ev, s.clock(w.now)) {
		w.perform(s, a)
	}
	if _, tick := ev.(Tick); tick || !s.elect.Deadline().Equal(due) {
		w.wakeUp(s)
	}
}

func (w *world) perform(s *speaker, a Action) {
	switch a := a.(type) {
	case Advertise:
		s.says = a
		w.watch.dirty = true // it may have ended its doubt
		w.repeat(s)
	case Silence:
		s.says = Advertise{}
		s.turn++
	case Farewell:
		w.send(s, 0)
	case Become:
		w.note("%s becomes %v: %s", s.name, a.State, a.Reason)
		s.claims = 0
		if a.State != Master {
			s.handing = 0
		}
		w.watch.became(s, a.State)
	case Claim:
		s.claims++
		i := slices.IndexFunc(w.speakers, func(o *speaker) bool { return o.name == a.Master })
		if s.claims > askings {
			w.handle(s, Insist{})
		} else {
			w.say(s, i, wordClaim)
		}
	}
}

// repeat sends an advert now and then each interval.
func (w *world) repeat(s *speaker) {
	w.send(s, s.says.Priority)
	s.turn++
	w.push(worldEvent{at: s.when(s.clock(w.now).Add(s.says.Interval)), node: s.index, life: s.life, turn: s.turn})
}

func (w *world) send(s *speaker, priority uint8) {
	interval := s.says.Interval
	if interval == 0 {
		interval = cmp.Or(s.interval, w.script.interval)
	}
	p := &packet{from: s.index, Heard: Heard{Speaker: s.name, Rank: s.address, Priority: priority, Interval: interval, Ours: !s.foreign}}
	for i, o := range w.speakers {
		wr := &w.wires[s.index][i]
		if o == s || !o.up {
			continue
		}
		if wr.cut {
			continue
		}
		after := wireTakes + time.Duration(s.index*7+i)*time.Microsecond
		switch {
		case wr.lose > 0:
			wr.lose--
			w.watch.disturb()
			continue
		case wr.delay > 0:
			wr.delay--
			after += wr.late
			w.late(after)
		case wr.again > 0:
			w.push(worldEvent{at: w.now + after + wr.again, node: i, packet: p})
			w.late(after + wr.again)
			wr.again = 0
		}
		w.push(worldEvent{at: w.now + after, node: i, packet: p})
	}
}

// late is a disturbance until a packet has come.
func (w *world) late(after time.Duration) {
	w.watch.disturb()
	w.push(worldEvent{at: w.now + after, node: -1, do: w.watch.disturb})
}

// say sends a word to another of our nodes.
func (w *world) say(s *speaker, to int, what word) {
	if w.wires[s.index][to].cut {
		return
	}
	w.push(worldEvent{at: w.now + wireTakes, node: to, packet: &packet{from: s.index, word: what}})
}

func (w *world) receive(s *speaker, p packet) {
	from := w.speakers[p.from]
	if s.foreign && p.word != noWord {
		return
	}
	switch p.word {
	case noWord:
		w.handle(s, p.Heard)
	case wordClaim:
		if s.elect.State() != Master || s.handing > 0 || from.priority <= s.priority {
			w.say(s, p.from, wordRefused)
			return
		}
		w.handle(s, Yield{To: from.name, Until: s.clock(w.now).Add(asLong)})
		s.handing, s.until = p.from+1, w.now+asLong
		w.say(s, p.from, wordHandover)
		until := s.until
		w.push(worldEvent{at: until, node: s.index, life: s.life, do: func() { w.giveUp(s, until) }})
	case wordHandover:
		if s.elect.State() != Backup {
			w.say(s, p.from, wordRefused)
			return
		}
		w.handle(s, Promote{From: from.name, Quiet: true, For: asLong, Reason: "word of " + from.name})
		w.confirm(s, p.from)
	case wordTaken:
		if s.handing == p.from+1 {
			w.handle(s, Demote{Reason: "handed over"})
		}
	case wordCancel:
		if s.elect.State() == Master {
			w.handle(s, Yield{To: from.name, Until: s.clock(w.now).Add(asLong)})
		}
	case wordRefused:
		s.claims = 0
		w.giveUp(s, s.until)
	}
}

// confirm ends the quiet of a successor once the addresses are in place.
func (w *world) confirm(s *speaker, from int) {
	w.push(worldEvent{at: w.now + workTakes, node: s.index, life: s.life, do: func() {
		switch {
		case s.asleep:
			w.confirm(s, from)
		case s.elect.State() == Master:
			w.handle(s, Confirm{})
			w.say(s, from, wordTaken)
			// Until then adverts that came late hide that the old one is master anew.
			w.watch.handed = w.now + slow(overlap(w.watch.longest))
		}
	}})
}

// giveUp ends a hand-over that was not confirmed.
func (w *world) giveUp(s *speaker, until time.Duration) {
	if s.handing == 0 || s.until != until {
		return
	}
	to := s.handing - 1
	s.handing = 0
	w.handle(s, Yield{})
	w.say(s, to, wordCancel)
}
