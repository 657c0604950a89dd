package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"harouter/ha"
	"harouter/ha/control"
	"harouter/test/netlab"
	"harouter/test/site"
)

// told are all events that a node knows, one line each.
func told(t *testing.T, c *site.Cluster, router string) []string {
	t.Helper()
	out, err := c.Command(router, "events", "--json", "-n", "0")
	must(t, err)
	return strings.Split(strings.TrimSpace(out), "\n")
}

// alike waits until both nodes tell the same, and something that ok accepts.
func alike(t *testing.T, c *site.Cluster, what string, ok func([]control.Event) bool) {
	t.Helper()
	var a, b []string
	err := netlab.WaitFor(what, 8*time.Second, func() bool {
		a, b = told(t, c, "r1"), told(t, c, "r2")
		return slices.Equal(a, b) && ok(read(t, a))
	})
	if err != nil {
		t.Fatalf("%v\nr1:\n%s\nr2:\n%s", err, strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

func read(t *testing.T, lines []string) []control.Event {
	t.Helper()
	var events []control.Event
	for _, l := range lines {
		var e control.Event
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		events = append(events, e)
	}
	return events
}

// role accepts events in which a node became what it is said to be.
func role(node, to string) func([]control.Event) bool {
	return func(events []control.Event) bool {
		return slices.ContainsFunc(events, func(e control.Event) bool {
			return e.Kind == "role" && e.Node == node && e.Subject == node && e.To == to && e.From != to && e.Reason != ""
		})
	}
}

// TestEvents: both nodes tell the same story, over restarts and absence.
func TestEvents(t *testing.T) {
	t.Parallel()
	c := pair(t, netlab.PairOptions{WANOwn: true}, site.Config)
	alike(t, c, "the start is known on both", role("r1", "master"))

	follower := c.Args("r1", "events", "--follow", "--json", "-n", "1")
	following, err := c.Router("r1").Start("follow", follower...)
	must(t, err)
	must(t, netlab.WaitFor("one follows", 3*time.Second, func() bool { return len(output(t, following.Log)) == 1 }))
	_, err = c.Command("r2", "failover")
	must(t, err)
	must(t, netlab.WaitFor("the follower on r1 sees r2 become master", time.Second, func() bool {
		return role("r2", "master")(read(t, output(t, following.Log)))
	}))
	alike(t, c, "the failover is known on both", role("r1", "backup"))

	lines := told(t, c, "r1")
	if !slices.IsSorted(lines) {
		t.Errorf("not in the order of time:\n%s", strings.Join(lines, "\n"))
	}
	var keys map[string]string
	must(t, json.Unmarshal([]byte(lines[0]), &keys))
	if got := slices.Sorted(maps.Keys(keys)); fmt.Sprint(got) != "[from kind node reason subject time to]" {
		t.Errorf("the keys are %v", got)
	}
	out, err := c.Command("r1", "events", "-n", "1")
	must(t, err)
	if n := strings.Count(out, "\n"); n != 2 || !strings.HasPrefix(out, "TIME") {
		t.Errorf("the last event and a header:\n%s", out)
	}

	// What r1 told before it died can be read without it.
	must(t, netlab.WaitFor("it is on disk", 3*time.Second, func() bool {
		b, err := os.ReadFile(c.Router("r1").StateDir() + "/events/events.jsonl")
		return err == nil && bytes.Count(b, []byte("\n")) == len(told(t, c, "r1"))
	}))
	before := told(t, c, "r1")
	must(t, c.Daemons["r1"].Kill())
	cmd := exec.Command(c.Binary, c.Args("r1", "events", "--json", "-n", "0")[1:]...)
	var note bytes.Buffer
	cmd.Stderr = &note
	left, err := cmd.Output()
	must(t, err)
	if got := strings.Split(strings.TrimSpace(string(left)), "\n"); !slices.Equal(got, before) || !strings.Contains(note.String(), "no harouter daemon runs here") {
		t.Errorf("without a daemon: %s\n%s\nbefore:\n%s", &note, left, strings.Join(before, "\n"))
	}

	// r2 records alone; r1 comes back without its disk and has it all.
	_, err = c.Command("r2", "failover", "--auto")
	must(t, err)
	must(t, os.RemoveAll(c.Router("r1").StateDir()+"/events"))
	must(t, c.Run("r1"))
	must(t, c.Wait("r1 answers", "r1", 5*time.Second, func(ha.Status) bool { return true }))
	alike(t, c, "r1 has what it missed and what it lost", func(events []control.Event) bool {
		started, alone := 0, 0
		for _, e := range events {
			switch {
			case e.Node == "r1" && e.To == "started":
				started++
			case e.Node == "r2" && e.Kind == "operator":
				alone++
			}
		}
		return started == 2 && alone == 1
	})
}

// output is what a process printed, in lines that came to their end.
func output(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}
