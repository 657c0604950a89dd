package replica

import (
	"time"

	"harouter/conntracksync"
)

const (
	perBatch = 256 // events that are handed over together
	queued   = 8   // batches that wait; more wait in the kernel's buffer
)

// batch is what the kernel told.
type batch struct {
	events  []conntracksync.Event
	overrun bool // and then events got lost
}

// listening gathers what the kernel tells, for the goroutine of the table.
type listening struct {
	replica *Replica
	over    chan struct{} // nobody takes it any more
	events  []conntracksync.Event
}

func (l *listening) event(e *conntracksync.Event) {
	if l.events == nil {
		select {
		case l.events = <-l.replica.empty:
		default:
			l.events = make([]conntracksync.Event, 0, perBatch)
		}
	}
	if l.events = append(l.events, *e); len(l.events) == perBatch {
		l.hand(false)
	}
}

func (l *listening) idle() {
	if len(l.events) > 0 {
		l.hand(false)
	}
}

func (l *listening) overrun() { l.hand(true) }

func (l *listening) hand(overrun bool) {
	select {
	case l.replica.heard <- batch{l.events, overrun}:
	case <-l.over:
	}
	l.events = nil
}

// feed gives the table what the kernel told.
func (o *owner) feed(b batch) {
	now := time.Now()
	for i := range b.events {
		o.table.Heard(now, &b.events[i])
	}
	if b.events != nil {
		select {
		case o.empty <- b.events[:0]:
		default:
		}
	}
	o.overran = o.overran || b.overrun
}

// reread reads the kernel's table after events of it got lost.
func (o *owner) reread() {
	o.overran = false
	o.dropped["overrun"]++
	o.cfg.Log.Warn("events of the connection table got lost: it is read anew")
	o.dump(false)
}
