package ha

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// chaos makes the wires and edges of a sim behave badly, by a seed, and notes
// what may never be: two holders, no holder, a machine that spins.
type chaos struct {
	s     *sim
	seed  uint64
	menu  menu
	wires map[string]*rand.Rand // one for each direction, so that map order does not matter
	calm  bool                  // healed: wires and edges behave

	both     map[[2]string]time.Time // since when two masters could hear each other
	several  time.Time               // since when more than one holds the addresses
	none     time.Duration           // how long nobody has, although somebody could
	worst    struct{ several, none time.Duration }
	problems []string
}

// strain is what chaos does to one node.
type strain struct {
	born     time.Time
	frozen   time.Time // zero: it runs
	machine  bool      // the whole machine stands still, the guard with it
	fenced   bool
	backlog  []func()
	deaf     map[string]bool // nodes whose adverts on the lan do not arrive
	state    *PeerState
	words    map[string]time.Time // when another node's state came last
	order    map[string]int       // its number: an older one is not taken
	number   int
	busy     map[string]time.Time // by worker
	begun    map[string]int       // by worker, and not done
	pending  *ApplyPlan
	applying bool
	spins    int
	full     int // files that cannot be kept yet
	ticks    []time.Time
	publish  []time.Time
}

func (c *chaos) fail(format string, a ...any) {
	if len(c.problems) < 20 {
		c.problems = append(c.problems, fmt.Sprintf("%v ", c.s.now.Sub(c.s.start))+fmt.Sprintf(format, a...))
	}
}

// dice are the random numbers of one wire or worker.
func (c *chaos) dice(name string) *rand.Rand {
	r := c.wires[name]
	if r == nil {
		h := fnv.New64a()
		h.Write([]byte(name))
		r = rand.New(rand.NewPCG(c.seed, h.Sum64()))
		c.wires[name] = r
	}
	return r
}

// newChaos makes s bad. The nodes have to be booted afterwards.
func newChaos(s *sim, seed uint64, m menu) *chaos {
	c := &chaos{s: s, seed: seed, menu: m, wires: map[string]*rand.Rand{}, both: map[[2]string]time.Time{}}
	s.chaos = c
	for _, n := range s.all() {
		n.strain = strain{deaf: map[string]bool{}}
		c.gossip(n)
	}
	return c
}

// boot starts nodes with nothing of their former lives.
func (c *chaos) boot(names ...string) {
	for _, name := range names {
		n := c.s.nodes[name]
		n.strain = strain{
			born: c.s.now, deaf: n.strain.deaf, number: n.strain.number, words: map[string]time.Time{},
			order: map[string]int{}, busy: map[string]time.Time{}, begun: map[string]int{},
		}
		c.s.boot(name)
	}
}

// gossip tells the newest state of a node again and again, and notices nodes
// that are not heard any more.
func (c *chaos) gossip(n *simNode) {
	c.s.after(300*time.Millisecond, func() {
		if n.running && n.strain.frozen.IsZero() {
			if n.strain.state != nil {
				c.tell(n)
			}
			for _, o := range c.s.all() {
				if at, ok := n.strain.words[o.name]; ok && c.s.now.Sub(at) > 1200*time.Millisecond {
					delete(n.strain.words, o.name)
					n.handle(PeerLost{Node: o.name})
				}
			}
		}
		c.gossip(n)
	})
}

// knows tells whether two nodes stand in each other's files: gossip refuses all
// others.
func knows(a, b *simNode) bool {
	_, ab := a.cfg.node(b.name)
	_, ba := b.cfg.node(a.name)
	return ab && ba
}

func (c *chaos) tell(n *simNode) {
	n.strain.number++
	state, number := *n.strain.state, n.strain.number
	for _, o := range c.s.all() {
		if o == n {
			continue
		}
		for _, d := range c.wire(n, o, true) {
			c.s.after(d, func() {
				if o.lost[n.name] || !o.running || !knows(n, o) || o.strain.order[n.name] >= number {
					return
				}
				o.strain.order[n.name], o.strain.words[n.name] = number, c.s.now
				o.handle(PeerTold{State: state})
			})
		}
	}
}

// wire tells after which times something that is sent now arrives.
func (c *chaos) wire(from, to *simNode, packet bool) []time.Duration {
	r := c.dice(from.name + ">" + to.name)
	d := simDelay + time.Duration(from.name[1]-'0')*time.Microsecond + time.Duration(to.name[1]-'0')*10*time.Microsecond
	if !c.menu.lossy || c.calm {
		return []time.Duration{d}
	}
	d += time.Duration(r.IntN(2000)) * time.Microsecond
	p := r.IntN(100)
	switch {
	case p < 80:
		return []time.Duration{d}
	case p < 84:
		return []time.Duration{d, d + time.Duration(r.IntN(300))*time.Millisecond}
	case p < 96 && !packet: // the copy over TCP
		return []time.Duration{d + time.Duration(50+r.IntN(350))*time.Millisecond}
	case p < 99 && !packet:
		return []time.Duration{d + time.Duration(r.IntN(1500))*time.Millisecond}
	}
	return nil
}

