package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// none stands for what is not known.
const none = "-"

// span writes a duration as a person says it, with its two largest parts:
// "40 ms", "12 s", "5m12s", "2h5m", "3d4h".
func span(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// sinceWords is the time since at in whole seconds at least, "" if not known.
func sinceWords(at *time.Time, now time.Time) string {
	if at == nil || at.IsZero() {
		return ""
	}
	if d := now.Sub(*at); d >= time.Second {
		return span(d)
	}
	return "0 s"
}

// count writes a number with separators: 1,234,567.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func countOrNone(n *uint64) string {
	if n == nil {
		return none
	}
	return count(*n)
}

// percent writes a part of 1: "67 %", and "0.4 %" where that matters.
func percent(part float64) string {
	p := part * 100
	if whole := float64(int64(p + 0.5)); p >= 10 || p-whole < 0.05 && whole-p < 0.05 {
		return fmt.Sprintf("%.0f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// millis writes milliseconds: "0.4 ms", "1.2 ms", "123 ms".
func millis(ms float64) string {
	if ms < 99.95 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return count(uint64(ms+0.5)) + " ms"
}

// rates writes what comes down and goes up, bits per second.
func rates(down, up *uint64) string {
	if down == nil || up == nil {
		return none
	}
	if *down == 0 && *up == 0 {
		return "0 / 0"
	}
	return mbit(*down) + " / " + mbit(*up) + " Mbit/s"
}

func mbit(bps uint64) string {
	m := float64(bps) / 1e6
	switch {
	case bps == 0:
		return "0"
	case m < 0.095:
		return fmt.Sprintf("%.2f", max(m, 0.01))
	case m < 99.95:
		return fmt.Sprintf("%.1f", m)
	}
	return count(uint64(m + 0.5))
}

// plural writes "no alarms", "1 alarm", "2 alarms".
func plural(n int, word string) string {
	switch n {
	case 0:
		return "no " + word + "s"
	case 1:
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

// clean takes out what would move a terminal's cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// cut shortens s to n characters in its middle: names of routers often differ
// at their ends only.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	tail := (n - 1) / 2
	return string(r[:n-1-tail]) + "…" + string(r[len(r)-tail:])
}

// wrap breaks words into lines of at most width characters; a word that is
// longer has a line of its own.
func wrap(words []string, between string, width int) []string {
	var lines []string
	for i, w := range words {
		if i > 0 {
			last := lines[len(lines)-1]
			if joined := last + between + w; utf8.RuneCountInString(joined) <= width {
				lines[len(lines)-1] = joined
				continue
			}
		}
		lines = append(lines, w)
	}
	return lines
}
