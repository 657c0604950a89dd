package join

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Ticket lets one router join. It never shows itself in a log; Word is what a
// person copies.
type Ticket struct {
	pin    pin
	secret secret
	until  time.Time // zero in a parsed one: only the issuer knows
}

type (
	pin    [16]byte // SHA-256 of the certificate's SubjectPublicKeyInfo, its first half
	secret [16]byte
)

const (
	ticketName    = "hj"
	ticketVersion = "1"
	ticketPrefix  = ticketName + ticketVersion + "_"
	sumSize       = 4
)

// Lower case and digits, no look-alikes of 0 and 1 (RFC 4648 base32): easy to
// read out, and a double click selects the whole word.
var ticketText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var ticketSize = len(ticketPrefix) + ticketText.EncodedLen(len(pin{})+len(secret{})+sumSize)

func newTicket(p pin, until time.Time) Ticket {
	t := Ticket{pin: p, until: until}
	rand.Read(t.secret[:]) // never fails (crypto/rand)
	return t
}

// Until is the end of a ticket that was issued here.
func (t Ticket) Until() time.Time { return t.until }

// Word is the ticket as one word of 62 characters, safe in a shell and a URL.
func (t Ticket) Word() string {
	raw := append(t.pin[:], t.secret[:]...)
	return ticketPrefix + ticketText.EncodeToString(append(raw, ticketSum(raw)...))
}

func ticketSum(raw []byte) []byte {
	sum := sha256.Sum256(append([]byte(ticketPrefix), raw...))
	return sum[:sumSize]
}

// ParseTicket reads the word of a ticket. What was cut off or mistyped is told
// here, before anything is sent. Its errors never show the word.
func ParseTicket(word string) (Ticket, error) {
	word = strings.ToLower(strings.TrimSpace(word))
	rest, ours := strings.CutPrefix(word, ticketName)
	version, _, marked := strings.Cut(rest, "_")
	switch {
	case word == "":
		return Ticket{}, errors.New("the ticket is empty: copy it from what `harouter token` prints")
	case strings.HasPrefix(word, ticketPrefix):
	case ours && marked && version != "" && strings.Trim(version, "0123456789") == "":
		return Ticket{}, fmt.Errorf("the ticket is of version %.8s, this harouter knows version %s: install the same harouter on both routers", version, ticketVersion)
	default:
		return Ticket{}, fmt.Errorf("this is no ticket: one begins with %s, as `harouter token` prints it", ticketPrefix)
	}
	switch {
	case len(word) < ticketSize:
		return Ticket{}, fmt.Errorf("the ticket is cut off: it has %d characters of %d: copy it again", len(word), ticketSize)
	case len(word) > ticketSize:
		return Ticket{}, fmt.Errorf("the ticket has %d characters, %d are right: copy it again", len(word), ticketSize)
	}
	errTyped := errors.New("the ticket is mistyped (its checksum is wrong): copy it again")
	all, err := ticketText.DecodeString(word[len(ticketPrefix):])
	if err != nil {
		return Ticket{}, errTyped
	}
	var t Ticket
	n := copy(t.pin[:], all)
	copy(t.secret[:], all[n:])
	if t.Word() != word { // the checksum, and the bits behind the last byte
		return Ticket{}, errTyped
	}
	return t, nil
}

const hidden = "(a ticket, not shown)"

func (Ticket) String() string               { return hidden }
func (Ticket) GoString() string             { return hidden }
func (Ticket) LogValue() slog.Value         { return slog.StringValue(hidden) }
func (Ticket) MarshalText() ([]byte, error) { return []byte(hidden), nil }
