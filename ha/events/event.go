package events

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Event is one thing that happened. Node and Seq name it in the whole cluster.
type Event struct {
	Time    time.Time `json:"time"` // of the node's own clock
	Node    string    `json:"node"` // that recorded it
	Seq     uint64    `json:"seq"`  // counts up on its node, over restarts; see firstSeq
	Kind    string    `json:"kind"` // role, node, uplink, address, config, sync, repair, alarm, operator
	Subject string    `json:"subject,omitempty"`
	From    string    `json:"from,omitempty"`
	To      string    `json:"to,omitempty"`
	Reason  string    `json:"reason,omitempty"`
}

// Bounds of an event, bytes. What is longer is cut.
const (
	maxNode   = 64
	maxKind   = 32
	maxWord   = 128 // subject, from, to
	maxReason = 512
)

// maxSeq is what another node's number may be; half of it is left for those
// that follow one of our own which we take back.
const maxSeq = 1 << 63

// firstSeq is where a node's numbers begin that does not know its last one: the
// time of its start in milliseconds, and room for a million events in each. So a
// node that lost its log does not use a number twice.
func firstSeq(start time.Time) uint64 { return uint64(max(start.UnixMilli(), 0)) << 20 }

// Times outside of these are of a clock that cannot be right, or would not
// survive being written.
var (
	earliest = time.Unix(0, 0).UTC()
	latest   = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// tidy brings an event into its bounds. What is wrong is mended instead of
// refused: the node that sends it would only send it again.
func tidy(e Event) Event {
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	if e.Time.Before(earliest) {
		e.Time = earliest
	} else if e.Time.After(latest) {
		e.Time = latest
	}
	e.Kind, e.Subject, e.From = text(e.Kind, maxKind), text(e.Subject, maxWord), text(e.From, maxWord)
	e.To, e.Reason = text(e.To, maxWord), text(e.Reason, maxReason)
	return e
}

// text returns s as valid UTF-8 of at most n bytes, in memory of its own where
// it was cut.
func text(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}

// check refuses an event that nobody can hold.
func check(e Event) error {
	switch {
	case e.Node == "" || len(e.Node) > maxNode || !utf8.ValidString(e.Node):
		return fmt.Errorf("an event's node is %.40q, 1 to %d bytes are expected", e.Node, maxNode)
	case e.Seq == 0 || e.Seq >= maxSeq:
		return fmt.Errorf("an event of %s has the number %d", e.Node, e.Seq)
	}
	return nil
}

// size is about what an event takes, in memory or in the file, bytes.
func (e *Event) size() int {
	return 128 + len(e.Node) + len(e.Kind) + len(e.Subject) + len(e.From) + len(e.To) + len(e.Reason)
}

// byTime is the order in which people read events.
func byTime(a, b Event) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Seq, b.Seq))
}
