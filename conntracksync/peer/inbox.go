package peer

import (
	"sync"
	"sync/atomic"
)

// inbox is what came and waits for the handler: frames with their headers, as
// they came over the wire, checked. The session's reader puts in, the peer's
// goroutine takes out.
type inbox struct {
	wake chan struct{}

	mu           sync.Mutex
	bulk, urgent []byte
	held         int // bytes that were put in and not released
	overtaking   atomic.Bool
}

func newInbox() *inbox { return &inbox{wake: make(chan struct{}, 1)} }

// keepBuffer is how large a buffer is kept for the next frames.
const keepBuffer = 256 << 10

// put takes frames; it is false if the other side had no credit for them.
func (i *inbox) put(urgent bool, frames []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held += len(frames)
	if i.held > window+urgentReserve {
		return false
	}
	if urgent {
		i.urgent = append(i.urgent, frames...)
		i.overtaking.Store(true)
	} else {
		i.bulk = append(i.bulk, frames...)
	}
	i.signal()
	return true
}

func (i *inbox) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

// take returns all frames of bulk; the buffer that was returned before is used
// again.
func (i *inbox) take(before []byte) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	if cap(before) > keepBuffer {
		before = nil
	}
	taken := i.bulk
	i.bulk = before[:0]
	return taken
}

// takeUrgent returns all urgent frames.
func (i *inbox) takeUrgent() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.overtaking.Store(false)
	taken := i.urgent
	i.urgent = nil
	return taken
}

// release gives back room for n bytes that were handled.
func (i *inbox) release(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held -= n
}
