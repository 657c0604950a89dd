package main

import (
	"fmt"
	"strings"
	"time"

	"harouter/test/netlab"
)

// moment is a row of the timeline.
type moment struct {
	at     netlab.Instant
	effect bool // its time is shown as that after the cause above it
	what   string
	master string
	host   []string // what the host noticed
}

// timeline is what happened when, in the order of its rows.
type timeline struct {
	begin netlab.Instant
	rows  []moment
}

// cause is something that was done to the site.
func (t *timeline) cause(at netlab.Instant, what, master string, host ...string) {
	t.rows = append(t.rows, moment{at: at, what: what, master: master, host: host})
}

// effect is what came of the last cause.
func (t *timeline) effect(at netlab.Instant, what, master string, host ...string) {
	t.rows = append(t.rows, moment{at: at, effect: true, what: what, master: master, host: host})
}

// Widths of the columns; with the gaps they make 79.
const (
	timeWidth   = 8
	whatWidth   = 31
	masterWidth = 6
	hostWidth   = 28
)

// Lines are the table: a heading, and a row or more of text for each moment.
// bold is for the heading and the causes.
func (t *timeline) Lines(bold func(string) string) []string {
	lines := []string{bold(row("TIME", "WHAT HAPPENED", "MASTER", []string{"WHAT THE HOST NOTICED"})[0])}
	var cause netlab.Instant
	for _, m := range t.rows {
		at := "+" + span(m.at.Sub(cause))
		if !m.effect {
			cause = m.at
			at = fmt.Sprintf("%.2f s", m.at.Sub(t.begin).Seconds())
		}
		text := row(at, m.what, m.master, m.host)
		if !m.effect {
			text[0] = bold(text[0])
		}
		lines = append(lines, text...)
	}
	return lines
}

func row(at, what, master string, host []string) []string {
	whats := wrap(what, whatWidth)
	var hosts, lines []string
	for _, h := range host {
		hosts = append(hosts, wrap(h, hostWidth)...)
	}
	for i := range max(len(whats), len(hosts)) {
		var w, h string
		if i < len(whats) {
			w = whats[i]
		}
		if i < len(hosts) {
			h = hosts[i]
		}
		line := fmt.Sprintf("%*s  %-*s  %-*s  %s", timeWidth, at, whatWidth, w, masterWidth, master, h)
		lines = append(lines, strings.TrimRight(line, " "))
		at, master = "", ""
	}
	return lines
}

// wrap breaks text at spaces; what goes on is indented by two.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len(line)+1+len(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = "  " + word
		}
	}
	return append(lines, line)
}

// span is a time as people say it: 7 ms, 318 ms, 2.31 s.
func span(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
