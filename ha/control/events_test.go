package control

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// happened is some days of a cluster; the last two come while one follows.
func happened() (past, following []Event) {
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	past = []Event{
		{at(36 * time.Hour), "r2", "node", "r2", "", "started", "version 1.0, configuration 0123456789ab"},
		{at(20*time.Minute + 1501*time.Millisecond), "r1", "role", "r1", "backup", "master", "no advert for 310 ms"},
		{at(20 * time.Minute), "router-frankfurt-rack-a-1", "uplink", "dsl", "up", "down", "198.51.100.1 and 198.51.100.2 do not answer"},
		{at(19 * time.Minute), "r2", "alarm", "bad_key gossip", "", "on", "a node with another cluster key talks to this one: compare /etc/harouter/cluster.key on all nodes"},
		{at(18 * time.Minute), "r2", "alarm", "bad_key gossip", "on", "off", ""},
		{at(17 * time.Minute), "r2", "uplink", "a-\x1b[2J-very-long-name-of-an-uplink-of-ours", "down", "degraded", "a\nb"},
	}
	following = []Event{
		{at(time.Minute), "r2", "operator", "failover", "", "r1", "asked on r2"},
		{at(0), "r1", "repair", "plan", "restored", "", ""},
	}
	return past, following
}

func TestEventsTable(t *testing.T) {
	t.Parallel()
	past, following := happened()
	draw := func(color bool) string {
		var b bytes.Buffer
		table := NewEvents(&b, color)
		for _, some := range [][]Event{past, following[:1], following[1:]} {
			if err := table.Add(some, now); err != nil {
				t.Fatal(err)
			}
		}
		return b.String()
	}
	text := draw(false)
	golden(t, "events", []byte(text))
	if strings.ContainsAny(text, "\x1b\t") {
		t.Errorf("%q", text)
	}
	colored := draw(true)
	if len(colored) <= len(text) {
		t.Error("no color")
	}
	if d := cmp.Diff(text, regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored, "")); d != "" {
		t.Errorf("color changes the words:\n%s", d)
	}
}

// TestEventsOfToday have no date, in the time zone of the reader.
func TestEventsOfToday(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("there", 13*3600)
	for _, c := range []struct {
		name string
		at   time.Time
		want string
	}{
		{"today", now, "01:00:00.000"},
		{"the same day in UTC only", now.Add(-2 * time.Hour), "2026-11-21 23:00:00.000"},
		{"cut, not rounded", now.Add(999900 * time.Microsecond), "01:00:00.999"},
	} {
		if got := clock(c.at, now.In(zone)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestEventJSON: exactly the keys of DESIGN.md §4, in their order.
func TestEventJSON(t *testing.T) {
	t.Parallel()
	past, _ := happened()
	b, err := json.Marshal(past[1])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-11-21T11:39:58.499000Z","node":"r1","kind":"role","subject":"r1","from":"backup","to":"master","reason":"no advert for 310 ms"}`
	if d := cmp.Diff(want, string(b)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	var back Event
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(past[1], back); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
}
