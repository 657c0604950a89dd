package control

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Event is one line of `harouter events`, as --json prints it.
type Event struct {
	Time    time.Time `json:"time"` // of the node's clock; printed in UTC, with microseconds
	Node    string    `json:"node"` // that recorded it
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Reason  string    `json:"reason"`
}

// MarshalJSON writes times of equal length, so that lines sort as text.
func (e Event) MarshalJSON() ([]byte, error) {
	type fields Event
	return json.Marshal(struct {
		Time string `json:"time"`
		fields
	}{e.Time.UTC().Format("2006-01-02T15:04:05.000000Z"), fields(e)})
}

// Events writes events for people, in columns that only grow wider. The words
// tell everything; color only underlines.
type Events struct {
	w      io.Writer
	color  bool
	widths []int
	headed bool
}

// NewEvents returns a table that begins with its header.
func NewEvents(w io.Writer, color bool) *Events {
	return &Events{w: w, color: color, widths: []int{12, 0, 8, 12, 15}} // as most events need
}

// maxSubject is the width to which a subject is cut, characters.
const maxSubject = 32

// Add writes events below those before. now is the reader's, in his time zone:
// events of another day than his have a date.
func (t *Events) Add(events []Event, now time.Time) error {
	g := &grid{whole: true, atLeast: t.widths, header: []string{"TIME", "NODE", "KIND", "SUBJECT", "CHANGE", "REASON"}}
	for _, e := range events {
		g.add(cell{text: clock(e.Time, now)}, cell{text: cut(clean(e.Node), maxFirst)}, cell{text: clean(e.Kind)},
			cell{text: cut(clean(e.Subject), maxSubject)}, changeCell(e), cell{text: clean(e.Reason)})
	}
	t.widths, _ = g.widths()
	t.widths[len(t.widths)-1] = 0 // nothing comes after a reason
	for _, r := range g.rows {    // a date goes before the time
		r[0].text = fmt.Sprintf("%*s", t.widths[0], r[0].text)
	}
	lines := g.lines(t.color)
	if t.headed {
		lines = lines[1:]
	}
	t.headed = true
	for _, l := range lines {
		if _, err := io.WriteString(t.w, l+"\n"); err != nil {
			return fmt.Errorf("write the events: %w", err)
		}
	}
	return nil
}

func clock(at, now time.Time) string {
	at = at.In(now.Location())
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format("15:04:05.000")
	}
	return at.Format("2006-01-02 15:04:05.000")
}

// changeCell shows what an event changed, if it did.
func changeCell(e Event) cell {
	from, to := clean(e.From), clean(e.To)
	switch {
	case from != "" && to != "":
		to = from + " → " + to
	case to != "":
		to = "→ " + to
	case from != "":
		to = from + " →"
	}
	return cell{to, changeStyle(e)}
}

func changeStyle(e Event) style {
	switch strings.ToLower(e.To) {
	case "master":
		return bold
	case "up":
		return green
	case "degraded":
		return yellow
	case "down", "fault":
		return red
	case "on":
		if e.Kind == "alarm" {
			return red
		}
	case "off":
		if e.Kind == "alarm" {
			return green
		}
	}
	return plain
}
