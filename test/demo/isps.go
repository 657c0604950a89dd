package main

import (
	"fmt"
	"time"

	"harouter/ha"
	"harouter/test/netlab"
	"harouter/test/site"
)

// ispDies: carrier stays and the gateway answers, but nothing gets through.
func (s *story) ispDies() ([]string, error) {
	client, err := s.traffic()
	if err != nil {
		return nil, err
	}
	at := s.Mark("dead")
	s.times.cause(at, "ISP dsl dies behind its gateway", "r1")
	if err := s.BlackholeBeyond("dsl"); err != nil {
		return nil, err
	}
	s.screen.Doing("probing")
	out, err := s.verdict("down")
	if err != nil {
		return nil, err
	}
	r, err := s.afterwards(client)
	if err != nil {
		return nil, err
	}
	again, ok := r.FreshAgain("dead")
	healthy, dead := r.On("cable", "dead"), r.On("dsl", "dead")
	gap, silent, moved := longest(healthy, at), longest(dead, at), 0
	for _, f := range dead {
		if s.ISPOf(f.Source().Addr()) == "cable" {
			moved++
		}
	}
	failed, noise := r.FreshFailedSince("dead"), r.Lag+r.StallSince("dead")
	s.times.effect(out, "dsl is out of the pool", "r1",
		"new connections work again after "+span(again)+fmt.Sprintf(" (%d failed)", failed),
		fmt.Sprintf("%d flows on cable: longest gap %s", len(healthy), span(gap)),
		fmt.Sprintf("%d flows on dsl: %d moved, longest gap %s", len(dead), moved, span(silent)))
	s.promise(ok && again <= silenceBound+noise, "new connections did not work again within %s", span(silenceBound))
	s.promise(gap <= healthyBound+noise, "flows on the healthy ISP had a gap of %s", span(gap))
	s.promise(moved == len(dead), "%d of %d flows of the dead ISP did not move", len(dead)-moved, len(dead))
	s.promise(s.Watch().Moves(site.LANAddress, at) == 0, "the role moved")
	return []string{
		fmt.Sprintf("dsl is out of the pool after %s; new connections work again after %s", span(out.Sub(at)), span(again)),
		fmt.Sprintf("longest gap of the flows on cable %s, of those on dsl %s", span(gap), span(silent)),
	}, nil
}

// ispReturns: it is back in the pool after some good rounds of probes.
func (s *story) ispReturns() ([]string, error) {
	client, err := s.traffic()
	if err != nil {
		return nil, err
	}
	at := s.Mark("mended")
	s.times.cause(at, "ISP dsl works again", "r1")
	if err := s.Restore("dsl"); err != nil {
		return nil, err
	}
	s.screen.Doing("probing")
	in, err := s.verdict("up")
	if err != nil {
		return nil, err
	}
	r, err := s.afterwards(client)
	if err != nil {
		return nil, err
	}
	by, failed := r.FreshByISP(in, 0), r.FreshFailedSince("mended")
	gap := r.GapSince("mended")
	s.times.effect(in, "dsl is back in the pool", "r1",
		fmt.Sprintf("new: %d by cable, %d by dsl", by["cable"], by["dsl"]),
		fmt.Sprintf("%d failed; longest gap %s", failed, span(gap)))
	s.promise(by["dsl"] > 0, "no new connection goes by dsl")
	s.promise(failed == 0, "%d new connections failed", failed)
	s.promise(gap <= healthyBound+r.Lag+r.StallSince("mended"), "flows that run had a gap of %s", span(gap))
	return []string{fmt.Sprintf("back in the pool after %s; of the new connections %d by cable, %d by dsl",
		span(in.Sub(at)), by["cable"], by["dsl"]), fmt.Sprintf("longest gap of the flows that run: %s", span(gap))}, nil
}

// verdict waits until r1 says that of dsl, and has drawn the consequence; it
// returns since when, by r1's own word.
func (s *story) verdict(state string) (netlab.Instant, error) {
	var since netlab.Instant
	err := s.Wait("dsl is "+state, "r1", 5*time.Second, func(st ha.Status) bool {
		for _, u := range st.Uplinks {
			if u.Name == "dsl" && u.Since != nil && u.State.String() == state {
				since = netlab.Now().Add(-time.Since(*u.Since))
				return (u.Share > 0) == (state == "up")
			}
		}
		return false
	})
	return since, err
}

// longest is the longest gap of the flows since a moment.
func longest(flows []netlab.Flow, since netlab.Instant) time.Duration {
	var gap time.Duration
	for _, f := range flows {
		gap = max(gap, f.Gap(since, 0))
	}
	return gap
}
