package gossip

// A life is one run of one node, numbered so that a later one is greater. It
// begins as the wall clock and is corrected by what the others remember
// (Gossip.outlive), so a clock that went back locks no node out.
//
// A snapshot is taken only if
//   - it is of the newest life heard of its sender and its number is higher
//     than that of the last one taken, so an old one never rolls a state back;
//   - it says that the sender has heard of our present life, so one that was
//     recorded before we started does not make a dead node look alive.
//
// Direct messages name the receiver's life in the same way; as long as the
// sender has not heard it, they are taken without.

// windowSize is how many of the last direct messages of a sender are
// remembered; older ones count as seen.
const windowSize = 256

// window remembers which numbers of one sender's life were seen.
type window struct {
	high uint64
	slot [windowSize]uint64
}

// fresh tells whether n, which counts from 1, is seen for the first time.
func (w *window) fresh(n uint64) bool {
	if n == 0 || n+windowSize <= w.high || w.slot[n%windowSize] == n {
		return false
	}
	// What stands in the slot is older: two numbers of one slot are at least
	// windowSize apart, and n is not that far behind the highest.
	w.slot[n%windowSize] = n
	w.high = max(w.high, n)
	return true
}

// lifeline is what the receiving side knows of one other node.
type lifeline struct {
	life  uint64 // newest life heard of
	state uint64 // number of the last snapshot taken
	seen  window // direct messages
}

// enter notes that the sender's life was heard of, and tells whether it is
// the present one and whether that is news.
func (l *lifeline) enter(life uint64) (present, news bool) {
	if life > l.life {
		*l = lifeline{life: life}
		return true, true
	}
	return life == l.life && life != 0, false
}

// takeState tells whether snapshot number n of the present life is new.
func (l *lifeline) takeState(n uint64) bool {
	if n <= l.state {
		return false
	}
	l.state = n
	return true
}
