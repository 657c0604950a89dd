package main

import (
	"fmt"
	"io"
	"strings"
)

const line = "  %-49s %-21s %-21s %5s %4s %5s %6s  %s\n"

// Print writes the rows of one bench.
func (t *Table) Print(w io.Writer, b bench) {
	fmt.Fprintf(w, "\n%s\n", b.title)
	fmt.Fprintf(w, line, "min / median / max", "harouter", b.peer, "ratio", "runs", "lag", "stall", "aim")
	for _, r := range t.Rows {
		if r.Bench != b.name {
			continue
		}
		what := r.What
		if r.Unit != "" {
			what += ", " + r.Unit
		}
		runs := fmt.Sprint(max(len(r.Values[Ours]), len(r.Words[Ours])))
		if n := max(len(r.Values[Theirs]), len(r.Words[Theirs])); n > 0 && fmt.Sprint(n) != runs {
			runs += fmt.Sprintf("/%d", n)
		}
		lag, stall, aim := "", "", ""
		if r.LagMS > 0 {
			lag, stall = number(r.LagMS), number(r.StallMS)
		}
		if r.AtMost != nil {
			aim = "<= " + number(*r.AtMost)
			switch r.judge() {
			case "missed":
				aim += "  MISSED"
			case "noise":
				aim += "  missed, by less than lag or stall"
			}
		}
		fmt.Fprintf(w, line, what, r.cell(Ours), r.cell(Theirs), r.ratio(), runs, lag, stall, aim)
	}
	for _, n := range b.notes {
		fmt.Fprintf(w, "  %s\n", n)
	}
}

func (r *Row) cell(s Side) string {
	if len(r.Words[s]) > 0 {
		return tally(r.Words[s])
	}
	if len(r.Values[s]) == 0 {
		return "-"
	}
	low, middle, high := spread(r.Values[s])
	return number(low) + " / " + number(middle) + " / " + number(high)
}

// ratio is ours to the peer's, of the medians.
func (r *Row) ratio() string {
	if len(r.Values[Ours]) == 0 || len(r.Values[Theirs]) == 0 {
		return ""
	}
	_, ours, _ := spread(r.Values[Ours])
	_, theirs, _ := spread(r.Values[Theirs])
	if theirs == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ours/theirs)
}

// number has three digits or so.
func number(v float64) string {
	switch {
	case v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// tally counts equal words: "r2 x5".
func tally(words []string) string {
	var order []string
	count := map[string]int{}
	for _, w := range words {
		if count[w] == 0 {
			order = append(order, w)
		}
		count[w]++
	}
	for i, w := range order {
		if len(words) > 1 {
			order[i] = fmt.Sprintf("%s x%d", w, count[w])
		}
	}
	return strings.Join(order, ", ")
}
