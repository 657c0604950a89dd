package conntracksync

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var (
	seeds = flag.Uint64("seeds", 60, "how many runs of TestWhatever")
	steps = flag.Int("steps", 60, "how many of its last steps a failure shows")
)

// conn is a connection of a client, and where its packets go.
type conn struct {
	flow Flow
	home int
	live bool
	// doubtful may be lost: a machine that had it died, or another one by the
	// same name was made while the nodes were apart.
	doubtful bool
	// meddled: another program deleted it where no packet of it goes.
	meddled bool
}

// held is an entry of a machine's table.
type held struct {
	Flow
	over time.Time
}

// machine is a node with a pretended kernel in which time passes.
type machine struct {
	name   string
	table  *Table
	kernel map[Tuple]held
	boots  uint64
	role   Role
}

// wire is one direction between two machines.
type wire struct {
	up     bool
	frames [][]byte
}

// world is some machines, and what happens to them by chance.
type world struct {
	t        *testing.T
	r        *rand.Rand
	now      time.Time
	machines []*machine
	wires    map[[2]int]*wire
	conns    []*conn
	apart    bool // the machines do not reach each other; each is master
	term     uint64
	log      []string
	port     int
	last     []string // frames
}

func newWorld(t *testing.T, seed uint64, n int) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), wires: map[[2]int]*wire{}, port: 2000}
	for i := range n {
		w.machines = append(w.machines, &machine{name: fmt.Sprint("r", i+1), kernel: map[Tuple]held{}})
		w.boot(i)
		for j := range n {
			w.wires[[2]int{i, j}] = &wire{}
		}
	}
	for i := range n {
		for j := range i {
			w.connect(i, j)
		}
	}
	w.term = 1
	w.role(0, Role{true, 1})
	return w
}

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%6.2f ", w.now.Sub(time.Unix(1e9, 0)).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\nthe last steps:\n%s", fmt.Sprintf(format, args...), bytes.Join(func() (b [][]byte) {
		for _, s := range w.log[max(0, len(w.log)-*steps):] {
			b = append(b, []byte(s))
		}
		return b
	}(), []byte("\n")))
}

var shortTimes = func() Timeouts {
	t := DefaultTimeouts()
	for i := range t.TCP {
		t.TCP[i] = time.Minute
	}
	return t
}()

func (w *world) boot(i int) {
	m := w.machines[i]
	m.boots++
	m.table = NewTable(Config{Node: m.name, Boot: m.boots, Limit: 10000, Timeouts: shortTimes, Hold: 40 * time.Second, Forget: 30 * time.Second})
}

func (w *world) role(i int, r Role) {
	w.say("%s is %+v", w.machines[i].name, r)
	w.machines[i].role = r
	w.machines[i].table.SetRole(w.now, r)
	w.work(i)
}

func (w *world) connect(i, j int) {
	for _, d := range [][2]int{{i, j}, {j, i}} {
		w.wires[d].up, w.wires[d].frames = true, nil
	}
	w.say("session %d %d", i+1, j+1)
	for _, d := range [][2]int{{i, j}, {j, i}} {
		w.machines[d[0]].table.Connected(w.now, w.machines[d[1]].name)
		w.work(d[0])
	}
}

func (w *world) disconnect(i, j int) {
	if !w.wires[[2]int{i, j}].up {
		return
	}
	w.say("no session %d %d", i+1, j+1)
	for _, d := range [][2]int{{i, j}, {j, i}} {
		w.wires[d].up, w.wires[d].frames = false, nil
	}
	for _, d := range [][2]int{{i, j}, {j, i}} {
		w.machines[d[0]].table.Disconnected(w.now, w.machines[d[1]].name)
		w.work(d[0])
	}
}

