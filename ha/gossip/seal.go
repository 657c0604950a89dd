package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"
)

// The outer form of what memberlist v0.7.0 sends with a label and keys:
//
//	packet: label header, sealed
//	stream: label header, byte 10, 4 bytes length of sealed, sealed
//	label header: byte 244, byte length, label
//	sealed: byte 1 (version), 12 bytes nonce, AES-GCM ciphertext and tag
//
// The label is authenticated, in a stream behind the five bytes before sealed.
// memberlist only logs what it cannot open; looking first tells a wrong key
// from garbage and keeps both away from its decoders.
const (
	labelByte    = 244
	encryptByte  = 10
	sealVersion  = 1
	nonceSize    = 12
	tagSize      = 16
	sealedMin    = 1 + nonceSize + 1 + tagSize
	streamHeader = 5
)

// maxStream bounds what a stream may claim before anything of it is known to
// be authentic, bytes.
const maxStream = 1 << 20

// seals judges whether bytes were sealed with one of the cluster's keys.
type seals struct {
	label string
	keys  []cipher.AEAD
}

func newSeals(label string, keys [][]byte) (*seals, error) {
	s := &seals{label: label}
	for i, k := range keys {
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, fmt.Errorf("use gossip key %d: %w", i+1, err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("use gossip key %d: %w", i+1, err)
		}
		s.keys = append(s.keys, gcm)
	}
	return s, nil
}

// packet returns the reason to drop a packet, "" if it is authentic.
func (s *seals) packet(b []byte) string {
	n := 2 + len(s.label)
	if len(b) < n || b[0] != labelByte || int(b[1]) != len(s.label) || string(b[2:n]) != s.label {
		return DropGarbage
	}
	return s.open(b[n:], []byte(s.label))
}

func (s *seals) open(sealed, authentic []byte) string {
	if len(sealed) < sealedMin || sealed[0] != sealVersion {
		return DropGarbage
	}
	nonce, text := sealed[1:1+nonceSize], sealed[1+nonceSize:]
	for _, k := range s.keys {
		if _, err := k.Open(nil, nonce, text, authentic); err == nil {
			return ""
		}
	}
	return DropKey
}

// cutShort is why seals.stream drops a stream that began well and ended early.
// It is no Drop reason: see transport.judge.
const cutShort = "cut short"

// whole tells whether b, which memberlist writes to a stream, is all of it.
func (s *seals) whole(b []byte) bool {
	n := 2 + len(s.label)
	return len(b) >= n+streamHeader && int64(len(b)) >= int64(n+streamHeader)+int64(binary.BigEndian.Uint32(b[n+1:]))
}

// stream reads the one sealed message that opens a stream and returns all that
// it read, or the reason to drop the stream. A stream that ends before its
// first byte has neither.
func (s *seals) stream(r io.Reader) (read []byte, drop string) {
	n := 2 + len(s.label)
	b := make([]byte, n+streamHeader, 4096)
	header := append(append([]byte{labelByte, byte(len(s.label))}, s.label...), encryptByte)
	got, err := io.ReadFull(r, b)
	switch {
	case got == 0:
		return nil, ""
	case !bytes.HasPrefix(b, header[:min(got, len(header))]):
		return nil, DropGarbage
	case err != nil:
		return nil, cutShort
	}
	length := int64(binary.BigEndian.Uint32(b[n+1:]))
	if length < sealedMin || length > maxStream {
		return nil, DropGarbage
	}
	// grows with what comes, not with what was claimed
	rest, err := io.ReadAll(io.LimitReader(r, length))
	if err != nil || int64(len(rest)) < length {
		return nil, cutShort
	}
	authentic := append(append([]byte{}, b[n:]...), s.label...)
	if drop := s.open(rest, authentic); drop != "" {
		return nil, drop
	}
	return append(b, rest...), ""
}
