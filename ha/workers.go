package ha

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// workers carry out what may take long, each kind in its own order.
type workers struct {
	loop      *Loop
	ctx       context.Context
	wg        *sync.WaitGroup
	switching chan Action      // addresses, flows and the takeover switch, strictly in order
	void      atomic.Uint64    // the newest step that takes addresses away
	endTake   func()           // ends the takeover of flows that waits or is under way; the loop's
	plans     chan ApplyPlan   // the newest only
	deletions chan DeleteFlows // flows of dead uplinks
	moves     chan MoveFlows   // flows of returned ones
	drops     chan DropAddresses
	addresses chan map[string][]netip.Addr
	files     chan Action   // the configuration: read, adopted
	done      chan struct{} // closed when switching has been drained
}

// switchLimit bounds one change of the takeover switch: addresses do not wait
// longer for a kernel that is busy with somebody else's rules.
const switchLimit = 50 * time.Millisecond

func (w *workers) start(ctx context.Context, wg *sync.WaitGroup, l *Loop) {
	w.loop, w.ctx, w.wg = l, ctx, wg
	w.switching = make(chan Action, 256)
	w.plans = make(chan ApplyPlan, 1)
	w.deletions = make(chan DeleteFlows, 256)
	w.moves = make(chan MoveFlows, 256)
	w.drops = make(chan DropAddresses, 256)
	w.addresses = make(chan map[string][]netip.Addr, 1)
	w.files = make(chan Action, 64)
	w.done = make(chan struct{})
	wg.Go(w.runSwitching)
	wg.Go(w.runPlans)
	wg.Go(w.runDeletions)
	wg.Go(w.runRemember)
	wg.Go(w.runFiles)
}

// finish waits until the addresses are as the machine wanted them last.
func (w *workers) finish() {
	close(w.switching)
	select {
	case <-w.done:
	case <-time.After(2 * time.Second):
		w.loop.log.Error("leaving although the addresses are not yet as they should be")
	}
}

func (w *workers) runSwitching() {
	defer close(w.done)
	p := w.loop.ports
	ctx := context.WithoutCancel(w.ctx)
	for {
		var a Action
		var ok bool
		select {
		case a, ok = <-w.switching:
		case <-w.ctx.Done():
			return
		}
		if !ok {
			return
		}
		switch a := a.(type) {
		case Activate:
			limited, cancel := context.WithTimeout(ctx, switchLimit)
			if err := p.Plane.Activate(limited, a.Active, a.Grace); err != nil {
				w.loop.log.Error("takeover switch", "active", a.Active, "error", err)
			}
			cancel()
		case takeFlows:
			if err := p.Flows.Take(a.ctx, a.Term); err != nil && !errors.Is(err, context.Canceled) {
				w.loop.log.Error("take the flows over", "term", a.Term, "error", err)
			}
			a.end()
		case YieldFlows:
			p.Flows.Yield(a.Term)
		case AddAddresses:
			if a.Seq < w.void.Load() { // another node became master meanwhile
				w.loop.Post(Switched{Seq: a.Seq})
				continue
			}
			w.loop.Post(Switched{Seq: a.Seq, Err: p.Addresses.Add(ctx)})
		case Ready:
			w.loop.Post(Switched{Seq: a.Seq})
		case RemoveAddresses:
			w.loop.Post(Switched{Seq: a.Seq, Err: p.Addresses.Remove(ctx)})
		case Announce:
			p.Addresses.Announce()
		case Once:
			p.Adverts.Once(a.Priority)
		}
	}
}

// takeFlows is a TakeFlows with the time that it has.
type takeFlows struct {
	TakeFlows
	ctx context.Context
	end func()
}

// take has the flows taken over before the addresses come. It ends early when
// another node becomes master before.
func (w *workers) take(a TakeFlows) {
	ctx, cancel := context.WithTimeout(w.ctx, takeLimit)
	w.endTake = cancel
	w.switching <- takeFlows{TakeFlows: a, ctx: ctx, end: cancel}
}

// remove takes the addresses away; those that wait for the flows are not put on
// any more.
func (w *workers) remove(a RemoveAddresses) {
	w.void.Store(a.Seq)
	if w.endTake != nil {
		w.endTake()
	}
	w.switching <- a
}

