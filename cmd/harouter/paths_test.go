package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"harouter/ha/gossip"
)

func TestBrokenPaths(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	path := func(peer, local, remote string, ago time.Duration) gossip.Path {
		p := gossip.Path{Peer: peer, Local: netip.MustParseAddr(local), Remote: netip.MustParseAddr(remote)}
		if ago >= 0 {
			p.Heard = now.Add(-ago)
		}
		return p
	}
	const never = -1
	for name, c := range map[string]struct {
		paths []gossip.Path
		want  map[string]string
	}{
		"none":           {nil, map[string]string{}},
		"all are heard":  {[]gossip.Path{path("r2", "192.0.2.1", "192.0.2.2", 0), path("r2", "10.0.0.1", "10.0.0.2", pathQuiet)}, map[string]string{}},
		"the only one":   {[]gossip.Path{path("r2", "192.0.2.1", "192.0.2.2", time.Hour)}, map[string]string{}},
		"a dead node":    {[]gossip.Path{path("r2", "192.0.2.1", "192.0.2.2", 2*time.Second), path("r2", "10.0.0.1", "10.0.0.2", never)}, map[string]string{}},
		"of another one": {[]gossip.Path{path("r2", "192.0.2.1", "192.0.2.2", time.Hour), path("r3", "192.0.2.1", "192.0.2.3", 0)}, map[string]string{}},
		"one is silent": {[]gossip.Path{path("r2", "192.0.2.1", "192.0.2.2", pathQuiet+1), path("r2", "10.0.0.1", "10.0.0.2", 0)}, map[string]string{
			"r2": "r2 is not heard from 192.0.2.1 to 192.0.2.2, only from 10.0.0.1 to 10.0.0.2: look at the cable, the switch and the addresses there",
		}},
		"one never spoke": {[]gossip.Path{path("r2", "192.0.2.1", "192.0.2.2", 0), path("r2", "10.0.0.1", "10.0.0.2", never)}, map[string]string{
			"r2": "r2 is not heard from 10.0.0.1 to 10.0.0.2, only from 192.0.2.1 to 192.0.2.2: look at the cable, the switch and the addresses there",
		}},
	} {
		if d := cmp.Diff(c.want, broken(c.paths, now)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestLookAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	heard := func(ago ...time.Duration) (all []gossip.Path) {
		for _, d := range ago {
			all = append(all, gossip.Path{Heard: now.Add(-d)})
		}
		return all
	}
	for name, c := range map[string]struct {
		paths []gossip.Path
		want  time.Duration
	}{
		"none":                {nil, pathQuiet + time.Millisecond},
		"the one heard first": {heard(100*time.Millisecond, 300*time.Millisecond), pathQuiet - 299*time.Millisecond},
		"silent as of now":    {heard(0, pathQuiet), pathsSoon},
		"silent for long":     {heard(0, time.Hour), pathsSoon},
		"one was never heard": {append(heard(0), gossip.Path{}), pathsSoon},
		"on the point of it":  {heard(pathQuiet - time.Nanosecond), time.Millisecond + time.Nanosecond},
		"the clock is reset":  {heard(-time.Hour), pathQuiet + time.Millisecond},
	} {
		if got := lookAgain(c.paths, now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
