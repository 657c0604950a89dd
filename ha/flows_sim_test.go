package ha

import (
	"context"
	"errors"
	"time"
)

// simFlows is the replication of one node in a sim, where its file says sync: it
// has a session with each node that it reaches, and carries no flows.
type simFlows struct {
	n       *simNode
	states  map[string]SyncState
	since   map[string]time.Time // when the session began
	syncs   time.Duration        // from a session's begin to synced
	takes   time.Duration        // until all flows are in the kernel
	until   time.Time            // when the present Take ends
	void    uint64               // addresses up to this step are not put on
	flushs  flushing
	owned   uint64 // term, 0: backup
	yielded uint64 // to the master in this term
	apart   bool   // its sessions here go another way than gossip
	story   []string
}

// flushing is what becomes of a Flush.
type flushing uint8

const (
	flushWorks flushing = iota
	flushFails
	flushHangs // until its context ends
	flushMute  // for ever
)

const simSession = 100 * time.Millisecond // to notice that a node came or went

func (f *simFlows) start(n *simNode) {
	*f = simFlows{n: n, syncs: f.syncs, takes: f.takes, flushs: f.flushs, story: f.story, states: map[string]SyncState{}, since: map[string]time.Time{}}
	f.look()
}

func (f *simFlows) look() {
	n, life := f.n, f.n.life
	for _, o := range n.s.all() {
		if o == n {
			continue
		}
		up := n.running && o.running && n.cfg.Sync && o.cfg.Sync && (f.apart || o.flows.apart || !n.lost[o.name] && !o.lost[n.name]) && n.strain.frozen.IsZero() && o.strain.frozen.IsZero()
		if !up {
			delete(f.since, o.name)
		} else if f.since[o.name].IsZero() {
			f.since[o.name] = n.s.now
		}
		state := SyncConnecting
		switch {
		case !n.cfg.Sync:
			state = SyncOff
		case up && n.s.now.Sub(f.since[o.name]) >= max(f.syncs, o.flows.syncs):
			state = SyncSynced
		case up:
			state = SyncSyncing
		}
		if f.states[o.name] != state {
			f.states[o.name] = state
			n.handle(Synced{Node: o.name, State: state})
		}
	}
	n.s.after(simSession, func() {
		if n.life == life && n.running {
			f.look()
		}
	})
}

func (f *simFlows) note(what string) {
	if !f.n.m.cfg.Sync {
		return
	}
	f.n.s.log = append(f.n.s.log, f.n.s.now.Sub(f.n.s.start).String()+" "+f.n.name+" flows: "+what)
	f.story = append(f.story, what)
}

// behind does something with the addresses, after a Take that is under way.
func (f *simFlows) behind(do func()) {
	life := f.n.life
	f.n.s.after(max(0, f.until.Sub(f.n.s.now))+simWork, func() {
		if f.n.life == life && f.n.running {
			do()
		}
	})
}

func (f *simFlows) take(term uint64) {
	f.owned = term
	f.until = f.n.s.now.Add(f.takes)
	f.note("take")
}

func (f *simFlows) yield(term uint64) {
	f.behind(func() {
		f.owned, f.yielded = 0, term
		f.note("yield")
	})
}

func (f *simFlows) flush(a FlushFlows) {
	f.note("flush to " + a.To)
	after, err := simDelay*4, error(nil)
	switch f.flushs {
	case flushWorks:
		if s := f.states[a.To]; s != SyncSynced && s != SyncSyncing {
			err = errors.New("no session")
		}
	case flushFails:
		err = errors.New("the session ended")
	case flushHangs:
		after, err = flushLimit, context.DeadlineExceeded
	case flushMute:
		return
	}
	life := f.n.life
	f.n.s.after(after, func() {
		if f.n.life == life {
			f.n.handle(Flushed{ID: a.ID, Err: err})
		}
	})
}
