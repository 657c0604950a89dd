package main

import (
	"encoding/json"
	"slices"
	"time"
)

// Side says whose figure it is.
type Side int

const (
	Ours Side = iota
	Theirs
)

// Row is one line of the table: the values of all runs, in their order.
type Row struct {
	Bench  string       `json:"bench"`
	What   string       `json:"what"`
	Unit   string       `json:"unit,omitempty"`
	Values [2][]float64 `json:"-"` // by Side
	Words  [2][]string  `json:"-"` // instead of numbers, by Side
	// The lab's own lateness at worst in these runs, in ms: of the client's
	// sending thread, and of the processors (netlab.Report).
	LagMS   float64  `json:"lag_ms"`
	StallMS float64  `json:"stall_ms"`
	AtMost  *float64 `json:"at_most,omitempty"`
	Missed  string   `json:"missed,omitempty"` // set by judge
}

// MarshalJSON names the two sides.
func (r *Row) MarshalJSON() ([]byte, error) {
	type plain Row
	type side struct {
		Values []float64 `json:"values,omitempty"`
		Words  []string  `json:"words,omitempty"`
	}
	var theirs *side
	if len(r.Values[Theirs])+len(r.Words[Theirs]) > 0 {
		theirs = &side{r.Values[Theirs], r.Words[Theirs]}
	}
	return json.Marshal(struct {
		*plain
		Ours side  `json:"ours"`
		Peer *side `json:"peer,omitempty"`
	}{(*plain)(r), side{r.Values[Ours], r.Words[Ours]}, theirs})
}

// Aim sets what the value should not exceed.
func (r *Row) Aim(atMost float64) *Row {
	r.AtMost = &atMost
	return r
}

// noise is how late the lab was in one run.
type noise struct{ lag, stall time.Duration }

// Add takes the value of one run, and how late the lab was in it.
func (r *Row) Add(s Side, value float64, n noise) {
	r.Values[s] = append(r.Values[s], value)
	r.LagMS, r.StallMS = max(r.LagMS, ms(n.lag)), max(r.StallMS, ms(n.stall))
}

// Say takes the outcome of one run that is no number.
func (r *Row) Say(s Side, word string) { r.Words[s] = append(r.Words[s], word) }

// judge says how ours stands to the aim: "" reached in every run, "missed", or
// "noise" where the lab was late by as much as is too much.
func (r *Row) judge() string {
	if r.AtMost == nil || len(r.Values[Ours]) == 0 {
		return ""
	}
	switch over := slices.Max(r.Values[Ours]) - *r.AtMost; {
	case over <= 0:
		return ""
	case r.Unit == "ms" && over <= max(r.LagMS, r.StallMS):
		return "noise"
	default:
		return "missed"
	}
}

// spread is min, median, max.
func spread(values []float64) (low, middle, high float64) {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return v[0], (v[(n-1)/2] + v[n/2]) / 2, v[n-1]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Table is all rows in the order in which they were first asked for.
type Table struct{ Rows []*Row }

// Row finds a row or begins it.
func (t *Table) Row(bench, what, unit string) *Row {
	for _, r := range t.Rows {
		if r.Bench == bench && r.What == what {
			return r
		}
	}
	r := &Row{Bench: bench, What: what, Unit: unit}
	t.Rows = append(t.Rows, r)
	return r
}
