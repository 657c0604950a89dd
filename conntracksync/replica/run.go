package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"harouter/conntracksync"
)

// owner is the state of Run: the table, and what is around it.
type owner struct {
	*Replica
	ctx      context.Context
	settings Settings
	role     conntracksync.Role
	ready    <-chan struct{} // nil once it is closed

	table  *conntracksync.Table // nil before the kernel's table was open once
	kernel Kernel               // nil while it is not open
	stop   func()               // closes it
	failed chan error           // it cannot be listened to any more
	retry  *time.Timer          // to open it again
	work   *time.Timer          // the table's own deadline

	anew    bool            // it was off: whose what is in the kernel's table now is not known
	up      map[string]bool // sessions
	more    map[string]bool // of which another frame is here already
	states  map[string]conntracksync.PeerState
	limits  map[string]int
	size    int // flows that the kernel's table holds; 0: as it was found
	full    int // flows that were not taken for that, by the last time it changed
	waiting []flush

	hurried time.Time // until when nothing waits for its window to be over

	overran  bool // events got lost: the kernel's table is to be read anew
	gathered int  // bytes of frames whose work is not done yet
	dropped  map[string]uint64
	lost     map[string]map[string]uint64 // by node
}

// flush waits until a node is in sync.
type flush struct {
	node   string
	synced chan error
}

var errNoSession = errors.New("there is no session with it")

// openAgain is how long a connection table is left alone that cannot be opened.
const openAgain = time.Second

// Run replicates until ctx ends. Its error is always nil: routing goes on
// without, and it tries again.
func (r *Replica) Run(ctx context.Context) error {
	defer close(r.ended)
	o := &owner{
		Replica: r, ctx: ctx, settings: r.cfg.Settings, ready: r.cfg.Ready, failed: make(chan error, 1),
		retry: time.NewTimer(0), work: time.NewTimer(0),
		up: map[string]bool{}, more: map[string]bool{}, states: map[string]conntracksync.PeerState{}, limits: map[string]int{},
		dropped: map[string]uint64{}, lost: map[string]map[string]uint64{},
	}
	defer o.close()
	defer o.retry.Stop()
	defer o.work.Stop()
	for {
		select { // before a peer's frames: a takeover waits for it
		case do := <-r.ask:
			do(o)
			continue
		default:
		}
		frames, heard := r.frames, r.heard
		if o.kernel == nil {
			frames, heard = nil, nil // peers are held back until there is a table to write to
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.ready:
			o.ready = nil
			o.open()
		case <-o.retry.C:
			o.open()
		case err := <-o.failed:
			o.fail("listen to the connection table", err)
		case do := <-r.ask:
			do(o)
		case do := <-frames:
			do(o)
		case b := <-heard:
			o.feed(b)
			o.do()
		case <-o.work.C:
			o.do()
		}
	}
}

// open opens the kernel's table and reads it.
func (o *owner) open() {
	if o.kernel != nil || o.ready != nil || !o.settings.Enabled {
		return
	}
	hear := &listening{replica: o.Replica, over: make(chan struct{})}
	k, size, timeouts, err := o.cfg.Open(Hear{Event: hear.event, Idle: hear.idle, Overrun: hear.overrun})
	if err != nil {
		o.fail("open the connection table", err)
		return
	}
	first := o.table == nil
	if o.size > 0 {
		size = o.size
	}
	if first {
		o.table = conntracksync.NewTable(conntracksync.Config{
			Node: o.cfg.Node, Boot: o.cfg.Boot, Limit: size, Timeouts: timeouts,
			Protocols: o.settings.Protocols, Ignore: o.settings.Ignore, Local: o.settings.Local,
		})
		o.table.SetRole(time.Now(), o.role)
	}
	ctx, cancel := context.WithCancel(o.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := k.Listen(ctx); err != nil && ctx.Err() == nil {
			select {
			case o.failed <- err:
			default:
			}
		}
	})
	o.kernel, o.stop = k, func() {
		cancel()
		close(hear.over)
		wg.Wait()
		if err := k.Close(); err != nil {
			o.cfg.Log.Error("close the connection table", "error", err)
		}
	}
	if o.dump(first || o.anew) {
		o.anew = false
		o.do()
	} else if first {
		o.table = nil // whose the flows are is still to be found out; nobody has met this one
	}
}

