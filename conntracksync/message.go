package conntracksync

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Version is that of the frames. A peer with another one is not understood.
const Version = 1

// MaxFrame is the size of the longest frame that is written or read, in bytes.
const MaxFrame = 16 << 10

// kind is a frame's first byte.
type kind uint8

const (
	helloFrame    kind = iota + 1
	roleFrame          // master, term
	flowsFrame         // records: flows that are new or changed
	bulkFrame          // the same as part of a sync; it is acknowledged
	endsFrame          // ids of flows that ended
	beginFrame         // a sync of these buckets begins, with about so many flows
	finishFrame        // it is complete: what was not told is no more
	digestFrame        // the sums of all buckets
	askFrame           // a sync of these buckets is wanted
	ackFrame           // how many frames of syncs were taken, ever
	expectFrame        // expectations; their masters were told before
	unexpectFrame      // one is no more
	yieldsFrame        // ids of flows that are another's now
)

// buckets is how many shares the digests of a table have.
const buckets = 256

// bucket is the share in which a key falls.
func (k *Key) bucket() uint8 { return uint8(k.hash() >> 56) }

// set is a set of buckets.
type set [buckets / 64]uint64

func (s *set) has(b uint8) bool { return s[b/64]&(1<<(b%64)) != 0 }
func (s *set) len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
func (s *set) add(b uint8) { s[b/64] |= 1 << (b % 64) }

var allBuckets = set{1<<64 - 1, 1<<64 - 1, 1<<64 - 1, 1<<64 - 1}

// hello is the first frame of each side.
type hello struct {
	version uint8
	node    string
	boot    uint64
	limit   uint32
	role    Role
}

// Role is what a node is, with the term in which it was master last, 0 if it never
// was: of two that claim the same flow the one of the later term is right, of equals
// the one with the greater name. A node's term never falls, so that of two whose
// words cross each other one alone gives way, however late they come: if both did,
// each would take what the other says next for the flow's end.
type Role struct {
	Master bool
	Term   uint64
}

func (r Role) append(b []byte) []byte {
	m := byte(0)
	if r.Master {
		m = 1
	}
	return binary.BigEndian.AppendUint64(append(b, m), r.Term)
}

func (r *reader) role() Role {
	m := r.byte()
	if m > 1 {
		r.fail(errMeaning)
	}
	return Role{m == 1, r.uint64()}
}

func (h hello) append(b []byte) []byte {
	b = append(b, byte(helloFrame), h.version)
	b = append(append(b, byte(len(h.node))), h.node...)
	b = binary.BigEndian.AppendUint64(b, h.boot)
	b = binary.BigEndian.AppendUint32(b, h.limit)
	return h.role.append(b)
}

// hello reads one. Of another version only the number is read.
func (r *reader) hello() (h hello) {
	if h.version = r.byte(); h.version != Version {
		r.b = nil
		return h
	}
	h.node = string(r.take(int(r.byte())))
	h.boot, h.limit = r.uint64(), r.uint32()
	h.role = r.role()
	return h
}

func (s *set) append(b []byte) []byte {
	for _, w := range s {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

func (r *reader) set() (s set) {
	for i := range s {
		s[i] = r.uint64()
	}
	return s
}

// done ends the reading of a frame: all of it must have had a meaning.
func (r *reader) done(k kind) error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("read a frame of kind %d: %w", k, r.err)
	}
	return nil
}