// advert tells after which times one arrives: none, late, so that others come
// before it, or twice.
func (c *chaos) advert(from, to *simNode, link string) []time.Duration {
	if link != "" && to.strain.deaf[from.name] {
		return nil
	}
	if c.calm || !c.menu.lossy {
		return []time.Duration{simDelay}
	}
	switch r := c.dice("advert" + from.name + ">" + to.name); r.IntN(40) {
	case 0, 1:
		return nil
	case 2:
		return []time.Duration{simDelay, simDelay + time.Duration(r.IntN(200))*time.Millisecond}
	case 3, 4:
		return []time.Duration{simDelay + time.Duration(r.IntN(60))*time.Millisecond}
	}
	return []time.Duration{simDelay}
}

// mute tells whether the thread that repeats adverts does not.
func (c *chaos) mute(n *simNode) bool {
	f := n.strain.frozen
	return !f.IsZero() && (n.strain.machine || c.s.now.Sub(f) > Lease(n.cfg.Advertise))
}

// defers keeps events for a node that stands still.
func (c *chaos) defers(n *simNode, ev Event) bool {
	if n.strain.frozen.IsZero() {
		return false
	}
	switch ev.(type) {
	case Tick, Probed:
	default:
		n.strain.backlog = append(n.strain.backlog, func() { n.handle(ev) })
	}
	return true
}

// freeze stops a process, or its whole machine, for d.
func (c *chaos) freeze(n *simNode, d time.Duration, machine bool) {
	if !n.running || !n.strain.frozen.IsZero() {
		return
	}
	life, at := n.life, c.s.now
	n.strain.frozen, n.strain.machine, n.strain.fenced = at, machine, false
	if !machine {
		c.s.after(Lease(n.cfg.Advertise), func() {
			if n.life == life && n.strain.frozen.Equal(at) && n.guard.Holding && n.guard.PeerAlive {
				c.fence(n)
			}
		})
	}
	c.s.after(d, func() {
		if n.life != life || !n.running {
			return
		}
		backlog, fenced := n.strain.backlog, n.strain.fenced
		n.strain.frozen, n.strain.backlog = time.Time{}, nil
		if d > sleepLimit(n.cfg.Advertise) { // else nobody notices
			n.handle(Overslept{For: d})
		}
		if fenced {
			n.handle(Fenced{})
		}
		for _, do := range backlog {
			if n.life == life && n.running {
				do()
			}
		}
	})
}

func (c *chaos) fence(n *simNode) {
	n.strain.fenced = true
	n.hold(false)
	n.word()
	n.send(0)
}

// crash ends a process; its guard does what it was told.
func (c *chaos) crash(n *simNode) {
	n.running, n.repeat = false, Advertise{}
	n.turn++
	n.exit = &Exit{Keep: true}
	if n.guard.Holding && n.guard.PeerAlive {
		c.s.after(10*time.Millisecond, func() {
			if !n.running {
				n.exit = &Exit{}
				c.fence(n)
			}
		})
	}
}

// holders watches who holds the addresses.
func (c *chaos) holders() {
	count := 0
	for _, n := range c.s.all() {
		if n.holds {
			count++
		}
	}
	switch {
	case count > 1 && c.several.IsZero():
		c.several = c.s.now
	case count <= 1 && !c.several.IsZero():
		c.overlap(c.s.now.Sub(c.several))
		c.several = time.Time{}
	}
}

func (c *chaos) overlap(d time.Duration) {
	c.worst.several = max(c.worst.several, d)
	if limit := c.overlapLimit(); d > limit {
		c.fail("two held the addresses for %v, at most %v", d, limit)
	}
}

func (c *chaos) overlapLimit() time.Duration {
	switch {
	case c.menu.partition || c.menu.freeze:
		return time.Hour
	case c.menu.slow:
		return 5 * time.Second
	case c.menu.lossy && c.menu.forged:
		return 2 * time.Second
	case c.menu.lossy:
		return 600 * time.Millisecond
	}
	return 60 * time.Millisecond
}

const chaosStep = 10 * time.Millisecond

