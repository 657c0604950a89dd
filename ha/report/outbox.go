package report

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	outboxSize            = 500
	perMessage            = 200
	retryFirst, retryMost = 5 * time.Second, 10 * time.Minute
	tooOld                = 24 * time.Hour
	sendLimit             = 30 * time.Second
	endLimit              = time.Second // for what waits at the end of the daemon
)

// batch is one message.
type batch struct {
	events []Event
	lost   int // events that were dropped since the last one
}

// sender sends a message; the error says what was tried.
type sender func(ctx context.Context, b batch) error

// outbox holds what is to be sent one way, and sends it in its own goroutine.
type outbox struct {
	name string
	gap  time.Duration // between two messages
	log  *slog.Logger
	wake chan struct{}

	mu     sync.Mutex
	send   sender // nil: nowhere
	events []Event
	lost   int
}

func newOutbox(name string, gap time.Duration, log *slog.Logger) *outbox {
	return &outbox{name: name, gap: gap, log: log, wake: make(chan struct{}, 1)}
}

// configure sets where it sends to; nil: nowhere, and what waits is dropped.
func (o *outbox) configure(send sender) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.send = send; send == nil {
		o.events, o.lost = nil, 0
	}
	o.signal()
}

func (o *outbox) put(events []Event, lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.send == nil || len(events)+lost == 0 {
		return
	}
	o.events = append(o.events, events...)
	o.lost += lost
	if n := len(o.events) - outboxSize; n > 0 { // the newest are worth most
		o.events = append([]Event(nil), o.events[n:]...)
		o.lost += n
	}
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// next takes out one message; ok tells whether there is any.
func (o *outbox) next(now time.Time) (b batch, send sender, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.events) > 0 && now.Sub(o.events[0].Time) > tooOld {
		o.events = o.events[1:]
		o.lost++
	}
	if o.send == nil || len(o.events) == 0 {
		return batch{}, nil, false
	}
	n := min(len(o.events), perMessage)
	b = batch{o.events[:n:n], o.lost}
	o.events, o.lost = o.events[n:], 0
	return b, o.send, true
}

// back puts a message back that could not be sent.
func (o *outbox) back(b batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.send == nil {
		return
	}
	o.lost += b.lost
	free := max(0, outboxSize-len(o.events))
	if n := len(b.events) - free; n > 0 {
		b.events = b.events[n:]
		o.lost += n
	}
	o.events = append(append([]Event(nil), b.events...), o.events...)
}

// run sends until ctx ends, and then once more what waits.
func (o *outbox) run(ctx context.Context) {
	failed := retryFirst
	for {
		if ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-o.wake:
			}
		}
		b, send, ok := o.next(time.Now())
		if !ok {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		pause := o.gap
		err := o.try(ctx, send, b)
		if p, sent := err.(partly); sent {
			o.log.Warn(o.name+" was sent, but not to all", "error", p.error)
			err = nil
		}
		if err != nil {
			o.log.Warn(o.name+" could not be sent", "events", len(b.events), "again_in", failed, "error", err)
			o.back(b)
			pause = failed
			failed = min(2*failed, retryMost)
		} else {
			o.log.Debug(o.name+" sent", "events", len(b.events))
			failed = retryFirst
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			o.signal()
		}
	}
}

// try sends a message, for sendLimit, and endLimit after the end of ctx.
func (o *outbox) try(ctx context.Context, send sender, b batch) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendLimit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-limited.Done():
		case <-time.After(endLimit):
			cancel()
		}
	})
	defer stop()
	return send(limited, b)
}
