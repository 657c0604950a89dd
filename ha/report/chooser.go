package report

import "time"

const (
	// gatherFor is how long events wait for those that belong to them: longer
	// than a takeover.
	gatherFor = 3 * time.Second
	// bygone is how old an event of another node may be, by its clock, which may
	// differ from this one's.
	bygone = 10 * time.Minute
	// gatherMost bounds what waits for that.
	gatherMost = 1000
)

// chooser gathers events and decides which of them this node sends.
type chooser struct {
	node   string
	events []Event
	due    time.Time
	lost   int
}

func (c *chooser) add(e Event, now time.Time) {
	if e.Node != c.node && now.Sub(e.Time) > bygone {
		return
	}
	if len(c.events) == gatherMost {
		c.lost++
		return
	}
	if len(c.events) == 0 {
		c.due = now.Add(gatherFor)
	}
	c.events = append(c.events, e)
}

// take empties it. master is who is master now: one of the nodes, or "" for none
// of them. lost events are told by the node that sends.
func (c *chooser) take(master string) (send []Event, lost int) {
	for _, e := range c.events {
		if master == c.node || master == "" && e.Node == c.node {
			send = append(send, e)
		}
	}
	if len(send) > 0 {
		lost = c.lost
	}
	c.events, c.lost = nil, 0
	return send, lost
}
