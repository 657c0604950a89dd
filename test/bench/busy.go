package main

import (
	"errors"
	"fmt"
	"time"

	"harouter/test/netlab"
)

const (
	busyFor = 20 * time.Second
	busyMiB = 1024
)

var busyBench = bench{
	name: "busy", title: fmt.Sprintf("false takeovers: nothing fails for %v while both processors are wanted by others, and a hog writes %d MiB again and again", busyFor, busyMiB),
	peer: "keepalived+conntrackd",
	notes: []string{
		"takeovers: how often a router got the LAN's address. stall: for how long the machine itself stood still, for which nobody here can do anything.",
	},
	run: func(l *lab) error {
		var failed error
		for i := range l.runs {
			for _, advertise := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond} {
				for side, build := range []func(time.Duration) (pair, error){newOurPair, newTheirPair} {
					name := [2]string{"harouter", "keepalived"}[side]
					l.tell("run %d of %d, %s at %v", i+1, l.runs, name, advertise)
					if err := busy(l, Side(side), advertise, build); err != nil {
						failed = errors.Join(failed, fmt.Errorf("%s, run %d: %w", name, i+1, err))
					}
				}
			}
		}
		return failed
	},
}

func busy(l *lab, side Side, advertise time.Duration, build func(time.Duration) (pair, error)) error {
	p, err := build(advertise)
	if err != nil {
		return err
	}
	s := p.lab()
	err = errors.Join(p.start("r1", "r2"), p.settled())
	if err == nil {
		_, err = s.Host("h1").Disturb(busyMiB)
	}
	if err == nil {
		var o outcome
		from := netlab.Now()
		o, err = strike(s, advertise, busyFor, func() error { return nil })
		if err == nil {
			at := fmt.Sprintf("at %v: ", advertise)
			l.row(at+"takeovers", "").Aim(0).Add(side, float64(s.Watch().Moves(virtual[0], from)), o.noise)
			l.row(at+"two holders at once", "ms").Aim(0).Add(side, ms(o.double), o.noise)
			l.row(at+"silence", "ms").Add(side, ms(o.silence), o.noise)
			l.row(at+"packets lost", "").Add(side, float64(o.lost), o.noise)
			l.row(at+"connections broken", "").Add(side, float64(o.dead+o.refused), o.noise)
		}
	}
	return errors.Join(err, s.Close())
}