// run lets d pass and looks at who holds the addresses.
func (c *chaos) run(d time.Duration) {
	for end := c.s.now.Add(d); c.s.now.Before(end); {
		c.s.run(min(chaosStep, end.Sub(c.s.now)))
		c.masters()
		able, held := false, false
		for _, n := range c.s.all() {
			held = held || n.holds
			able = able || n.running && n.strain.frozen.IsZero() && c.s.now.Sub(n.strain.born) > seekFor+600*time.Millisecond &&
				n.m.lans() > 0 && n.m.stopping == 0
		}
		if held || !able {
			c.none = 0
			continue
		}
		c.none += chaosStep
		c.worst.none = max(c.worst.none, c.none)
		limit := 500 * time.Millisecond
		switch {
		case c.menu.slow:
			limit = 8 * time.Second
		case c.menu.lossy || c.menu.freeze || c.menu.partition || c.menu.forged || c.files():
			limit = 1500 * time.Millisecond
		}
		if c.none == limit+chaosStep {
			c.fail("nobody held the addresses for %v", limit)
		}
	}
}

// files tells whether a node has just taken a file into use: the word over gossip
// stands for adverts then, see hearInstead.
func (c *chaos) files() bool {
	return slices.ContainsFunc(c.s.all(), func(n *simNode) bool {
		return n.m != nil && n.clock().Sub(n.m.changedFile) < 2*wordFresh+settleFor/2
	})
}

// masters looks for two that are sure to be master and hear each other.
func (c *chaos) masters() {
	all := c.s.all()
	for i, a := range all {
		for _, b := range all[:i] {
			pair := [2]string{a.name, b.name}
			if !a.rules() || !b.rules() || a.lost[b.name] || b.lost[a.name] || a.strain.deaf[b.name] || b.strain.deaf[a.name] || !knows(a, b) {
				delete(c.both, pair)
				continue
			}
			since, ok := c.both[pair]
			if !ok {
				c.both[pair] = c.s.now
				continue
			}
			limit := 2*a.cfg.Advertise + vouchLimit + 2*chaosStep
			switch {
			case c.calm:
			case c.menu.slow:
				limit += 4 * time.Second
			case c.menu.lossy:
				limit += 600 * time.Millisecond
			case c.menu.forged:
				limit += denialFor
			}
			if d := c.s.now.Sub(since); d > limit && d <= limit+chaosStep {
				c.fail("%s and %s are both master since %v and hear each other", b.name, a.name, since.Sub(c.s.start))
			}
		}
	}
}

// rules tells whether a node is master beyond doubt, and says so.
func (n *simNode) rules() bool {
	return n.running && n.strain.frozen.IsZero() && !n.stopped && n.m.Role() == RoleMaster && !n.m.vrrp.Suspect() &&
		n.m.handoff == nil && n.m.taking == nil && n.links["lan0"].Carrier
}

// handled watches that a machine does not spin.
func (c *chaos) handled(n *simNode, ev Event) {
	if _, ok := ev.(Tick); !ok || !n.running {
		return
	}
	n.strain.spins++
	if n.m.Deadline(n.clock()).After(n.clock()) {
		n.strain.spins = 0
	}
	if n.strain.spins == 2 {
		c.fail("%s spins: a deadline of %v ago stays", n.name, n.clock().Sub(n.m.Deadline(n.clock())))
	}
	if c.often(&n.strain.ticks, 150) {
		c.fail("%s wants 150 ticks within a second", n.name)
	}
}

func (c *chaos) often(times *[]time.Time, limit int) bool {
	t := append(*times, c.s.now)
	for c.s.now.Sub(t[0]) > time.Second {
		t = t[1:]
	}
	*times = t
	return len(t) == limit
}

// perform carries an action out over bad wires and slow edges; false leaves it
// to the sim.
func (c *chaos) perform(n *simNode, a Action) bool {
	switch a := a.(type) {
	case Activate:
		c.work(n, "switching", 0, func() { n.active, n.turned = a.Active, true })
	case Once:
		c.work(n, "switching", 0, func() { n.send(a.Priority) })
	case TakeFlows:
		c.work(n, "switching", time.Duration(c.dice("take"+n.name).IntN(50))*time.Millisecond, func() { n.flows.owned = a.Term })
	case YieldFlows:
		c.work(n, "switching", 0, func() { n.flows.owned = 0 })
	case Ready:
		c.work(n, "switching", simWork, func() { n.handle(Switched{Seq: a.Seq}) })
	case AddAddresses:
		err := c.broken(n, "addresses")
		c.work(n, "switching", simWork, func() {
			if n.flows.void < a.Seq {
				n.hold(true)
			}
			n.handle(Switched{Seq: a.Seq, Err: err})
		})
	case RemoveAddresses:
		n.flows.void = a.Seq
		c.work(n, "switching", simWork, func() { n.hold(false); n.handle(Switched{Seq: a.Seq}) })
	case ApplyPlan:
		n.strain.pending = &a
		if !n.strain.applying {
			c.apply(n)
		}
	case Rest:
		err := c.broken(n, "remember the maintenance")
		c.work(n, "files", simWork, func() {
			if err == nil {
				n.rests = a.On
			}
			n.handle(Rested{ID: a.ID, Err: err})
		})
	case ReadFile:
		c.read(n, a)
	case Adopt:
		c.adopt(n, a)
	case Publish:
		if c.often(&n.strain.publish, 60) {
			c.fail("%s tells its state 60 times within a second", n.name)
		}
		state, err := DecodePeerState(a.State.Encode())
		if err != nil {
			c.s.t.Fatal(err)
		}
		n.strain.state, n.greeting = &state, state
		c.tell(n)
		n.hello()
	case Send:
		msg, err := DecodeMessage(a.Message.Encode())
		if err != nil {
			c.s.t.Fatal(err)
		}
		if a.Wide {
			n.tellWide(a.To, msg)
		}
		o := c.s.nodes[a.To]
		life := o.life // gossip tells one from another
		for _, d := range c.wire(n, o, false) {
			c.s.after(d, func() {
				if o.life == life && !o.lost[n.name] && knows(n, o) {
					o.handle(Told{From: n.name, Message: msg})
				}
			})
		}
	default:
		return false
	}
	return true
}

