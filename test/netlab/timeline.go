package netlab

import (
	"net/netip"
	"time"
)

// Change is one moment at which a router got or lost an address.
type Change struct {
	At     Instant
	Router string
	Held   bool // got it; else lost it
}

// history is what the changes of one address say, in the order of time.
type history []Change

// spans calls each with every span of time between two changes and with the
// last one, open until end; holders is how many held the address in it.
func (h history) spans(end Instant, each func(from, to Instant, holders int)) {
	holders := map[string]bool{}
	for i, c := range h {
		if c.Held {
			holders[c.Router] = true
		} else {
			delete(holders, c.Router)
		}
		to := end
		if i+1 < len(h) {
			to = h[i+1].At
		}
		each(c.At, to, len(holders))
	}
}

// longest is the longest uninterrupted time after since in which the number of
// holders was one that counts.
func (h history) longest(since, end Instant, counts func(holders int) bool) time.Duration {
	var best time.Duration
	begin := Instant(-1)
	h.spans(end, func(from, to Instant, holders int) {
		if !counts(holders) || to <= since {
			begin = -1
			return
		}
		if begin < 0 {
			begin = max(from, since)
		}
		best = max(best, to.Sub(begin))
	})
	return best
}

// Changes lists when which router got or lost the address.
func (w *Watch) Changes(addr netip.Addr) []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Change(nil), w.changes[addr]...)
}

// Overlap is the longest time after since (0: ever) in which more than one
// router held the address; one that still lasts counts until now.
func (w *Watch) Overlap(addr netip.Addr, since Instant) time.Duration {
	return history(w.Changes(addr)).longest(since, Now(), func(n int) bool { return n > 1 })
}

// Vacant is the longest time after since (0: since it was first held) in which
// no router held the address.
func (w *Watch) Vacant(addr netip.Addr, since Instant) time.Duration {
	return history(w.Changes(addr)).longest(since, Now(), func(n int) bool { return n == 0 })
}

// Moves counts how often, after since, a router got the address.
func (w *Watch) Moves(addr netip.Addr, since Instant) int {
	moves := 0
	for _, c := range w.Changes(addr) {
		if c.Held && c.At > since {
			moves++
		}
	}
	return moves
}
