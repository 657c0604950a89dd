package ha

import (
	"fmt"
	"slices"
	"time"
)

// CheckConfig is the command that must succeed for a node to be fit. An edge runs
// it; what its runs mean is counted here.
type CheckConfig struct {
	Command []string // program and arguments; empty: there is none, and the node is fit
	Rise    int      // so many good runs in a row, and an unfit node is fit again
	Fall    int      // so many bad runs in a row, and a fit node is not
}

// checkup is what the runs of the check have told so far. A node whose check did
// not run yet is fit, as one without a check is.
type checkup struct {
	ran   bool
	good  int       // runs in a row
	bad   int       // runs in a row
	unfit string    // why the node is not fit, "" it is
	since time.Time // unfit
}

// count takes one run, with the reason why it was bad or "", and tells whether the
// verdict changed.
func (c *checkup) count(failed string, cfg CheckConfig) bool {
	c.ran = true
	if failed == "" {
		c.good, c.bad = c.good+1, 0
		if c.unfit == "" || c.good < cfg.Rise {
			return false
		}
		c.unfit = ""
		return true
	}
	c.good, c.bad = 0, c.bad+1
	if c.unfit != "" || c.bad < cfg.Fall {
		return false
	}
	c.unfit = failed
	return true
}

// onCheckRan takes one run of the check. One of another command is of a file that
// comes into use, or of one that did until now and tells nothing.
func (m *Machine) onCheckRan(ev CheckRan, now time.Time) {
	cfg := m.cfg.Check
	if len(cfg.Command) == 0 || !slices.Equal(ev.Command, cfg.Command) {
		if m.adopting != nil {
			m.checkedEarly = ev
		}
		return
	}
	if !m.check.count(ev.Failed, cfg) {
		return
	}
	if m.check.unfit == "" {
		m.despiteCheck = false
		m.record("node", m.cfg.Node, "unfit", "fit", fmt.Sprintf("%s passed %s in a row", cfg.Command[0], times(cfg.Rise)))
		return
	}
	m.check.since = now
	m.record("node", m.cfg.Node, "fit", "unfit", fmt.Sprintf("%s failed %s in a row, the last time with %s", cfg.Command[0], times(cfg.Fall), ev.Failed))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// recheck takes a new file's check. Another command has to say by itself that
// an unfit node is fit; without any the node is.
func (m *Machine) recheck(old CheckConfig, now time.Time) {
	switch {
	case len(m.cfg.Check.Command) == 0:
		if m.check.unfit != "" {
			m.record("node", m.cfg.Node, "unfit", "fit", "the file has no check any more")
		}
		m.check, m.despiteCheck = checkup{}, false
	case !slices.Equal(m.cfg.Check.Command, old.Command):
		m.check = checkup{unfit: m.check.unfit, since: m.check.since}
		m.onCheckRan(m.checkedEarly, now)
	}
	m.checkedEarly = CheckRan{}
}

// unsure tells whether this node may turn out to be unfit any moment: its check
// did not run yet, or the last run was bad. It does not reach for the role then,
// and no other gives it up to it: what all nodes look at fails on all of them,
// but not at the same instant.
func (m *Machine) unsure() bool {
	return len(m.cfg.Check.Command) > 0 && m.check.unfit == "" && (!m.check.ran || m.check.bad > 0)
}

// recovers tells whether one more good run makes this node fit again. What comes
// back does so for all, too, but not at the same instant.
func (m *Machine) recovers() bool {
	return m.check.unfit != "" && m.check.good > 0 && m.check.good+1 >= m.cfg.Check.Rise
}

// passesMore compares the checks: 1 if a peer passes and this node does not, -1 if
// it is the other way round, 0 if both are alike.
func (m *Machine) passesMore(p *peer) int {
	switch here, there := m.check.unfit == "", p.state.Unfit == ""; {
	case here == there:
		return 0
	case there:
		return 1
	}
	return -1
}
