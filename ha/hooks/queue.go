package hooks

import (
	"maps"
	"slices"
	"time"
)

// The states that a script is told as its first argument.
const (
	stateUp       = "up"
	stateDown     = "down"
	stateLongDown = "long_down"
	stateApplied  = "post-apply"
	stateUnknown  = "unknown" // only as what was before
)

// longDown is how long an uplink is down before that is an event of its own, as
// with Net-ISP-Balance.
const longDown = 120 * time.Second

// directories hold the scripts of a state; no others are told anything.
var directories = map[string][]string{
	stateUp:       {"uplink-up.d", "up.d"},
	stateDown:     {"uplink-down.d", "down.d"},
	stateLongDown: {"uplink-long-down.d", "long_down.d"},
	"master":      {"master.d"},
	"backup":      {"backup.d"},
	"fault":       {"fault.d"},
	stateApplied:  {"post-apply.d"},
}

// subject is what has a state: an uplink by its name, or one of those below.
type subject struct{ uplink string }

var (
	theRole = subject{}
	thePlan = subject{"/"} // no uplink has such a name
)

// change is something that scripts are to be told.
type change struct {
	subject         subject
	state, previous string
	reason          string
	at              time.Time
}

// queue holds what scripts were told last and what they are to be told next: of
// each subject only the newest, in the order in which they began to wait.
type queue struct {
	told   map[subject]string
	wait   []change
	longAt map[subject]time.Time // when an uplink has been down for long
}

func newQueue() *queue {
	return &queue{told: map[subject]string{}, longAt: map[subject]time.Time{}}
}

// put takes in a change. What takes the last one back leaves nothing to tell.
func (q *queue) put(c change) {
	switch {
	case c.state == stateUp:
		delete(q.longAt, c.subject)
	case c.state == stateDown && q.told[c.subject] == stateLongDown:
		q.cancel(c.subject)
		return
	case c.state == stateDown && q.longAt[c.subject].IsZero():
		q.longAt[c.subject] = c.at.Add(longDown)
	}
	i := slices.IndexFunc(q.wait, func(w change) bool { return w.subject == c.subject })
	switch {
	case c.state == q.told[c.subject] && c.subject != thePlan:
		q.cancel(c.subject)
	case i < 0:
		q.wait = append(q.wait, c)
	case q.wait[i].state == c.state && c.subject != thePlan: // the first one has the time and the reason
	case q.wait[i].state == stateLongDown && c.state == stateDown:
	default:
		q.wait[i] = c
	}
}

func (q *queue) cancel(s subject) {
	q.wait = slices.DeleteFunc(q.wait, func(w change) bool { return w.subject == s })
}

// next takes out what is to be told now.
func (q *queue) next(now time.Time) (change, bool) {
	for s, at := range q.longAt {
		if !now.Before(at) {
			q.longAt[s] = now.Add(365 * 24 * time.Hour) // once an outage
			q.put(change{subject: s, state: stateLongDown, reason: "down for " + longDown.String(), at: now})
		}
	}
	if len(q.wait) == 0 {
		return change{}, false
	}
	c := q.wait[0]
	c.previous = q.told[c.subject]
	if c.previous == "" {
		c.previous = stateUnknown
	}
	if c.state == stateLongDown && c.previous != stateDown { // the scripts for that first
		c.state = stateDown
	} else {
		q.wait = q.wait[1:]
	}
	q.told[c.subject] = c.state
	return c, true
}

// due is when next may have something that it has not now; zero: never by itself.
func (q *queue) due() time.Time {
	if len(q.longAt) == 0 {
		return time.Time{}
	}
	return slices.MinFunc(slices.Collect(maps.Values(q.longAt)), time.Time.Compare)
}

// forget drops the uplinks that keep does not name.
func (q *queue) forget(keep func(uplink string) bool) {
	gone := func(s subject) bool { return s != theRole && s != thePlan && !keep(s.uplink) }
	q.wait = slices.DeleteFunc(q.wait, func(w change) bool { return gone(w.subject) })
	maps.DeleteFunc(q.told, func(s subject, _ string) bool { return gone(s) })
	maps.DeleteFunc(q.longAt, func(s subject, _ time.Time) bool { return gone(s) })
}
