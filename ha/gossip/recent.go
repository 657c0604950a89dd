package gossip

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// recent remembers the last recentSize authentic packets: each comes once over
// every path, byte for byte the same, and counts once. What it has forgotten is
// taken a second time; the numbers in envelopes see to that. Sums have a random
// seed, so nobody can make up a packet that passes for another. Several
// goroutines may use it.
type recent struct {
	seed maphash.Seed
	sums sync.Map
	next atomic.Uint64
	ring [recentSize]atomic.Uint64
}

const recentSize = 512

func newRecent() *recent { return &recent{seed: maphash.MakeSeed()} }

func (r *recent) sum(b []byte) uint64 { return maphash.Bytes(r.seed, b) }

func (r *recent) has(sum uint64) bool {
	_, ok := r.sums.Load(sum)
	return ok
}

// add tells whether it was there already: two sockets may read at once.
func (r *recent) add(sum uint64) bool {
	if _, ok := r.sums.LoadOrStore(sum, true); ok {
		return true
	}
	r.sums.Delete(r.ring[r.next.Add(1)%recentSize].Swap(sum))
	return false
}
