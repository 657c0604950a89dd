package ha

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"io"
)

// maxPeerState bounds what is read from a peer, bytes.
const maxPeerState = 256 << 10

// smallState is what surely fits into one packet of gossip, bytes. A longer
// state is deflated: that of a site with many lines then fits too, and does not
// have to go the slow way.
const smallState = 900

// deflated stands before a state that is.
const deflated = "z"

// Encode returns the form in which a state travels.
func (s PeerState) Encode() []byte { return new(stateWriter).encode(s) }

// stateWriter encodes states. Its tables take more than a megabyte, and there is a
// state to tell each second: so it keeps them.
type stateWriter struct{ w *flate.Writer }

func (t *stateWriter) encode(s PeerState) []byte {
	b, err := json.Marshal(s)
	if err != nil { // only strings, numbers and enums: cannot happen
		panic(err)
	}
	if len(b) <= smallState {
		return b
	}
	small := bytes.NewBufferString(deflated)
	if t.w == nil {
		t.w, err = flate.NewWriter(small, flate.BestSpeed)
	} else {
		t.w.Reset(small)
	}
	if err == nil {
		_, err = t.w.Write(b)
	}
	if err == nil {
		err = t.w.Close()
	}
	if err != nil { // of a buffer: cannot happen
		panic(err)
	}
	return small.Bytes()
}

// DecodePeerState reads what Encode wrote. Fields that this version does not
// know are ignored, values that it cannot understand are an error.
func DecodePeerState(b []byte) (PeerState, error) { return new(Heard).decode(b) }

// Heard decodes the states that nodes tell. They repeat the same one several times
// a second, on each path: that is not decoded again. The zero value is ready; one
// goroutine may use it.
type Heard struct {
	last map[string]heardState // by node
	r    io.ReadCloser
}

type heardState struct {
	bytes []byte
	state PeerState
}

// maxHeard bounds the nodes that are remembered.
const maxHeard = 64

// State is DecodePeerState of what this node said. The result shares memory with
// earlier ones: it is to be read only.
func (h *Heard) State(node string, b []byte) (PeerState, error) {
	if l, ok := h.last[node]; ok && bytes.Equal(l.bytes, b) {
		return l.state, nil
	}
	s, err := h.decode(b)
	switch {
	case err != nil:
		return PeerState{}, err
	case s.Node != node:
		return PeerState{}, fmt.Errorf("read a node's state: %s tells that of %s", node, s.Node)
	}
	if h.last == nil || len(h.last) >= maxHeard {
		h.last = map[string]heardState{}
	}
	h.last[node] = heardState{bytes.Clone(b), s}
	return s, nil
}

func (h *Heard) decode(b []byte) (PeerState, error) {
	if rest, ok := bytes.CutPrefix(b, []byte(deflated)); ok {
		long, err := h.inflate(rest)
		if err != nil {
			return PeerState{}, fmt.Errorf("read a node's state: %w", err)
		}
		b = long
	}
	if len(b) > maxPeerState {
		return PeerState{}, fmt.Errorf("read a node's state: %d bytes, at most %d", len(b), maxPeerState)
	}
	var s PeerState
	if err := json.Unmarshal(b, &s); err != nil {
		return PeerState{}, fmt.Errorf("read a node's state: %w", err)
	}
	if s.Node == "" {
		return PeerState{}, fmt.Errorf("read a node's state: it names no node")
	}
	return s, nil
}

// inflate reads one byte more than a state may have, at most.
func (h *Heard) inflate(b []byte) ([]byte, error) {
	if h.r == nil {
		h.r = flate.NewReader(bytes.NewReader(b))
	} else if err := h.r.(flate.Resetter).Reset(bytes.NewReader(b), nil); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(h.r, maxPeerState+1))
}
