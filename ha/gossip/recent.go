package gossip

import (
	"hash/maphash"
	"sync/atomic"
)

// recent remembers the last authentic packets: each comes once over every
// path, byte for byte the same, and counts once. What it has forgotten (a slot
// holds one packet) is taken a second time; the numbers in envelopes see to
// that. The sum has a random seed, so nobody can make up a packet that passes
// for another.
type recent struct {
	seed  maphash.Seed
	slots *[1024]atomic.Uint64
}

func newRecent() recent { return recent{maphash.MakeSeed(), new([1024]atomic.Uint64)} }

// sum is never 0, which stands in empty slots.
func (r *recent) sum(b []byte) uint64 { return maphash.Bytes(r.seed, b) | 1<<63 }

func (r *recent) slot(sum uint64) *atomic.Uint64 { return &r.slots[sum%uint64(len(r.slots))] }

func (r *recent) has(sum uint64) bool { return r.slot(sum).Load() == sum }

// add tells whether it was there already: two sockets may read at once.
func (r *recent) add(sum uint64) bool { return r.slot(sum).Swap(sum) == sum }
