package peer

import "encoding/binary"

// lane is a queue of frames, in chunks that each fit a TLS record.
type lane struct {
	chunks [][]byte
	bytes  int
	free   [][]byte
}

// maxFree is how many empty chunks a lane keeps for later.
const maxFree = 8

func (l *lane) push(k kind, payload []byte) {
	size := headerSize + len(payload)
	c := l.room(size)
	*c = appendFrame(*c, k, payload)
	l.bytes += size
}

func (l *lane) pushNumber(k kind, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	l.push(k, b[:])
}

// room returns the chunk that takes so many bytes more.
func (l *lane) room(size int) *[]byte {
	if n := len(l.chunks); n > 0 && len(l.chunks[n-1])+size <= recordSize {
		return &l.chunks[n-1]
	}
	var c []byte
	if n := len(l.free); n > 0 {
		c, l.free = l.free[n-1], l.free[:n-1]
	} else {
		c = make([]byte, 0, recordSize)
	}
	l.chunks = append(l.chunks, c)
	return &l.chunks[len(l.chunks)-1]
}

// pop drops the first chunk, whose bytes must not be used any more.
func (l *lane) pop() {
	c := l.chunks[0]
	l.chunks[0] = nil
	l.chunks = l.chunks[1:]
	l.bytes -= len(c)
	if len(l.free) < maxFree {
		l.free = append(l.free, c[:0])
	}
}

func (l *lane) clear() { *l = lane{free: l.free} }
