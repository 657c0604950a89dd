package events

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Digest tells which events a node holds, by the node that recorded them.
type Digest map[string]Runs

// Runs are the numbers that are held, as runs without a gap from the first to
// the last, in order. A node's numbers have a gap at each of its restarts. What
// was held and has been dropped for its age counts as held.
type Runs [][2]uint64

// Bounds of the runs in a digest, of one node and of all: it has to fit into a
// message. What lies before the newest of them counts as held.
const maxRuns, maxRunsOfAll = 32, 320

// has tells whether seq is held.
func (r Runs) has(seq uint64) bool {
	i, exact := r.find(seq)
	return exact || i > 0 && r[i-1][1] >= seq
}

// find returns the first run that does not begin before seq.
func (r Runs) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(r, seq, func(run [2]uint64, s uint64) int { return cmp.Compare(run[0], s) })
}

// with returns the runs with seq in them; r must not be used any more.
func (r Runs) with(seq uint64) Runs {
	if r.has(seq) {
		return r
	}
	i, _ := r.find(seq)
	before := i > 0 && r[i-1][1]+1 == seq
	after := i < len(r) && seq+1 == r[i][0]
	switch {
	case before && after:
		r[i-1][1] = r[i][1]
		return slices.Delete(r, i, i+1)
	case before:
		r[i-1][1] = seq
	case after:
		r[i][0] = seq
	default:
		return slices.Insert(r, i, [2]uint64{seq, seq})
	}
	return r
}

// add takes an event into the digest.
func (d Digest) add(e Event) { d[e.Node] = d[e.Node].with(e.Seq) }

// check refuses a digest that no node of ours can have made.
func (d Digest) check() error {
	if len(d) > maxNodes {
		return fmt.Errorf("a digest names %d nodes, %d at most are expected", len(d), maxNodes)
	}
	for node, runs := range d {
		if node == "" || len(node) > maxNode || !utf8.ValidString(node) || len(runs) > maxRuns {
			return fmt.Errorf("a digest has %d runs of the node %.40q", len(runs), node)
		}
		for i, r := range runs {
			if r[0] > r[1] || r[1] >= maxSeq || i > 0 && r[0] <= runs[i-1][1] {
				return errors.New("a digest's runs are out of order")
			}
		}
	}
	return nil
}
