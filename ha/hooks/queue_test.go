package hooks

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestQueue: each word is a change that is put in (uplink=state, role=state,
// plan), "run" takes out what is next, "+120s" lets time pass.
func TestQueue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script, want string }{
		{"in order", "a=down role=master run run run", "a:down<unknown role:master<unknown -"},
		{"the newest state", "a=up run a=down a=up a=down run run", "a:up<unknown a:down<up -"},
		{"there and back", "a=up run a=down a=up run", "a:up<unknown -"},
		{"the same again", "a=up run a=up run", "a:up<unknown -"},
		{"keeps its place", "a=down b=down a=up run run", "a:up<unknown b:down<unknown"},
		{"plans become one", "plan plan run run plan run", "plan:post-apply<unknown - plan:post-apply<post-apply"},
		{"down for long", "a=down run +119s run +1s run run +500s run a=up run", "a:down<unknown - a:long_down<down - - a:up<long_down"},
		{"down again is no news", "a=down run +120s run a=down run", "a:down<unknown a:long_down<down -"},
		{"back in time", "a=down run +100s a=up run +60s run", "a:down<unknown a:up<down -"},
		{"back before it was told", "a=down run +120s a=up run run", "a:down<unknown a:up<down -"},
		{"down for long before anything was told", "a=down +120s run run", "a:down<unknown a:long_down<down"},
		{"from an outage to the next", "a=down run a=up run +60s a=down run +60s run +60s run", "a:down<unknown a:up<down a:down<up - a:long_down<down"},
		{"gone from the file", "a=down b=down forget=a run run", "b:down<unknown -"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			q, now, got := newQueue(), time.Unix(1000, 0), []string{}
			names := map[subject]string{theRole: "role", thePlan: "plan"}
			for word := range strings.FieldsSeq(c.script) {
				name, state, _ := strings.Cut(word, "=")
				switch {
				case word == "run":
					x, ok := q.next(now)
					if !ok {
						got = append(got, "-")
						continue
					}
					name := names[x.subject]
					if name == "" {
						name = x.subject.uplink
					}
					got = append(got, name+":"+x.state+"<"+x.previous)
				case strings.HasPrefix(word, "+"):
					d, err := time.ParseDuration(word[1:])
					if err != nil {
						t.Fatal(err)
					}
					now = now.Add(d)
				case name == "forget":
					q.forget(func(u string) bool { return u != state })
				case name == "role":
					q.put(change{subject: theRole, state: state, at: now})
				case name == "plan":
					q.put(change{subject: thePlan, state: stateApplied, at: now})
				default:
					q.put(change{subject: subject{name}, state: state, at: now})
				}
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDue: a worker that sleeps wakes for a line that is down for long.
func TestDue(t *testing.T) {
	t.Parallel()
	q, now := newQueue(), time.Unix(1000, 0)
	if !q.due().IsZero() {
		t.Error("an empty queue is due")
	}
	q.put(change{subject: subject{"a"}, state: stateDown, at: now})
	if got := q.due(); !got.Equal(now.Add(longDown)) {
		t.Errorf("due at %v", got)
	}
}
