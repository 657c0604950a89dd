package replica

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"harouter/conntracksync"
)

// Status is what is shown of the replication.
type Status struct {
	Peers []Peer
	// Dropped is what was not taken, by reason: table_size, protocol, sender and
	// unknown of the Table, refused flows and failed writes of the kernel, and
	// overruns of its events, which were mended.
	Dropped map[string]uint64
}

// Peer is the replication with one node.
type Peer struct {
	Node  string
	State conntracksync.PeerState
	// Lag is the age of what the node has still to handle; nil without a
	// session.
	Lag *time.Duration
	// Here is how many flows this node has, There how many of them the other
	// one has as far as is known.
	Here, There int
	// Progress is the share, 0 to 1, that is done of a sync; nil if none is
	// under way.
	Progress *float64
	// Resyncs counts the syncs that a difference made necessary, this node's
	// asking only.
	Resyncs int
	// Dropped counts what began the session anew: overflow, garbage, version.
	Dropped map[string]uint64
}

// Status asks for the state of things. It waits while the connection table is
// written, at most until ctx ends.
func (r *Replica) Status(ctx context.Context) (Status, error) {
	answer := make(chan Status, 1)
	if err := r.tell(ctx, r.ask, func(o *owner) { answer <- o.status() }); err != nil {
		return Status{}, err
	}
	return <-answer, nil
}

func (o *owner) status() Status {
	s := Status{Dropped: maps.Clone(o.dropped)}
	if o.table == nil || !o.settings.Enabled {
		return s
	}
	for reason, n := range o.table.Drops() {
		s.Dropped[reason] += uint64(n)
	}
	_, all := o.table.Len()
	for _, p := range o.table.Peers() {
		shown := Peer{
			Node: p.Node, State: p.State, Here: all, There: p.Here, Resyncs: p.Resyncs,
			Dropped: maps.Clone(o.lost[p.Node]),
		}
		if p.State == conntracksync.Synced {
			shown.There += o.table.Told()
		}
		if p.State == conntracksync.Syncing {
			shown.Progress = &p.Progress
		}
		if d, ok := o.cfg.Sessions.Behind(p.Node); ok {
			shown.Lag = &d
		}
		s.Peers = append(s.Peers, shown)
	}
	slices.SortFunc(s.Peers, func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
	return s
}