func (c *chaos) broken(n *simNode, what string) error {
	if c.menu.failing && !c.calm && c.dice("fails"+n.name).IntN(4) == 0 {
		return fmt.Errorf("%s: no space left on device", what)
	}
	return nil
}

// work does something once a worker, which takes one thing after the other, has
// come to it.
func (c *chaos) work(n *simNode, worker string, d time.Duration, do func()) {
	if r := c.dice("work" + n.name); c.menu.slow && !c.calm && r.IntN(10) == 0 {
		d = time.Duration(1+r.IntN(3000)) * time.Millisecond
	}
	at := c.s.now
	if b := n.strain.busy[worker]; b.After(at) {
		at = b
	}
	at = at.Add(d)
	n.strain.busy[worker] = at
	behind := n.strain.begun[worker] > 0 // what was begun before may wait for this node to wake up
	n.strain.begun[worker]++
	life := n.life
	var then func()
	then = func() {
		switch {
		case n.life != life || !n.running:
		case !n.strain.frozen.IsZero():
			n.strain.backlog = append(n.strain.backlog, then)
		default:
			n.strain.begun[worker]--
			do()
		}
	}
	if d := at.Sub(c.s.now); d > 0 || behind {
		c.s.after(d, then)
		return
	}
	then()
}

func (c *chaos) apply(n *simNode) {
	a := *n.strain.pending
	n.strain.pending, n.strain.applying = nil, true
	if !n.turned {
		n.active = a.Plan.Active
	}
	n.lastPlan = a.Plan
	err := c.broken(n, "plan")
	c.work(n, "plan", simWork, func() {
		n.strain.applying = false
		n.handle(Applied{Seq: a.Seq, Err: err})
		if n.strain.pending != nil && !n.strain.applying {
			c.apply(n)
		}
	})
}

func (c *chaos) read(n *simNode, a ReadFile) {
	err := c.broken(n, "keep the file")
	c.work(n, "files", simWork, func() {
		text := n.disk
		switch {
		case a.Text != nil:
			text = string(a.Text)
		case a.Add != nil:
			text = string(n.cfg.Text) + "," + a.Add.Name
			if _, ok := n.cfg.node(a.Add.Name); ok {
				err = fmt.Errorf("%s is in the file", a.Add.Name)
			}
		case a.Remove != "":
			text = strings.NewReplacer(","+a.Remove, "", a.Remove+",", "").Replace(string(n.cfg.Text))
		}
		out := Checked{ID: a.ID, Text: []byte(text), Hash: "hash of " + text}
		if _, bad := simFile(n.name, text); bad != nil {
			out.Err = bad.Error()
		} else if err != nil {
			out.Err = err.Error()
		}
		n.handle(out)
	})
}

func (c *chaos) adopt(n *simNode, a Adopt) {
	err := c.broken(n, "keep the file")
	if n.strain.full > 0 {
		n.strain.full--
		err = fmt.Errorf("keep the file: no space left on device")
	}
	c.work(n, "files", simWork, func() {
		if err != nil {
			n.handle(Reconfigured{Err: err})
			return
		}
		cfg, bad := simFile(n.name, string(a.Text))
		if bad != nil {
			c.fail("%s adopts %q: %v", n.name, a.Text, bad)
			return
		}
		cfg.Generation, cfg.Known = a.Generation, n.cfg.Known
		if a.Replace != "" && a.Replace == "hash of "+n.disk {
			n.disk = string(a.Text)
		}
		n.refused = ""
		if a.Trial {
			n.refused = cfg.Hash
		} else {
			n.accepted, n.gen = string(a.Text), a.Generation
		}
		n.cfg = cfg
		n.handle(Reconfigured{Config: cfg})
		n.seen()
	})
}
