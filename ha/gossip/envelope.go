package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// envelope is what travels inside memberlist's user messages and push-pulls:
// a snapshot or a direct message with what is needed to recognise old ones.
//
//	byte    format, 1
//	byte    type
//	string  from
//	8 bytes life, 8 bytes seq
//	state:   uvarint count, then count × (string node, 8 bytes life)
//	message, ahead: 8 bytes life of the receiver, string kind
//	rest    payload
//
// A string is one length byte and as many bytes.
type envelope struct {
	Type    envelopeType
	From    string
	Life    uint64 // of the sender
	Seq     uint64 // counts up within Life, for each Type
	Heard   []heard
	To      uint64 // the receiver's life, 0 not known
	Kind    string
	Payload []byte
}

// heard is the newest life of a node that the sender heard of.
type heard struct {
	Node string
	Life uint64
}

type envelopeType byte

const (
	typeState   envelopeType = 1
	typeMessage envelopeType = 2
	typeAhead   envelopeType = 3 // a message without a number, for both lives

	envelopeFormat = 1
	maxName        = 255
)

var errTruncated = errors.New("truncated")

// appendTo writes the envelope behind b. Names are at most maxName bytes: the
// callers see to it.
func (e *envelope) appendTo(b []byte) []byte {
	str := func(s string) { b = append(append(b, byte(len(s))), s...) }
	num := func(n uint64) { b = binary.BigEndian.AppendUint64(b, n) }
	b = append(b, envelopeFormat, byte(e.Type))
	str(e.From)
	num(e.Life)
	num(e.Seq)
	switch e.Type {
	case typeState:
		b = binary.AppendUvarint(b, uint64(len(e.Heard)))
		for _, h := range e.Heard {
			str(h.Node)
			num(h.Life)
		}
	case typeMessage, typeAhead:
		num(e.To)
		str(e.Kind)
	}
	return append(b, e.Payload...)
}

// decodeEnvelope reads what appendTo wrote. The payload is a copy of its own.
func decodeEnvelope(b []byte) (envelope, error) {
	r := reader{b: b}
	if f := r.byte(); r.err == nil && f != envelopeFormat {
		return envelope{}, fmt.Errorf("read gossip: format %d, known is %d", f, envelopeFormat)
	}
	e := envelope{Type: envelopeType(r.byte()), From: r.str(), Life: r.num(), Seq: r.num()}
	switch e.Type {
	case typeState:
		// each entry takes nine bytes at least: a count cannot lie for long
		for n := r.uvarint(); n > 0 && r.err == nil; n-- {
			e.Heard = append(e.Heard, heard{Node: r.str(), Life: r.num()})
		}
	case typeMessage, typeAhead:
		e.To, e.Kind = r.num(), r.str()
	default:
		if r.err == nil {
			return envelope{}, fmt.Errorf("read gossip: unknown type %d", e.Type)
		}
	}
	if r.err != nil {
		return envelope{}, fmt.Errorf("read gossip: %w", r.err)
	}
	if len(r.b) > 0 {
		e.Payload = bytes.Clone(r.b)
	}
	return e, nil
}

// reader takes fields off the front of b until one is not all there.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.err = errTruncated
		return make([]byte, n)
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte  { return r.take(1)[0] }
func (r *reader) num() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) str() string { return string(r.take(int(r.byte()))) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.err != nil || n <= 0 {
		r.err = errTruncated
		return 0
	}
	r.b = r.b[n:]
	return v
}
