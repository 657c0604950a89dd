package netlab

import (
	"bytes"
	"encoding/binary"
)

// pattern is what a bulk flow carries: each byte depends on the flow and on its
// place, so that nothing lost, doubled or changed goes unseen.
type pattern struct {
	flow  uint32
	at    int64 // bytes so far
	block []byte
}

const patternBlock = 16 << 10

// next gives the bytes that follow, at most n of them; they are valid until the
// next call.
func (p *pattern) next(n int) []byte {
	place := int(p.at % patternBlock)
	if p.block == nil {
		p.block = make([]byte, patternBlock)
	}
	if place == 0 {
		fillMessage(p.block, p.flow, uint64(p.at/patternBlock))
	}
	b := p.block[place:min(place+n, patternBlock)]
	p.at += int64(len(b))
	return b
}

// fill makes the bytes that follow.
func (p *pattern) fill(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, p.next(len(b))):]
	}
}

// accept tells whether b are the bytes that follow.
func (p *pattern) accept(b []byte) bool {
	for len(b) > 0 {
		want := p.next(len(b))
		if !bytes.Equal(want, b[:len(want)]) {
			return false
		}
		b = b[len(want):]
	}
	return true
}

// fillMessage makes the bytes of one message: each depends on the flow and on
// its place in the stream, so that nothing lost or doubled goes unseen.
func fillMessage(b []byte, flow uint32, number uint64) {
	x := uint64(flow)<<40 ^ number ^ 0x9e3779b97f4a7c15
	for i := 0; i < len(b); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		var w [8]byte
		binary.LittleEndian.PutUint64(w[:], x)
		copy(b[i:], w[:])
	}
}
