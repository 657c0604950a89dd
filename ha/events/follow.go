package events

import (
	"context"
	"errors"
)

// ErrSlow is what Follow returns when its caller did not keep up.
var ErrSlow = errors.New("events came faster than they were taken")

// followerQueue is how far a follower may lag behind, events.
const followerQueue = 512

// follower is one who waits for new events. Its ch is used under Log.mu and
// closed when it is full.
type follower struct{ ch chan Event }

func (f *follower) offer(e Event) bool {
	select {
	case f.ch <- e:
		return true
	default:
		close(f.ch)
		return false
	}
}

// Follow calls each with the last n events (all, if n is 0), once also if there
// are none, and then with what comes, as it comes. It returns when ctx ends,
// with its error; when each returns an error, with that; and with ErrSlow when
// each is too slow: nobody else waits for it.
func (l *Log) Follow(ctx context.Context, n int, each func([]Event) error) error {
	f := &follower{ch: make(chan Event, followerQueue)}
	l.mu.Lock()
	all := l.store.all()
	l.followers[f] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.followers, f)
	}()
	if err := each(newest(all, n)); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-f.ch:
			if !ok {
				return ErrSlow
			}
			if err := each([]Event{e}); err != nil {
				return err
			}
		}
	}
}
