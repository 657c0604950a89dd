package wire

import (
	"log/slog"
	"time"
)

// patience is how long a problem lasts before it is worth a line: at start,
// and when a device comes, addresses follow a moment later.
const patience = 500 * time.Millisecond

// problems logs when something stops and starts working, and nothing between.
type problems struct {
	log  *slog.Logger
	open map[string]problem
}

type problem struct {
	since  time.Time
	logged bool
}

// forget drops what is of no interest any more.
func (p *problems) forget(what string) { delete(p.open, what) }

// tell takes note of how something is now.
func (p *problems) tell(what string, err error) {
	known, open := p.open[what]
	switch {
	case err == nil && open:
		delete(p.open, what)
		if known.logged {
			p.log.Info("adverts: "+what, "from", "failing", "to", "working", "after", time.Since(known.since).Round(time.Millisecond))
		}
	case err != nil && !open:
		if p.open == nil {
			p.open = map[string]problem{}
		}
		p.open[what] = problem{since: time.Now()}
	case err != nil && !known.logged && time.Since(known.since) >= patience:
		known.logged = true
		p.open[what] = known
		p.log.Warn("adverts: "+what, "from", "working", "to", "failing", "reason", err)
	}
}
