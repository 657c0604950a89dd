package ha

import (
	"fmt"
	"time"
)

// double is another machine that runs as this node, with the cluster's key: a
// copied disk, or --node of the wrong one. What it says cannot be told from what
// this node says, so only one of the two may serve: the one that started first.
type double struct {
	life  uint64
	heard time.Time // last greeting
}

// doubleHold is how long the last greeting of a double counts.
const doubleHold = 3 * time.Second

func (m *Machine) doubled(now time.Time) bool {
	return !m.double.heard.IsZero() && now.Sub(m.double.heard) < doubleHold
}

// second tells whether this node is the one of two that must not serve.
func (m *Machine) second(now time.Time) bool { return m.doubled(now) && m.double.life < m.life }

func (m *Machine) settleDouble(now time.Time) {
	text := fmt.Sprintf("another machine runs as node %s too: start one of them with another --node, or host name", m.cfg.Node)
	if m.second(now) {
		text += "; this one came second and does not serve"
	}
	m.holdAlarm(m.doubled(now), AlarmAddressConflict, "node "+m.cfg.Node, text, now)
}
