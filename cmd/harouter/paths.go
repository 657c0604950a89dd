package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"harouter/ha"
	"harouter/ha/gossip"
)

// paths tells of nodes that have several ways to each other and are heard over
// a part of them only: the rest of the cluster's talk depends on what is left.
type paths struct{ d *daemon }

func (p paths) String() string { return "paths" }

const (
	pathsSoon = 250 * time.Millisecond // while one is silent, or not heard yet
	pathQuiet = time.Second            // each is heard several times in this while it works
)

func (p paths) Run(ctx context.Context) error {
	t := time.NewTimer(0)
	defer t.Stop()
	told, before := map[string]string{}, map[string]string{}
	for {
		all, at := p.d.gossip.Paths(), time.Now()
		t.Reset(lookAgain(all, at))
		now := broken(all, at)
		for peer, text := range now {
			// Twice in a row: after a time in which this process stood still, what
			// waits in one socket is read before what waits in the other.
			if before[peer] == text && told[peer] != text {
				p.tell(peer, text)
				told[peer] = text
			}
		}
		for peer := range told {
			if now[peer] == "" {
				p.tell(peer, "")
				delete(told, peer)
			}
		}
		before = now
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// lookAgain is when the first path that is heard now may count as silent.
func lookAgain(all []gossip.Path, now time.Time) time.Duration {
	wait := pathQuiet
	for _, p := range all {
		wait = min(wait, p.Heard.Add(pathQuiet).Sub(now))
	}
	if wait <= 0 {
		return pathsSoon
	}
	return wait + time.Millisecond
}

func (p paths) tell(peer, text string) {
	p.d.loop.Post(ha.Condition{Code: ha.AlarmOneWitness, Subject: peer, Text: text, On: text != ""})
}

// broken says, by node, which ways to it are silent while another is not. A
// node that is not heard at all is another matter.
func broken(all []gossip.Path, now time.Time) map[string]string {
	silent, heard := map[string][]string{}, map[string][]string{}
	for _, p := range all {
		way := fmt.Sprintf("%v to %v", p.Local, p.Remote)
		if now.Sub(p.Heard) > pathQuiet {
			silent[p.Peer] = append(silent[p.Peer], way)
		} else {
			heard[p.Peer] = append(heard[p.Peer], way)
		}
	}
	out := map[string]string{}
	for peer, ways := range silent {
		if len(heard[peer]) > 0 {
			out[peer] = fmt.Sprintf("%s is not heard from %s, only from %s: look at the cable, the switch and the addresses there",
				peer, strings.Join(ways, " and "), strings.Join(heard[peer], " and "))
		}
	}
	return out
}
