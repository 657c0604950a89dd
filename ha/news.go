package ha

import (
	"fmt"
	"time"
)

// syncNews is what the events tell of the replication with a node.
type syncNews struct {
	told   SyncState
	due    time.Time // when a change is recorded; zero: there is none
	minute time.Time // its begin
	count  int       // records in it
	missed int       // changes since the last record
	last   SyncState // the state that was seen last

	compares bool // the only change since the last record: a table in sync is compared anew
}

const (
	newsFew  = 6               // changes in a minute that are all recorded
	newsSlow = 2 * time.Second // a table that is compared anew for less is no news
)

// settleNews records how the replication with each node goes. A session that
// comes and goes must not push out of the log of events what happened before.
func (m *Machine) settleNews(now time.Time) {
	for name := range m.news {
		if _, ok := m.cfg.node(name); !ok {
			delete(m.news, name)
		}
	}
	for _, node := range m.cfg.Nodes {
		if node.Name == m.cfg.Node {
			continue
		}
		state := m.session(node.Name)
		n := m.news[node.Name]
		if n == nil {
			n = &syncNews{told: m.firstState(), last: m.firstState()}
			m.news[node.Name] = n
		}
		if now.Sub(n.minute) >= time.Minute {
			n.minute, n.count = now, 0
		}
		if state != n.last {
			n.last = state
			n.missed++
			n.due = now
			switch {
			case n.told == SyncSynced && state == SyncSyncing && n.missed == 1:
				n.due, n.compares = now.Add(newsSlow), true
			case n.told == state && n.compares && n.missed == 2:
				n.due, n.missed = time.Time{}, 0
			default:
				n.compares = false
			}
		}
		if n.count >= newsFew && !n.due.IsZero() {
			n.due = later(n.due, n.minute.Add(time.Minute))
		}
		if n.due.IsZero() || now.Before(n.due) {
			continue
		}
		reason := syncReasons[state]
		if n.missed > 1 {
			reason += fmt.Sprintf(" (after %d changes)", n.missed)
		}
		m.record("sync", node.Name, string(n.told), string(state), reason)
		n.told, n.due, n.missed, n.count = state, time.Time{}, 0, n.count+1
	}
}

// firstState is that with a node of which nothing was heard.
func (m *Machine) firstState() SyncState {
	if m.cfg.Sync {
		return SyncConnecting
	}
	return SyncOff
}

var syncReasons = map[SyncState]string{
	SyncOff:        "connections are not replicated",
	SyncConnecting: "there is no session with it",
	SyncSyncing:    "connections are being exchanged",
	SyncSynced:     "each node has the connections of both",
	SyncStale:      "the session is gone, what was told before is kept",
}
