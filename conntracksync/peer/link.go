package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"
)

// link is one peer. Its goroutine is the only one that calls the handler for
// it.
type link struct {
	all   *Sessions
	node  string
	dials bool // of two nodes one does: that with the lesser name

	session  atomic.Pointer[session]
	incoming chan *stream  // greeted, the newest only
	failed   chan *fault   // of a connection to us
	changed  chan struct{} // the addresses or keys
	ended    chan struct{}
}

func newLink(all *Sessions, node string) *link {
	return &link{
		all: all, node: node, dials: all.node < node,
		incoming: make(chan *stream, 1), failed: make(chan *fault, 1), changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// run keeps a session until ctx ends.
func (l *link) run(ctx context.Context) {
	var told Reason // by Down, since the last session
	retry, most := firstRetry, lastRetry
	var st *stream
	for ctx.Err() == nil {
		var f *fault
		if st == nil {
			st, f = l.connect(ctx)
		}
		if st != nil {
			var lived time.Duration
			var cause *fault
			st, cause, lived = l.hold(ctx, st)
			told, most = "", lastRetry
			if lived > steadyAfter {
				retry = firstRetry
			} else if cause.spoilt() {
				most = lastAgain
			}
		} else if f != nil && ctx.Err() == nil && f.reason != told {
			told = f.reason
			l.down(f)
		}
		if st == nil && l.dials {
			l.rest(ctx, retry)
			retry = min(2*retry, most)
		}
	}
	if st != nil {
		st.close()
	}
	close(l.ended)
	l.discard()
}

// rest waits a little, less if the configuration changes.
func (l *link) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d*3/4 + rand.N(d/4))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.changed:
	case <-ctx.Done():
	}
}

// connect returns a connection that is ready for a session, or why there is
// none.
func (l *link) connect(ctx context.Context) (*stream, *fault) {
	if l.dials {
		st, err := l.dial(ctx)
		if err != nil {
			f := faultOf(err, ReasonUnreachable)
			l.all.refused(f, netip.Addr{})
			return nil, f
		}
		return st, nil
	}
	select {
	case st := <-l.incoming:
		if time.Now().After(st.until) { // the handler took too long
			st.close()
			return nil, nil
		}
		return st, nil
	case f := <-l.failed:
		return nil, f
	case <-ctx.Done():
		return nil, nil
	}
}

// hold keeps a session until it ends. It returns the connection of the next
// one if that was the reason.
func (l *link) hold(ctx context.Context, st *stream) (next *stream, cause *fault, lived time.Duration) {
	s := newSession(st, l.all.roster.Load().cfg.Queue)
	pause, end := l.all.pace()
	defer end()
	s.pause, s.heard = pause, func() { l.all.heard(l.node) }
	select {
	case <-l.failed: // before this one
	default:
	}
	l.session.Store(s)
	defer l.session.Store(nil)
	stop := context.AfterFunc(ctx, func() {
		why, cause := byeLeaving, &fault{ReasonStopped, errors.New("this node leaves")}
		if errors.Is(context.Cause(ctx), errRemoved) {
			why, cause = byeConfigured, &fault{ReasonConfigured, errRemoved}
		}
		s.farewell(why, cause)
	})
	defer stop()
	l.recheck() // the configuration may have changed since the handshake
	s.begin()
	l.all.log.Info("state sync up", "node", l.node, "via", s.remote)
	next = s.deliver(l.all.handler, l.incoming)
	l.all.refused(s.cause, s.remote.Addr())
	l.down(s.cause)
	return next, s.cause, time.Since(s.born)
}

var errRemoved = errors.New("the node is in the file no more")

func (l *link) down(f *fault) {
	l.all.log.Info("state sync down", "node", l.node, "reason", f.reason, "error", f.err)
	l.all.handler.Down(l.node, f.reason, f.err)
}

// recheck ends a session that the configuration does not permit.
func (l *link) recheck() {
	if s := l.session.Load(); s != nil && !l.all.roster.Load().permits(s.stream) {
		s.farewell(byeConfigured, &fault{ReasonConfigured, fmt.Errorf("the session from %v to %v of %s is configured no more", s.local, s.remote, s.node)})
	}
}

// offer gives a greeted connection to the peer's goroutine. The newest wins.
func (l *link) offer(st *stream) {
	for {
		select {
		case l.incoming <- st:
			select {
			case <-l.ended:
				l.discard()
			default:
			}
			return
		default:
			l.discard()
		}
	}
}

func (l *link) discard() {
	select {
	case old := <-l.incoming:
		old.close()
	default:
	}
}

// fail tells the peer's goroutine why a connection from it came to nothing.
func (l *link) fail(f *fault) {
	select {
	case l.failed <- f:
	default: // it has not told the one before yet
	}
}
