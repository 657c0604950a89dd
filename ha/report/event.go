package report

import (
	"slices"
	"strings"
	"time"
)

// Event is one thing that happened, as `harouter events --json` prints it.
type Event struct {
	Time    time.Time `json:"time"`
	Node    string    `json:"node"`
	Kind    string    `json:"kind"`
	Subject string    `json:"subject"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Reason  string    `json:"reason"`
}

// mailed are the kinds that are worth a mail.
var mailed = []string{"role", "node", "uplink", "config", "alarm", "operator"}

func worthMail(e Event) bool { return slices.Contains(mailed, e.Kind) }

// short is what happened in a few words.
func (e Event) short() string {
	words := []string{e.Kind, e.Subject}
	switch {
	case e.From != "" && e.To != "":
		words = append(words, e.From, "->", e.To)
	case e.To != "":
		words = append(words, e.To)
	}
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// line is all of it.
func (e Event) line() string {
	l := e.Time.Local().Format("2006-01-02 15:04:05") + "  " + e.Node + "  " + e.short()
	if e.Reason != "" {
		l += ": " + e.Reason
	}
	return l
}