// dump reads the kernel's table: at first, when other flows are to be told than
// before, and after events were lost.
func (o *owner) dump(first bool) bool {
	o.table.Dump()
	now := time.Now()
	err := o.kernel.Dump(o.ctx, o.table.Dump, func(f *conntracksync.Flow) { o.table.Dumped(now, f, first) },
		func(e *conntracksync.Expectation) { o.table.ExpectationDumped(now, e, first) })
	if err != nil {
		o.fail("read the connection table", err)
		return false
	}
	o.table.DumpDone(time.Now())
	return true
}

// fail leaves the kernel's table alone, and opens it again later.
func (o *owner) fail(what string, err error) {
	if o.ctx.Err() == nil {
		o.cfg.Log.Error(what, "error", err)
	}
	o.close()
	o.retry.Reset(openAgain)
}

// close leaves the kernel's table alone.
func (o *owner) close() {
	if o.kernel == nil {
		return
	}
	o.stop()
	o.kernel, o.stop, o.overran = nil, nil, false
	for { // what it told before is not worth more than what it will say
		select {
		case <-o.heard:
		case <-o.failed:
		default:
			return
		}
	}
}

// do carries out what the table wants, and tells what came of it.
func (o *owner) do() {
	if o.kernel == nil {
		return
	}
	if o.overran {
		if o.reread(); o.kernel == nil {
			return
		}
	}
	o.act()
	o.report()
	o.gathered = 0
	if at, ok := o.table.Deadline(); o.overran {
		o.work.Reset(0)
	} else if ok {
		o.work.Reset(time.Until(at))
	} else {
		o.work.Stop()
	}
}

// act carries out what the table wants: first what is to be sent, then what is
// to be written, which takes longer. What the kernel tells in between is sent at
// once: at a hand-over a peer says of each flow that it is its own now, and the
// flows that begin here meanwhile must not wait until all that is written.
func (o *owner) act() {
	todo := o.send()
	first := len(todo)
	for i := 0; i < len(todo); i++ {
		a := todo[i]
		refused, taken, err := o.kernel.Do(o.ctx, a)
		for n := range taken {
			o.table.Taken(time.Now(), &taken[n])
		}
		if refused > 0 {
			o.dropped["refused"] += uint64(refused)
			o.cfg.Log.Debug("flows that the kernel does not take", "flows", refused, "what", fmt.Sprintf("%T", a))
		}
		if err != nil && o.ctx.Err() == nil {
			o.dropped["write"]++
			o.cfg.Log.Error("write to the connection table", "error", err)
		}
		if r, ok := a.(*conntracksync.Read); ok && err == nil {
			o.table.WasRead(time.Now(), r)
		}
		if i < first && o.hear() { // not for ever: others ask for something
			todo = append(todo, o.send()...)
		}
	}
}

// send has the table say what it wants, and sends what is to be sent. The rest
// is to be written.
func (o *owner) send() (write []conntracksync.Action) {
	now := time.Now()
	if now.Before(o.hurried) {
		o.table.Hurry(now)
	}
	for _, node := range o.table.Forgets(now) {
		o.table.Alive(node, o.cfg.Heard(o.ctx, node))
	}
	for _, a := range o.table.Work(now) {
		if s, ok := a.(*conntracksync.Send); !ok {
			write = append(write, a)
		} else if o.up[s.Node] {
			o.cfg.Sessions.Send(s.Node, s.Frame) // false: Overflow or Down follows
		}
	}
	return write
}

// hear takes what the kernel has told by now.
func (o *owner) hear() (some bool) {
	for {
		select {
		case b := <-o.heard:
			o.feed(b)
			some = true
		default:
			return some
		}
	}
}

// report tells which states have changed, and ends the waiting for them.
func (o *owner) report() {
	for _, p := range o.table.Peers() {
		if o.states[p.Node] != p.State {
			o.states[p.Node] = p.State
			o.cfg.Log.Debug("flows", "node", p.Node, "state", p.State)
			o.cfg.Report(p.Node, p.State)
		}
		if p.Limit != o.limits[p.Node] {
			o.limits[p.Node] = p.Limit
			o.cfg.Limit(p.Node, p.Limit)
		}
	}
	var still []flush
	for _, f := range o.waiting {
		if !o.flushed(f) {
			still = append(still, f)
		}
	}
	o.waiting = still
}