// work does what a table wants, and checks that it may.
func (w *world) work(i int) {
	w.t.Helper()
	m := w.machines[i]
	put := func(f Flow) {
		m.kernel[f.Original] = held{f, w.now.Add(time.Duration(f.Timeout) * time.Second)}
	}
	for {
		actions := m.table.Work(w.now)
		if len(actions) == 0 {
			return
		}
		for _, a := range actions {
			switch a := a.(type) {
			case *Install:
				for _, f := range a.Flows {
					w.say("%s installs %d", m.name, f.Original.SourcePort)
					if old, ok := m.kernel[f.Original]; ok && old.Reply != f.Reply && m.role.Master && w.lives(i, &old.Flow) && w.alone(i) {
						w.fail("%s replaces %v, which lives there", m.name, f.Original)
					}
					put(f)
				}
			case *Update:
				for _, f := range a.Flows {
					put(f)
				}
			case *SetTimeouts:
				for _, f := range a.Flows {
					if old, ok := m.kernel[f.Original]; ok {
						old.Timeout = f.Timeout
						put(old.Flow)
					}
				}
			case *Remove:
				for _, f := range a.Flows {
					if old, ok := m.kernel[f.Original]; ok && m.role.Master && w.lives(i, &old.Flow) {
						w.fail("%s removes %v, which lives there", m.name, f.Original)
					}
					if old, ok := m.kernel[f.Original]; ok && old.Reply == f.Reply && !w.apart && w.safe(&f) {
						w.fail("%s removes %v, which lives elsewhere", m.name, f.Original)
					}
					delete(m.kernel, f.Original)
					w.say("%s removes %d", m.name, f.Original.SourcePort)
				}
			case *Send:
				j := slices.IndexFunc(w.machines, func(m *machine) bool { return m.name == a.Node })
				if wire := w.wires[[2]int{i, j}]; wire.up {
					wire.frames = append(wire.frames, a.Frame)
				}
			}
		}
	}
}

// lives reports whether packets of a flow go through a machine.
func (w *world) lives(i int, f *Flow) bool {
	return slices.ContainsFunc(w.conns, func(c *conn) bool {
		return c.live && c.home == i && c.flow.Original == f.Original && c.flow.Reply == f.Reply
	})
}

// safe reports whether packets of a flow go through a machine that has it, and there
// is nothing to doubt.
func (w *world) safe(f *Flow) bool {
	return slices.ContainsFunc(w.conns, func(c *conn) bool {
		h, ok := w.machines[c.home].kernel[f.Original]
		return c.live && !c.doubtful && !c.meddled && ok && h.Reply == f.Reply && c.flow.Original == f.Original && c.flow.Reply == f.Reply
	})
}

// alone reports whether no other machine is master.
func (w *world) alone(i int) bool {
	for j, m := range w.machines {
		if j != i && m.role.Master {
			return false
		}
	}
	return true
}

// pairs are the wires, in order: what happens is to depend on the seed alone.
func (w *world) pairs() [][2]int {
	return slices.SortedFunc(maps.Keys(w.wires), func(a, b [2]int) int { return (a[0]-b[0])*10 + a[1] - b[1] })
}

// names are the entries of its kernel, in order.
func (m *machine) names() []Tuple {
	return slices.SortedFunc(maps.Keys(m.kernel), func(a, b Tuple) int { return int(a.SourcePort) - int(b.SourcePort) })
}

// deliver brings some frames, or all.
func (w *world) deliver(some bool) {
	w.t.Helper()
	rounds := 0
	for busy := true; busy; {
		busy = false
		if rounds++; rounds > 2000 {
			w.fail("it never ends: kinds %v", w.last)
		}
		for _, d := range w.pairs() {
			wire := w.wires[d]
			if len(wire.frames) == 0 || w.apart || some && w.r.IntN(3) == 0 {
				continue
			}
			f := wire.frames[0]
			wire.frames = wire.frames[1:]
			w.last = append(w.last[max(0, len(w.last)-9):], fmt.Sprintf("%d to %d: %d, %d bytes", d[0]+1, d[1]+1, f[0], len(f)))
			if err := w.machines[d[1]].table.Received(w.now, w.machines[d[0]].name, f); err != nil {
				w.fail("%s: %v", w.machines[d[1]].name, err)
			}
			w.work(d[1])
			busy = !some
		}
	}
}

