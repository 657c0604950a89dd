package ha

import (
	"fmt"
	"time"
)

const (
	// crashFew crashes are bad luck, more within CrashWindow are a loop.
	crashFew  = 3
	crashHold = 10 * time.Second // doubles with each crash
	crashMost = 5 * time.Minute

	// CrashWindow is how long a crash counts.
	CrashWindow = 10 * time.Minute
)

// holdAfter is how long a daemon that crashed so often stays backup while
// another node serves: connections do not move with each of its lives.
func holdAfter(crashes int) time.Duration {
	if crashes < crashFew {
		return 0
	}
	return min(crashHold<<min(crashes-crashFew, 10), crashMost)
}

// heldBack tells whether this node has crashed too often to be master while
// another one can serve.
func (m *Machine) heldBack(now time.Time) bool { return now.Before(m.backUntil) }

// rests tells whether this node is not to be master while another can serve.
func (m *Machine) rests(now time.Time) bool { return m.maintenance || m.heldBack(now) }

func (m *Machine) settleCrashes(now time.Time) {
	m.holdAlarm(m.heldBack(now), AlarmServiceFailed, "harouter",
		fmt.Sprintf("harouter crashed %d times on %s within %v: it stays backup for %v while another node serves; see its log", m.crashes, m.cfg.Node, CrashWindow, holdAfter(m.crashes)), now)
}
