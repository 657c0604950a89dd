package balancer

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestClosed(t *testing.T) {
	all := [7]bool{true, true, true, true, true, true, true}
	weekdays := [7]bool{false, true, true, true, true, true, false}
	c := Config{Policies: []Policy{
		{Name: "office", Hours: []Hours{{Days: weekdays, From: 8 * 60, To: 18 * 60}}},
		{Name: "night", Hours: []Hours{{Days: weekdays, From: 22 * 60, To: 6 * 60}}},
		{Name: "but-lunch", NotHours: []Hours{{Days: all, From: 12 * 60, To: 13 * 60}}},
		{Name: "default"},
	}}
	for at, want := range map[string]map[string]bool{
		"Mon 07:59": {"office": true, "night": true},
		"Mon 08:00": {"night": true},
		"Mon 12:30": {"night": true, "but-lunch": true},
		"Mon 18:00": {"office": true, "night": true},
		"Mon 22:00": {"office": true},
		"Tue 05:59": {"office": true},
		"Mon 05:59": {"office": true, "night": true}, // Sunday's night is none
		"Sat 05:59": {"office": true},                // Friday's
		"Sat 10:00": {"office": true, "night": true},
	} {
		now, err := time.Parse("2006-01-02 15:04", map[string]string{
			"Mon": "2026-11-23", "Tue": "2026-11-24", "Sat": "2026-11-21",
		}[at[:3]]+" "+at[4:])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, c.Closed(now)); d != "" {
			t.Errorf("%s:\n%s", at, d)
		}
	}
}