// pass lets time pass in every kernel.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(d)
	for i, m := range w.machines {
		for _, k := range m.names() {
			h := m.kernel[k]
			switch {
			case w.lives(i, &h.Flow):
				h.over = latest(h.over, w.now.Add(shortTimes.TCP[Established]))
				m.kernel[k] = h
			case !w.now.Before(h.over):
				delete(m.kernel, k)
				w.say("%s: %d is over", m.name, k.SourcePort)
				m.table.Heard(w.now, &Event{Kind: Ended, Flow: Flow{Original: h.Original, Reply: h.Reply}})
			}
		}
		w.work(i)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// step is one thing that happens.
func (w *world) step() {
	w.t.Helper()
	i := w.r.IntN(len(w.machines))
	m := w.machines[i]
	switch n := w.r.IntN(100); {
	case n < 25: // a connection begins at a master
		if !m.role.Master {
			return
		}
		f := natted(w.port)
		w.port++
		if w.r.IntN(10) == 0 && w.apart { // perhaps there is one by its name on the other side
			f = natted(2000 + w.r.IntN(w.port-2000))
			f.Reply.DestinationPort += uint16(i + 1)
			if slices.ContainsFunc(w.conns, func(c *conn) bool { return c.flow.Original == f.Original && c.live && c.home == i }) {
				return
			}
			if _, ok := m.kernel[f.Original]; ok {
				return
			}
			for _, c := range w.conns {
				c.doubtful = c.doubtful || c.flow.Original == f.Original
			}
		}
		c := &conn{flow: f, home: i, live: true}
		c.doubtful = slices.ContainsFunc(w.conns, func(c *conn) bool { return c.flow.Original == f.Original })
		w.conns = append(w.conns, c)
		w.say("%s: %d begins", m.name, f.Original.SourcePort)
		w.packet(i, Began, f)
	case n < 40 && len(w.conns) > 0: // one ends
		c := w.conns[w.r.IntN(len(w.conns))]
		if !c.live {
			return
		}
		c.live = false
		w.say("%s: %d ends", w.machines[c.home].name, c.flow.Original.SourcePort)
		if h, ok := w.machines[c.home].kernel[c.flow.Original]; ok && h.Reply == c.flow.Reply {
			w.packet(c.home, Ended, c.flow)
		}
	case n < 50 && len(w.conns) > 0: // one changes
		c := w.conns[w.r.IntN(len(w.conns))]
		if h, ok := w.machines[c.home].kernel[c.flow.Original]; c.live && ok && h.Reply == c.flow.Reply {
			c.flow.Mark ^= 0x10000
			w.packet(c.home, Changed, c.flow)
		}
	case n < 60:
		w.pass(time.Duration(w.r.IntN(200)) * time.Millisecond)
	case n < 63:
		w.pass(time.Duration(w.r.IntN(9)) * time.Second)
	case n < 85:
		w.deliver(true)
	case n < 87: // another program deletes an entry of a backup
		for _, k := range m.names() {
			if h := m.kernel[k]; !w.lives(i, &h.Flow) {
				delete(m.kernel, k)
				for _, c := range w.conns {
					c.meddled = c.meddled || c.flow.Original == k
				}
				m.table.Heard(w.now, &Event{Kind: Ended, Flow: h.Flow})
				w.work(i)
				break
			}
		}
	case n < 89: // events got lost
		w.dump(i, false)
	case n < 91: // a session is lost, and comes back
		if j := (i + 1) % len(w.machines); !w.apart {
			w.disconnect(i, j)
			w.pass(time.Duration(w.r.IntN(3000)) * time.Millisecond)
			w.connect(i, j)
		}
	case n < 93: // a daemon starts over
		w.restart(i)
	case n < 95 && !w.apart:
		w.part()
	case n < 97 && w.apart:
		w.heal()
	case n < 99 && !w.apart: // a hand-over
		w.handOver(i)
	}
}

func (w *world) packet(i int, k EventKind, f Flow) {
	m := w.machines[i]
	e := &Event{Kind: k, Flow: f, Told: ToldState | ToldTimeout}
	if k == Ended {
		delete(m.kernel, f.Original)
		e.Flow.Status = 0
	} else {
		f.Timeout = 60
		e.Flow.Timeout = 60
		m.kernel[f.Original] = held{f, w.now.Add(time.Minute)}
	}
	m.table.Heard(w.now, e)
	if w.r.IntN(2) == 0 {
		w.work(i)
	}
}

func (w *world) dump(i int, first bool) {
	m := w.machines[i]
	w.say("%s reads its table, first %v", m.name, first)
	m.table.Dump()
	for _, k := range m.names() {
		f := m.kernel[k].Flow
		m.table.Dumped(w.now, &f, first)
	}
	m.table.DumpDone(w.now)
	w.work(i)
}

// restart is that of a daemon: its kernel's table stays. A master's role goes to
// another one if there is one.
func (w *world) restart(i int) {
	w.say("%s starts over", w.machines[i].name)
	if w.machines[i].role.Master && !w.apart {
		w.handOver((i + 1) % len(w.machines))
	}
	for j := range w.machines {
		if j != i && w.wires[[2]int{i, j}].up {
			w.disconnect(i, j)
		}
	}
	// What only this one has, and has not told since, is nobody's now.
	for _, c := range w.conns {
		if h, ok := w.machines[c.home].kernel[c.flow.Original]; !ok || h.Reply != c.flow.Reply {
			c.doubtful = true
		}
	}
	w.boot(i)
	m := w.machines[i]
	m.table.SetRole(w.now, Role{false, 0})
	w.dump(i, true)
	if m.role.Master {
		w.term++
		w.role(i, Role{true, w.term})
	}
	if !w.apart {
		for j := range w.machines {
			if j != i {
				w.connect(i, j)
			}
		}
	}
}

// handOver moves the role; packets follow one by one.
func (w *world) handOver(to int) {
	from := slices.IndexFunc(w.machines, func(m *machine) bool { return m.role.Master })
	if from == to {
		return
	}
	if w.r.IntN(3) > 0 {
		w.deliver(false) // it is confirmed that all is there
	}
	w.term++
	w.role(to, Role{true, w.term})
	for _, c := range w.conns {
		if w.r.IntN(3) == 0 {
			w.deliver(true)
		}
		c.home = to
	}
	w.role(from, Role{false, w.term})
}

// part cuts the machines off from each other: each is master of some clients.
func (w *world) part() {
	w.say("apart")
	w.apart = true
	if w.r.IntN(2) == 0 { // for so long that the sessions end
		for _, d := range w.pairs() {
			w.disconnect(d[0], d[1])
		}
	}
	for i, m := range w.machines {
		switch {
		case !m.role.Master:
			w.role(i, Role{true, m.role.Term + 1 + uint64(w.r.IntN(4))})
		case w.r.IntN(3) == 0: // it may have the higher term
			w.role(i, Role{true, m.role.Term + uint64(w.r.IntN(9))})
		}
		w.term = max(w.term, m.role.Term)
	}
	for _, c := range w.conns {
		c.home = w.r.IntN(len(w.machines))
		if h, ok := w.machines[c.home].kernel[c.flow.Original]; !ok || h.Reply != c.flow.Reply {
			c.doubtful = true // it was not told in time
		}
	}
}

// heal ends that: one stays master.
func (w *world) heal() {
	stays := w.r.IntN(len(w.machines))
	w.say("together: %s stays", w.machines[stays].name)
	w.apart = false
	meet := func() {
		for _, d := range w.pairs() {
			if d[0] < d[1] && !w.wires[d].up {
				w.connect(d[0], d[1])
			}
		}
		w.deliver(true)
	}
	early := w.r.IntN(2) == 0
	if early {
		meet()
	}
	for _, c := range w.conns {
		if h, ok := w.machines[c.home].kernel[c.flow.Original]; !ok || h.Reply != c.flow.Reply {
			c.doubtful = true
		}
		c.home = stays
	}
	for i := range w.machines {
		if i != stays {
			w.role(i, Role{false, w.term})
		}
	}
	if w.r.IntN(2) == 0 {
		w.deliver(true)
	}
	w.term++
	w.role(stays, Role{true, w.term})
	if !early {
		meet()
	}
}

// quiet has everything come to rest, and checks that all is alike.
func (w *world) quiet() {
	w.t.Helper()
	if w.apart {
		w.heal()
	}
	for range 15 {
		w.deliver(false)
		w.pass(time.Second)
	}
	w.deliver(false)
	master := slices.IndexFunc(w.machines, func(m *machine) bool { return m.role.Master })
	main := w.machines[master]
	for _, c := range w.conns {
		if h, ok := main.kernel[c.flow.Original]; c.live && !c.doubtful && (!ok || h.Reply != c.flow.Reply) {
			w.fail("%s does not have %v", main.name, c.flow.Original)
		}
	}
	told := func(f Flow) Flow {
		p, r := pack(&f)
		f = unpack(&p, &r)
		f.Timeout = 0
		return f
	}
	for i, m := range w.machines {
		if i == master {
			if own, all := m.table.Len(); own != all || all != len(m.kernel) {
				w.fail("%s owns %d of %d, and has %d", m.name, own, all, len(m.kernel))
			}
			continue
		}
		if own, _ := m.table.Len(); own != 0 {
			w.fail("%s owns %d", m.name, own)
		}
		for k, h := range main.kernel {
			if there, ok := m.kernel[k]; !ok || told(there.Flow) != told(h.Flow) {
				w.fail("%s has of %d %v: %+v\n%s has %+v", m.name, k.SourcePort, ok, told(there.Flow), main.name, told(h.Flow))
			}
		}
		for k, h := range m.kernel {
			if _, ok := main.kernel[k]; ok {
				continue
			}
			// It may have been found at a start: then it goes with its own time.
			if i := m.table.index[KeyOf(h.Original, 0)]; m.table.slots[i].owner != orphan {
				w.fail("%s has %d of owner %d, the master has not", m.name, k.SourcePort, m.table.slots[i].owner)
			}
		}
	}
}

// forgotten checks that nothing stays for ever.
func (w *world) forgotten() {
	w.t.Helper()
	for _, c := range w.conns {
		c.live = false
	}
	if w.r.IntN(2) == 0 {
		for _, d := range w.pairs() {
			w.disconnect(d[0], d[1])
		}
	}
	for range 150 {
		w.deliver(false)
		w.pass(2 * time.Second)
	}
	for _, m := range w.machines {
		own, all := m.table.Len()
		t := m.table
		if own+all+len(m.kernel) != 0 {
			w.fail("%s still has %d, owns %d, and %d in the kernel", m.name, all, own, len(m.kernel))
		}
		if n := len(t.readyQ) + len(t.laterQ) + len(t.missingQ) + len(t.ends) + len(t.rare) + len(t.helped) + len(t.slots) - len(t.free); n != 0 {
			w.fail("%s holds on to %d things: %d slots of %d are free", m.name, n, len(t.free), len(t.slots))
		}
	}
}

// TestWhatever has everything happen in any order: after some quiet all nodes
// hold what the master does, and that is what lives; nothing that lives was taken
// from a node by what another one said; and what ended is gone everywhere.
func TestWhatever(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, seed, 2+int(seed%2))
			for range 4 {
				for range 200 {
					w.step()
				}
				w.quiet()
			}
			w.forgotten()
		})
	}
}
