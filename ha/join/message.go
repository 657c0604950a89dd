package join

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"
)

// Protocol is the version of what is said inside of TLS.
const Protocol = 1

// alpn tells a join from what else may share the port.
const alpn = "harouter-join/1"

// Bounds of one message, bytes.
const (
	maxRequest = 16 << 10
	maxContent = 1<<20 + 8<<10 // of file and key: the most that package config reads
	maxBundle  = 2 << 20       // the same in base64, with room
	maxText    = 1000          // of an error, characters
)

// Request is what a new router says of itself.
type Request struct {
	Protocol  int               `json:"protocol"` // Fetch fills it in
	Node      string            `json:"node"`
	Addresses []netip.Addr      `json:"addresses,omitempty"` // none: not given
	Priority  uint8             `json:"priority,omitempty"`  // 0: not given
	Devices   map[string]string `json:"devices,omitempty"`   // by lan or uplink
	Version   string            `json:"version"`             // of its harouter
	From      netip.Addr        `json:"-"`                   // whence it comes, as the server sees it
}

// Bundle is what it gets.
type Bundle struct {
	Cluster    string `json:"cluster"`
	File       []byte `json:"file"` // the text of harouter.yaml
	Key        []byte `json:"key"`  // the text of cluster.key
	Generation uint64 `json:"generation"`
	Hash       string `json:"hash"` // SHA-256 of File, in hex
}

// Hash is the Bundle's Hash of a file.
func Hash(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:])
}

// String shows no key.
func (b Bundle) String() string {
	return fmt.Sprintf("bundle of %s, generation %d, file %.12s", b.Cluster, b.Generation, b.Hash)
}

// GoString shows no key either.
func (b Bundle) GoString() string { return b.String() }

func (b Bundle) check() error {
	switch {
	case Hash(b.File) != b.Hash:
		return errors.New("the file does not have the hash that came with it")
	case len(b.File) == 0 || len(b.Key) == 0 || b.Generation == 0:
		return errors.New("the file, the key or the generation is missing")
	case len(b.File)+len(b.Key) > maxContent:
		return fmt.Errorf("file and key have %d bytes together, at most %d can be handed over", len(b.File)+len(b.Key), maxContent)
	}
	return nil
}

// hello is the request with the ticket's secret.
type hello struct {
	Secret []byte `json:"secret"`
	Request
}

// answer is a bundle, or why there is none.
type answer struct {
	Protocol int     `json:"protocol"`
	Error    string  `json:"error,omitempty"`
	Bundle   *Bundle `json:"bundle,omitempty"`
}

// errNewer: the other side has a newer protocol.
type errNewer struct{ protocol int }

func (e errNewer) Error() string {
	return fmt.Sprintf("the routers speak different versions of join, %d and %d: install the same harouter on both", Protocol, e.protocol)
}

// checkProtocol looks at the version alone: the rest may have another form.
func checkProtocol(raw []byte) error {
	var v struct{ Protocol int }
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	switch {
	case v.Protocol > Protocol:
		return errNewer{v.Protocol}
	case v.Protocol < 1:
		return errors.New("it names no protocol version")
	}
	return nil
}

func decodeHello(raw []byte) (hello, error) {
	if err := checkProtocol(raw); err != nil {
		return hello{}, err
	}
	var h hello
	if err := json.Unmarshal(raw, &h); err != nil {
		return hello{}, err
	}
	switch {
	case len(h.Secret) != len(secret{}):
		return hello{}, fmt.Errorf("a secret has %d bytes, this one %d", len(secret{}), len(h.Secret))
	case !plainWord(h.Node, 63):
		return hello{}, errors.New("the node's name must have 1 to 63 printable characters without spaces")
	}
	h.Version = printable(h.Version, 64)
	return h, nil
}

func decodeAnswer(raw []byte) (answer, error) {
	if err := checkProtocol(raw); err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(raw, &a); err != nil {
		return answer{}, err
	}
	a.Error = printable(a.Error, maxText)
	if (a.Error == "") == (a.Bundle == nil) {
		return answer{}, errors.New("it is neither a bundle nor an error")
	}
	return a, nil
}

// plainWord tells whether s can stand in a line of a log as it is.
func plainWord(s string, longest int) bool {
	return s != "" && len(s) <= longest && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// printable makes a text of the other side fit for a terminal: one line, no
// control characters, at most longest characters.
func printable(s string, longest int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, s)
	if r := []rune(s); len(r) > longest {
		s = string(r[:longest]) + "…"
	}
	return s
}

// errTooLong: a message exceeds what the reader takes.
type errTooLong struct{ size, most uint64 }

func (e errTooLong) Error() string {
	return fmt.Sprintf("the message has %d bytes, at most %d are taken", e.size, e.most)
}

// readFrame reads a message: its length in four bytes, then itself.
func readFrame(r io.Reader, most int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(most) {
		return nil, errTooLong{uint64(n), uint64(most)}
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return raw, nil
}

// writeFrame sends a message whole.
func writeFrame(w io.Writer, v any, most int) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(raw) > most {
		return errTooLong{uint64(len(raw)), uint64(most)}
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(raw))), raw...))
	return err
}
