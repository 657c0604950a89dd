package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

func contains(words []string, w string) bool { return slices.Contains(words, w) }

// join lists words for a message.
func join(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	if n := len(words); n > 40 {
		return strings.Join(words[:40], ", ") + fmt.Sprintf(" and %d more", n-40)
	}
	return strings.Join(words, ", ")
}

func join2(path, key string) string {
	if path == "" || path == top {
		return key
	}
	return path + "." + key
}

// top is how messages call the outermost map.
const top = "the file"

// quote shows a text of the file, cut where it is long.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}

// didYouMean proposes the nearest of the words, or nothing.
func didYouMean(got string, words []string) string {
	if len(got) > 2*maxHostName || len(words) > 200 {
		return ""
	}
	flat := strings.NewReplacer("-", "_", " ", "_")
	got = flat.Replace(strings.ToLower(got))
	best, least := "", min(2, len(got)/2)+1
	for _, w := range words {
		if n := distance(got, flat.Replace(w), least); n < least {
			best, least = w, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// DidYouMean proposes the nearest of the words, as " (did you mean cable?)", or
// nothing.
func DidYouMean(got string, words []string) string { return didYouMean(got, words) }

// distance is the Levenshtein distance, or limit when that is reached anyway.
func distance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// show writes a default as the file would; empty for "nothing set".
func show(x any) string {
	if x == nil {
		return ""
	}
	if d, ok := x.(time.Duration); ok && d != 0 {
		return showDuration(d)
	}
	if s, ok := x.(fmt.Stringer); ok && !reflect.ValueOf(x).IsZero() {
		return s.String()
	}
	v := reflect.ValueOf(x)
	switch v.Kind() {
	case reflect.Slice:
		var words []string
		for i := range v.Len() {
			words = append(words, show(v.Index(i).Interface()))
		}
		if len(words) == 0 {
			return ""
		}
		return "[" + strings.Join(words, ", ") + "]"
	case reflect.Struct, reflect.Map:
		return ""
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	}
	if v.IsZero() {
		return ""
	}
	return fmt.Sprint(x)
}

// showDuration is 10m where Go says 10m0s.
func showDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
