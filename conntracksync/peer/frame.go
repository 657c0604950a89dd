package peer

import (
	"encoding/binary"
	"fmt"
)

// kind is the first byte of a frame. The length of what follows is in the next
// three, big endian.
type kind uint8

const (
	kindHello  kind = iota + 1 // versions; its form never changes
	kindGo                     // of the connections that greeted, this one is used; and the answer to it
	kindData                   // a frame of the caller
	kindUrgent                 // one that overtakes
	kindMark                   // its number is told back once all before it was handled
	kindDone                   // the number of the last mark that was reached
	kindPing                   // told back at once
	kindPong
	kindCredit // how many bytes of data, urgent and marks were handled since the session began
	kindBye    // the sender ends the session; why
)

const (
	headerSize = 4
	recordSize = 16 << 10 // of TLS, in plain text
	numberSize = headerSize + 8
	maxHello   = 1 << 10
)

// MaxFrame is the largest frame that Send takes, in bytes: with its header it
// fits one TLS record.
const MaxFrame = recordSize - headerSize

// why a kindBye is sent.
const (
	byeLeaving byte = iota + 1
	byeConfigured
	byeReplaced
	byeAgain
)

func appendFrame(b []byte, k kind, payload []byte) []byte {
	n := len(payload)
	return append(append(b, byte(k), byte(n>>16), byte(n>>8), byte(n)), payload...)
}

func appendNumber(b []byte, k kind, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, byte(k), 0, 0, 8), n)
}

// parse finds the first frame of b; a size of 0 says that it is not complete
// yet. The payload is a part of b.
func parse(b []byte) (k kind, payload []byte, size int, err error) {
	if len(b) < headerSize {
		return 0, nil, 0, nil
	}
	k, n := kind(b[0]), int(b[1])<<16|int(b[2])<<8|int(b[3])
	var least, most int
	switch k {
	case kindHello:
		least, most = helloSize, maxHello
	case kindData, kindUrgent:
		most = MaxFrame
	case kindMark, kindDone, kindPing, kindPong, kindCredit:
		least, most = 8, 8
	case kindBye:
		least, most = 1, 1
	case kindGo:
	default:
		return 0, nil, 0, fmt.Errorf("a frame of kind %d, which does not exist", k)
	}
	if n < least || n > most {
		return 0, nil, 0, fmt.Errorf("a frame of kind %d with %d bytes, allowed: %d to %d", k, n, least, most)
	}
	if len(b) < headerSize+n {
		return 0, nil, 0, nil
	}
	return k, b[headerSize : headerSize+n], headerSize + n, nil
}

// Versions of the protocol that this binary speaks.
const (
	protocol       = 1
	oldestProtocol = 1
)

const helloSize = 4

// hello is how both sides greet. A later version may append to it.
type hello struct {
	newest, oldest uint16
	frames         uint16 // Config.Frames; 0 of one that does not say
}

func (h hello) encode() []byte {
	b := binary.BigEndian.AppendUint16(nil, h.newest)
	b = binary.BigEndian.AppendUint16(b, h.oldest)
	if h.frames != 0 {
		b = binary.BigEndian.AppendUint16(b, h.frames)
	}
	return b
}

func decodeHello(b []byte) (hello, error) {
	if len(b) < helloSize {
		return hello{}, fmt.Errorf("a greeting of %d bytes, at least %d are needed", len(b), helloSize)
	}
	h := hello{newest: binary.BigEndian.Uint16(b), oldest: binary.BigEndian.Uint16(b[2:])}
	if len(b) >= helloSize+2 {
		h.frames = binary.BigEndian.Uint16(b[helloSize:])
	}
	if h.oldest == 0 || h.newest < h.oldest {
		return hello{}, fmt.Errorf("a greeting with the versions %d to %d", h.oldest, h.newest)
	}
	return h, nil
}

// agree returns the version that both speak.
func (h hello) agree(node string, other hello) (uint16, error) {
	older := func(there bool) string {
		if there {
			return node
		}
		return "this node"
	}
	v := min(h.newest, other.newest)
	switch {
	case v < h.oldest || v < other.oldest:
		return 0, &fault{ReasonVersion, fmt.Errorf("%s speaks version %d to %d of the state sync, this node %d to %d: install the newer harouter on %s",
			node, other.oldest, other.newest, h.oldest, h.newest, older(other.newest < h.newest))}
	case h.frames != other.frames:
		return 0, &fault{ReasonVersion, fmt.Errorf("%s tells its connections in version %d, this node in version %d: install the newer harouter on %s",
			node, other.frames, h.frames, older(other.frames < h.frames))}
	}
	return v, nil
}

func numberOf(payload []byte) uint64 { return binary.BigEndian.Uint64(payload) }