// flush waits for another node to have all flows.
func (w *workers) flush(a FlushFlows) {
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, flushLimit)
		defer cancel()
		w.loop.Post(Flushed{ID: a.ID, Err: w.loop.ports.Flows.Flush(ctx, a.To)})
	})
}

// watchEvery is how often it is looked whether packets are still forwarded.
const watchEvery = 100 * time.Millisecond

// watch tells of packets that are forwarded, for a while.
func (w *workers) watch(a WatchForwarding) {
	if w.loop.ports.Forwarded == nil {
		return
	}
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, a.For)
		defer cancel()
		t := time.NewTicker(watchEvery)
		defer t.Stop()
		before, err := w.loop.ports.Forwarded()
		for err == nil {
			select {
			case <-t.C:
			case <-ctx.Done():
				return
			}
			var n uint64
			if n, err = w.loop.ports.Forwarded(); err == nil && n != before {
				before = n
				w.loop.Post(Forwarded{})
			}
		}
		w.loop.log.Warn("see whether packets are still forwarded", "error", err)
	})
}

// plan replaces a plan that nobody has begun to apply.
func (w *workers) plan(a ApplyPlan) {
	for {
		select {
		case w.plans <- a:
			return
		default:
		}
		select {
		case <-w.plans:
		default:
		}
	}
}

func (w *workers) runPlans() {
	for {
		select {
		case a := <-w.plans:
			w.loop.Post(Applied{Seq: a.Seq, Err: w.loop.ports.Plane.Apply(w.ctx, a.Plan)})
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *workers) runDeletions() {
	for {
		select {
		case a := <-w.deletions:
			if err := w.loop.ports.DeleteFlows(w.ctx, a.ID, a.Mask, a.Tell); err != nil && w.ctx.Err() == nil {
				w.loop.log.Error("end the flows of an uplink", "uplink", a.Uplink, "error", err)
			}
		case a := <-w.moves:
			if err := w.loop.ports.MoveFlows(w.ctx, a.Strays, a.Mask); err != nil && w.ctx.Err() == nil {
				w.loop.log.Error("move flows to where they belong", "error", err)
			}
		case a := <-w.drops:
			if err := w.loop.ports.DropAddresses(w.ctx, a.Addresses, a.Tell); err != nil && w.ctx.Err() == nil {
				w.loop.log.Error("end the flows of addresses that are gone", "addresses", a.Addresses, "error", err)
			}
		case <-w.ctx.Done():
			return
		}
	}
}

// sendLimit bounds one direct message; whoever waits for an answer gives up
// not much later.
const sendLimit = 800 * time.Millisecond

func (w *workers) send(a Send) {
	w.wg.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, sendLimit)
		defer cancel()
		if err := w.loop.ports.Gossip.Send(ctx, a.To, string(a.Message.Kind), a.Message.Encode()); err != nil && w.ctx.Err() == nil {
			w.loop.log.Warn(fmt.Sprintf("tell %s", a.To), "kind", a.Message.Kind, "error", err)
		}
	})
}

func (w *workers) remember(a Remember) {
	select {
	case w.addresses <- a.Addresses:
	default:
		select {
		case <-w.addresses:
		default:
		}
		select {
		case w.addresses <- a.Addresses:
		default:
		}
	}
}

func (w *workers) runRemember() {
	for {
		select {
		case known := <-w.addresses:
			if err := w.loop.ports.Remember(known); err != nil {
				w.loop.log.Warn("keep the other nodes' addresses for the next start", "error", err)
			}
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *workers) runFiles() {
	p := w.loop.ports.Files
	for {
		select {
		case a := <-w.files:
			switch a := a.(type) {
			case ReadFile:
				w.loop.Post(p.Read(a))
			case Adopt:
				cfg, err := p.Adopt(w.ctx, a)
				w.loop.Post(Reconfigured{Config: w.loop.replicates(cfg), Err: err})
			case KeepSwitches:
				err := p.KeepSwitches(a.Switches)
				if a.ID != 0 {
					w.loop.Post(SwitchesKept{ID: a.ID, Err: err})
				} else if err != nil {
					w.loop.log.Warn("remember for the next start which uplinks are disabled", "error", err)
				}
			case Rest:
				w.loop.Post(Rested{ID: a.ID, Err: p.Rest(a.On)})
			}
		case <-w.ctx.Done():
			return
		}
	}
}
