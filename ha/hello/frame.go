package hello

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// kind is what a frame carries.
type kind uint8

const (
	kindSeen    kind = iota + 1 // nothing: the state does not fit
	kindState                   // a node's state
	kindMessage                 // a direct message
)

// frame is what one node tells others on one lan.
type frame struct {
	Kind      kind
	From, To  string // To: of a message
	Lan       string
	Life      uint64 // of the sending process, random
	Seq       uint64 // counts the frames of that life
	Challenge uint64 // of the sender; whoever hears it sends it back
	Echoes    []echo
	Payload   []byte
}

// echo is a challenge that the sender heard.
type echo struct {
	Node      string
	Challenge uint64
}

const (
	magic = "hrt1"
	// tagLen bytes tell the clusters on one wire apart.
	tagLen   = 8
	headLen  = len(magic) + tagLen
	nonceLen = 12
	maxName  = 255
	// maxFrame is what fits into one Ethernet frame everywhere, tunnels too.
	maxFrame  = 1400
	maxEchoes = 64
)

// seal is how a cluster's frames are closed and opened.
type seal struct {
	tag  [tagLen]byte
	keys []cipher.AEAD // frames are closed with the first
}

// newSeal makes one from keys of 32 bytes.
func newSeal(cluster string, vrid uint8, keys [][32]byte) (*seal, error) {
	if len(keys) == 0 {
		return nil, errors.New("greet on the lans: no key")
	}
	s := &seal{}
	sum := sha256.Sum256(append([]byte(cluster), vrid))
	copy(s.tag[:], sum[:])
	for _, k := range keys {
		block, err := aes.NewCipher(k[:])
		if err != nil {
			return nil, fmt.Errorf("greet on the lans: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("greet on the lans: %w", err)
		}
		s.keys = append(s.keys, aead)
	}
	return s, nil
}

// Reasons for which a frame is not taken.
var (
	errOther   = errors.New("of another cluster")
	errKey     = errors.New("key")
	errGarbage = errors.New("garbage")
)

// close returns the bytes that travel.
func (s *seal) close(f frame) []byte {
	b := make([]byte, headLen+nonceLen, maxFrame)
	copy(b, magic)
	copy(b[len(magic):], s.tag[:])
	rand.Read(b[headLen:]) // never fails (crypto/rand)
	return s.keys[0].Seal(b, b[headLen:], f.append(nil), b[:headLen])
}

// open reads what close wrote.
func (s *seal) open(b []byte) (frame, error) {
	if len(b) < headLen || string(b[:len(magic)]) != magic || string(b[len(magic):headLen]) != string(s.tag[:]) {
		return frame{}, errOther
	}
	if len(b) < headLen+nonceLen {
		return frame{}, errGarbage
	}
	for _, k := range s.keys {
		// Short frames are padded to 60 bytes; ours are longer.
		if plain, err := k.Open(nil, b[headLen:headLen+nonceLen], b[headLen+nonceLen:], b[:headLen]); err == nil {
			return parseFrame(plain)
		}
	}
	return frame{}, errKey
}

func (f frame) append(b []byte) []byte {
	b = append(b, byte(f.Kind))
	for _, name := range []string{f.From, f.To, f.Lan} {
		b = appendName(b, name)
	}
	b = binary.BigEndian.AppendUint64(b, f.Life)
	b = binary.BigEndian.AppendUint64(b, f.Seq)
	b = binary.BigEndian.AppendUint64(b, f.Challenge)
	echoes := f.Echoes[:min(len(f.Echoes), maxEchoes)]
	b = append(b, byte(len(echoes)))
	for _, e := range echoes {
		b = appendName(b, e.Node)
		b = binary.BigEndian.AppendUint64(b, e.Challenge)
	}
	return append(b, f.Payload...)
}

func appendName(b []byte, name string) []byte {
	name = name[:min(len(name), maxName)]
	return append(append(b, byte(len(name))), name...)
}

// parseFrame reads what append wrote.
func parseFrame(b []byte) (frame, error) {
	r := reader{b}
	f := frame{Kind: kind(r.byte()), From: r.name(), To: r.name(), Lan: r.name(), Life: r.number(), Seq: r.number(), Challenge: r.number()}
	for range int(r.byte()) {
		f.Echoes = append(f.Echoes, echo{Node: r.name(), Challenge: r.number()})
		if r.rest == nil {
			break
		}
	}
	if r.rest == nil || f.Kind < kindSeen || f.Kind > kindMessage || f.From == "" || len(f.Echoes) > maxEchoes {
		return frame{}, errGarbage
	}
	f.Payload = slices.Clone(r.rest)
	return f, nil
}

// reader takes a message apart; rest is nil once it was too short.
type reader struct{ rest []byte }

func (r *reader) take(n int) []byte {
	if len(r.rest) < n || r.rest == nil {
		r.rest = nil
		return make([]byte, n)
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte     { return r.take(1)[0] }
func (r *reader) number() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *reader) name() string   { return string(r.take(int(r.byte()))) }