// take makes this node the master: first all that peers told is taken.
func (o *owner) take(ctx context.Context, term uint64) {
	begin := time.Now()
	o.role = conntracksync.Role{Master: true, Term: term}
	o.hurried = time.Now().Add(hurryFor)
	if o.kernel == nil {
		if o.table != nil {
			o.table.SetRole(time.Now(), o.role)
		}
		return
	}
	o.drain(ctx)
	o.table.SetRole(time.Now(), o.role)
	o.do()
	own, _ := o.table.Len()
	o.cfg.Log.Info("flows are this node's", "flows", own, "term", term, "took", time.Since(begin))
}

// drain handles the frames that are here.
func (o *owner) drain(ctx context.Context) {
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	for {
		select {
		case do := <-o.frames:
			do(o)
			continue
		default:
		}
		waits := false
		for _, more := range o.more {
			waits = waits || more
		}
		if !waits {
			return
		}
		select {
		case do := <-o.frames:
			do(o)
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// drainLimit bounds how long a takeover goes on taking frames of a peer that
// always has more.
const drainLimit = 300 * time.Millisecond

func (o *owner) yield(term uint64) {
	o.role = conntracksync.Role{Term: term}
	if o.table != nil {
		o.table.SetRole(time.Now(), o.role)
		o.do()
	}
}

// hurryFor is how long nothing waits for its window to be over, from when the
// role begins to move: until the former master lingers no more. While packets of
// one connection pass two nodes each has to know of it at once.
const hurryFor = 8 * time.Second

// flush begins to bring all flows to a node.
func (o *owner) flush(node string) chan error {
	o.hurried = time.Now().Add(hurryFor)
	f := flush{node: node, synced: make(chan error, 1)}
	if o.kernel == nil || !o.up[node] {
		f.synced <- errNoSession
		return f.synced
	}
	if !o.flushed(f) {
		o.waiting = append(o.waiting, f)
	}
	return f.synced
}

// flushed sends what waits to a node that is in sync.
func (o *owner) flushed(f flush) bool {
	switch {
	case !o.up[f.node]:
		f.synced <- errNoSession
		return true
	case o.states[f.node] != conntracksync.Synced:
		return false
	}
	o.hurry()
	f.synced <- nil
	return true
}

// hurry sends what waits for its window to be over, and what the kernel told.
func (o *owner) hurry() {
	if o.hear(); o.overran {
		o.reread()
	}
	if o.kernel != nil { // else it could not be read
		o.act()
		o.act() // what was read
	}
}

// errFull is why a session starts over after there was no room for flows.
var errFull = errors.New("there was no room for some of its flows, and now there is")

// resize takes another size. What there was no room for is asked for again.
func (o *owner) resize(flows int) {
	grows := flows > o.size
	o.size = flows
	if o.table == nil {
		return
	}
	o.table.Resize(flows)
	full := o.table.Drops()["table_size"]
	if !grows || full == o.full || o.kernel == nil {
		return
	}
	o.full = full
	for node, up := range o.up {
		if up {
			o.restart(node, "table_size", errFull)
		}
	}
	if o.dump(false) {
		o.do()
	}
}

func (o *owner) configure(s Settings) {
	before := o.settings
	o.settings = s
	if o.table != nil {
		o.table.Configure(s.Protocols, s.Ignore, s.Local)
	}
	if !s.Enabled {
		o.anew = o.anew || o.kernel != nil
		o.close()
		return
	}
	if o.kernel == nil {
		o.open()
	} else if s.adds(before) && o.dump(true) { // nothing may happen in a flow that is told from now on
		o.do()
	}
}

// adds tells whether flows are told that were not before.
func (s Settings) adds(before Settings) bool {
	if len(before.Protocols) > 0 {
		if len(s.Protocols) == 0 {
			return true
		}
		for _, p := range s.Protocols {
			if !slices.Contains(before.Protocols, p) {
				return true
			}
		}
	}
	for _, n := range before.Ignore {
		if !slices.Contains(s.Ignore, n) {
			return true
		}
	}
	for _, a := range before.Local {
		if !slices.Contains(s.Local, a) {
			return true
		}
	}
	return false
}
